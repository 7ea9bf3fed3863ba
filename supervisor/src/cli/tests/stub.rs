//! A machine that answers what a test tells it to, in the very bytes.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

pub(super) struct Stub {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Answers by method and target; everything else is 404.
    pub(super) fn new(answers: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let answers: Vec<(String, String)> = answers.iter().map(|(t, a)| ((*t).to_owned(), a.clone())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        // Ends with the process: a test does not wait for it.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let mut reader = BufReader::new(&stream);
                let mut first = String::new();
                let mut line = String::new();
                let _ = reader.read_line(&mut first);
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                let call = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
                let found = answers.iter().find(|(target, _)| *target == call).map(|(_, answer)| answer.clone());
                let answer = found.unwrap_or_else(|| problem(404, &format!("no such thing: {call}")));
                seen.lock().unwrap().push(call);
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { folder, asked }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

pub(super) fn json(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

pub(super) fn problem(status: u16, detail: &str) -> String {
    let text = format!(r#"{{"type":"about:blank","title":"t","status":{status},"detail":"{detail}"}}"#);
    let head = format!("HTTP/1.1 {status} Problem\r\nContent-Type: application/problem+json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{text}", text.len())
}

/// In chunks of a few bytes, so that no reader can rely on lines and chunks being the same.
pub(super) fn chunked(text: &str) -> String {
    let mut answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for part in text.as_bytes().chunks(7) {
        answer.push_str(&format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()));
    }
    answer.push_str("0\r\n\r\n");
    answer
}
