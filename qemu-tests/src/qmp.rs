//! QEMU's machine protocol (docs/interop/qmp-spec): one JSON object a line, answers in the order of the commands,
//! events in between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// QEMU answers at once unless it hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A control connection to one QEMU process.
pub struct Qmp {
    exchange: Mutex<Exchange>,
    listeners: Arc<Mutex<Listeners>>,
}

struct Exchange {
    writer: UnixStream,
    answers: Receiver<Value>,
}

#[derive(Default)]
struct Listeners {
    channels: Vec<Sender<Event>>,
    past: Vec<Event>,
    ended: bool,
}

/// Something QEMU tells of its own accord.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    #[error("send {command} to QEMU: {source}")]
    Send { command: String, source: std::io::Error },
    #[error("QEMU ended before it answered {command}")]
    Closed { command: String },
    #[error("QEMU did not answer {command} within {} s", ANSWER_LIMIT.as_secs())]
    NoAnswer { command: String },
    #[error("QEMU refused {command}: {answer}")]
    Refused { command: String, answer: String },
    #[error("no {event} event from QEMU within {:.1} s", after.as_secs_f32())]
    NoEvent { event: String, after: Duration },
}

impl Qmp {
    /// Takes over a connection QEMU has made, and enters its command mode.
    pub(crate) fn start(stream: UnixStream) -> Result<Self, QmpError> {
        let send_error = |source| QmpError::Send { command: "the handshake".into(), source };
        let reader = BufReader::new(stream.try_clone().map_err(send_error)?);
        let (answer, answers) = channel();
        let listeners = Arc::new(Mutex::new(Listeners::default()));
        let heard = Arc::clone(&listeners);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(name) = message["event"].as_str() {
                    let event = Event { name: name.to_owned(), data: message["data"].clone() };
                    lock(&heard).tell(&event);
                } else if message.get("QMP").is_none() && answer.send(message).is_err() {
                    return;
                }
            }
            // Dropping the senders tells every listener that QEMU has ended.
            let mut listeners = lock(&heard);
            listeners.channels.clear();
            listeners.ended = true;
        });
        let qmp = Self { exchange: Mutex::new(Exchange { writer: stream, answers }), listeners };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives what it returns.
    pub fn execute(&self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        let command = || command.to_owned();
        exchange.writer.write_all(line.as_bytes()).map_err(|source| QmpError::Send { command: command(), source })?;
        let mut answer = exchange.answers.recv_timeout(ANSWER_LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => QmpError::NoAnswer { command: command() },
            RecvTimeoutError::Disconnected => QmpError::Closed { command: command() },
        })?;
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(QmpError::Refused { command: command(), answer: answer["error"]["desc"].to_string() }),
        }
    }

    /// Runs a command of the human monitor, for the few things QMP has no word for.
    pub fn human(&self, line: &str) -> Result<String, QmpError> {
        let answer = self.execute("human-monitor-command", &json!({"command-line": line}))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Every event from the start of the connection on, past ones first; the channel closes when QEMU ends.
    pub fn events(&self) -> Receiver<Event> {
        let (sender, events) = channel();
        let mut listeners = lock(&self.listeners);
        for event in &listeners.past {
            let _ = sender.send(event.clone());
        }
        if !listeners.ended {
            listeners.channels.push(sender);
        }
        events
    }

    /// The first event since the connection began that `matches`.
    pub fn wait_event(&self, name: &str, limit: Duration, matches: impl Fn(&Event) -> bool) -> Result<Event, QmpError> {
        let (events, started) = (self.events(), Instant::now());
        while let Ok(event) = events.recv_timeout(limit.saturating_sub(started.elapsed())) {
            if event.name == name && matches(&event) {
                return Ok(event);
            }
        }
        Err(QmpError::NoEvent { event: name.to_owned(), after: started.elapsed() })
    }
}

impl Listeners {
    fn tell(&mut self, event: &Event) {
        self.channels.retain(|channel| channel.send(event.clone()).is_ok());
        // A control port opens and closes with every request; remembering that would grow without bound.
        if event.name != "VSERPORT_CHANGE" || self.past.len() < 256 {
            self.past.push(event.clone());
        }
    }
}

fn lock(listeners: &Mutex<Listeners>) -> std::sync::MutexGuard<'_, Listeners> {
    listeners.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripted(answers: &'static [&'static str]) -> Result<Qmp, QmpError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().unwrap()).lines();
            let mut theirs = theirs;
            theirs.write_all(b"{\"QMP\": {}}\n").unwrap();
            for answer in answers {
                commands.next();
                theirs.write_all(answer.as_bytes()).unwrap();
            }
        });
        Qmp::start(ours)
    }

    #[test]
    fn events_between_answers_go_to_listeners_and_are_kept_for_later_ones() {
        let qmp = scripted(&[
            "{\"return\": {}}\n",
            "{\"event\": \"RESET\", \"data\": {\"guest\": true}}\n{\"return\": {\"status\": \"running\"}}\n",
        ])
        .unwrap();
        assert_eq!(qmp.execute("query-status", &json!({})).unwrap()["status"], "running");
        let event = qmp.wait_event("RESET", Duration::from_secs(5), |_| true).unwrap();
        assert_eq!(event.data["guest"], true);
    }

    #[test]
    fn a_refusal_and_an_ended_qemu_are_errors() {
        let qmp = scripted(&["{\"return\": {}}\n", "{\"error\": {\"desc\": \"no such command\"}}\n"]).unwrap();
        assert!(qmp.execute("x", &json!({})).unwrap_err().to_string().contains("no such command"));
        assert!(qmp.execute("y", &json!({})).is_err());
    }
}
