//! Where messages go: one line on stderr, and to the file of `--log` in the form engines parse.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::runtime::error::{Result, Step as _};
use crate::runtime::json::Writer;
use crate::runtime::time;

#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) file: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) debug: bool,
}

impl Log {
    pub(crate) fn error(&self, message: &str) {
        let message = &one_line(message);
        // A person reads stderr; should it be closed, there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "orlop-oci: {message}");
        self.to_file("error", message);
    }

    pub(crate) fn warn(&self, message: &str) {
        let message = &one_line(message);
        if self.file.is_none() {
            let _ = writeln!(std::io::stderr(), "orlop-oci: warning: {message}");
        }
        self.to_file("warning", message);
    }

    /// A warning about what costs nothing. stderr is the container's as well: without a file it is there for a person only.
    pub(crate) fn remark(&self, message: &str) {
        if self.file.is_some() || self.debug || std::io::stderr().is_terminal() {
            self.warn(message);
        }
    }

    /// With `--debug`: on stderr, in the form of the file, unless there is one.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug && self.file.is_none() {
            let _ = std::io::stderr().write_all(self.line("debug", message, &time::now()).as_bytes());
        } else if self.debug {
            self.to_file("debug", message);
        }
    }

    /// Whether the file can be written: whoever asks for one reads nothing else.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        Log::open(path).map(drop).step("open the file of --log,", path.display())
    }

    fn open(path: &Path) -> std::io::Result<File> {
        File::options().append(true).create(true).open(path)
    }

    fn to_file(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let line = self.line(level, message, &time::now());
        let file = Log::open(path);
        // The message is on stderr as well; that the log cannot be written is no reason to fail a container.
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }

    fn line(&self, level: &str, message: &str, time: &str) -> String {
        let mut w = Writer::new();
        if self.json {
            w.open('{').name("level").string(level).name("msg").string(message).name("time").string(time).close('}');
            return w.finish() + "\n";
        }
        w.string(message);
        format!("time=\"{time}\" level={level} msg={}\n", w.finish())
    }
}

/// Messages quote what containers and engines wrote: nothing in them may start another line or drive a terminal.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(one_line("é\n\x1b[31m"), "é\\n\\u{1b}[31m");
    }

    #[test]
    fn both_forms() {
        let mut log = Log { json: true, ..Log::default() };
        let json = "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"T\"}\n";
        assert_eq!(log.line("error", "a \"b\"\n", "T"), json);
        log.json = false;
        assert_eq!(log.line("error", "a \"b\"", "T"), "time=\"T\" level=error msg=\"a \\\"b\\\"\"\n");
    }
}
