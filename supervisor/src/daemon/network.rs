//! The host's interface is `net`'s business, in a thread; this is how the loop hears of it.

#[derive(Debug, Default)]
pub(crate) struct Network {
    started: bool,
}

impl Network {
    /// Once per life of the supervisor; `say(text, is_a_problem)` is called from the thread.
    pub(crate) fn start(&mut self, say: impl Fn(String, bool) + Send + 'static) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let _ = say;
    }
}
