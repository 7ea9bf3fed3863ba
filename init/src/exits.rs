//! The queue of exits: what PID 1 reaped and the supervisor has not dealt with yet.
//!
//! ```text
//!   push ──►  [ front … sent, not acknowledged … │ … not sent … back ]
//!                        handled(seq) ◄──┘       └──► next_unsent
//! ```
//! Bounded: when it is full the oldest is dropped and counted, so that a supervisor that never acknowledges costs
//! no memory. Allocated once, at start. Sequence numbers are contiguous, so a number is a place.

use std::collections::VecDeque;

use handoff::Exit;

pub(crate) struct ExitQueue {
    queue: VecDeque<Exit>,
    capacity: usize,
    next_seq: u64,
    send_from: u64,
    dropped: u64,
}

impl ExitQueue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::with_capacity(capacity), capacity, next_seq: 1, send_from: 1, dropped: 0 }
    }

    /// Appends an exit and gives it its number (the one inside is overwritten).
    pub(crate) fn push(&mut self, exit: Exit) {
        if self.queue.len() == self.capacity {
            self.queue.pop_front();
            self.dropped += 1;
        }
        self.queue.push_back(Exit { seq: self.next_seq, ..exit });
        self.next_seq += 1;
        self.send_from = self.send_from.max(self.front_seq());
    }

    fn front_seq(&self) -> u64 {
        self.queue.front().map_or(self.next_seq, |exit| exit.seq)
    }

    /// The oldest exit this supervisor was not told yet; [`Self::sent`] moves on.
    pub(crate) fn next_unsent(&self) -> Option<Exit> {
        let at = usize::try_from(self.send_from - self.front_seq()).ok()?;
        self.queue.get(at).copied()
    }

    pub(crate) fn sent(&mut self, seq: u64) {
        self.send_from = self.send_from.max(seq + 1);
    }

    /// Forgets every exit up to and with `seq`, as far as they were sent: nothing is lost by a wrong number.
    pub(crate) fn handled(&mut self, seq: u64) {
        while let Some(front) = self.queue.front()
            && front.seq <= seq
            && front.seq < self.send_from
        {
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            // Back to the buffer's start: a queue that stays short touches few pages of it.
            self.queue.clear();
        }
    }

    /// A new supervisor: everything not acknowledged is sent again.
    pub(crate) fn rewind(&mut self) {
        self.send_from = self.front_seq();
    }

    /// An exit that could not be recorded.
    pub(crate) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32) -> Exit {
        Exit { seq: 0, pid, start_ticks: 0, wait_status: 0, user_us: 0, system_us: 0, max_rss_kib: 0 }
    }

    fn send_all(queue: &mut ExitQueue) -> Vec<u32> {
        let mut pids = Vec::new();
        while let Some(exit) = queue.next_unsent() {
            pids.push(exit.pid);
            queue.sent(exit.seq);
        }
        pids
    }

    #[test]
    fn an_exit_stays_until_it_is_acknowledged() {
        let mut queue = ExitQueue::new(8);
        (1..=3).for_each(|pid| queue.push(exit(pid)));
        assert_eq!(send_all(&mut queue), [1, 2, 3]);
        queue.handled(2);
        queue.push(exit(4));
        assert_eq!(send_all(&mut queue), [4], "sent once to one supervisor");
        queue.rewind();
        assert_eq!(send_all(&mut queue), [3, 4], "the next supervisor gets what was not acknowledged");
        queue.handled(4);
        assert_eq!((queue.len(), queue.dropped()), (0, 0));
        queue.push(exit(5));
        assert_eq!(send_all(&mut queue), [5]);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_loses_nothing() {
        let mut queue = ExitQueue::new(8);
        (1..=3).for_each(|pid| queue.push(exit(pid)));
        let first = queue.next_unsent().unwrap();
        queue.sent(first.seq);
        queue.handled(u64::MAX);
        assert_eq!(send_all(&mut queue), [2, 3]);
    }

    #[test]
    fn when_full_the_oldest_goes_and_is_counted() {
        let mut queue = ExitQueue::new(3);
        (1..=10).for_each(|pid| queue.push(exit(pid)));
        assert_eq!((queue.len(), queue.dropped()), (3, 7));
        assert_eq!(send_all(&mut queue), [8, 9, 10]);
        // Drops among the sent ones do not move the place of the unsent ones.
        queue.push(exit(11));
        assert_eq!(send_all(&mut queue), [11]);
    }
}
