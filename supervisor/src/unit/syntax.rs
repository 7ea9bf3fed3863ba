//! systemd.syntax(7): sections, assignments, comments, continued lines. Knows no key.

use std::{path::Path, rc::Rc};

use super::{Place, Problem, Said, Severity, text::Text};

#[derive(Debug, Clone)]
pub(super) struct Assignment {
    /// With its place, which is that of the section's name in its header.
    pub(super) section: Rc<Text>,
    pub(super) key: Text,
    /// Shared by all units that a drop-in or template is read for.
    pub(super) value: Rc<Text>,
}

/// A file's assignments in their order, and the sections it opened (an empty section counts).
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) sections: Vec<Rc<Text>>,
    pub(super) assignments: Vec<Assignment>,
    pub(super) problems: Vec<Problem>,
}

const WHITE: [char; 3] = [' ', '\t', '\r'];

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Document {
    // Lines are some thirty bytes long: one allocation for most files.
    let document = Document { assignments: Vec::with_capacity(bytes.len() / 32), ..Document::default() };
    let mut reader = Reader { file: Rc::from(path), document, section: None, pending: None };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(text) => reader.line(number, text),
            Err(error) => {
                let good = std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or("");
                reader.report(number, good, Severity::Error, "the file is not UTF-8 text here; write \\x… for a byte");
                reader.pending = None;
            }
        }
    }
    reader.finish();
    reader.document
}

struct Reader {
    file: Rc<Path>,
    document: Document,
    section: Option<Rc<Text>>,
    /// A line that goes on in the next one.
    pending: Option<Text>,
}

impl Reader {
    fn line(&mut self, number: u32, line: &str) {
        let content = line.trim_start_matches(WHITE);
        // A comment inside a continued line is left out, and the line goes on behind it.
        if content.starts_with(['#', ';']) {
            return;
        }
        if let Some(at) = line.find('\0') {
            return self.report(number, &line[..at], Severity::Error, "a unit file has no NUL characters");
        }
        let indent = &line[..line.len() - content.len()];
        let column = u32::try_from(indent.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        let stripped = content.trim_end_matches(WHITE);
        let continued = trailing_backslashes(stripped) % 2 == 1;
        if continued && stripped.len() < content.len() {
            let before = &line[..indent.len() + stripped.len() - 1];
            // Podman goes on behind it, systemd does not; what Podman runs, runs here.
            let text =
                "white space follows the backslash; the line is continued, as Podman does, but systemd would not";
            self.report(number, before, Severity::Warning, text);
        }
        let mut text = self.pending.take().unwrap_or_else(|| Text::new(Rc::clone(&self.file)));
        if continued {
            text.push(&stripped[..stripped.len() - 1], number, column);
            text.push(" ", number, column.saturating_add(u32::try_from(stripped.chars().count()).unwrap_or(0)));
            self.pending = Some(text);
        } else {
            text.push(content, number, column);
            self.logical(&text);
        }
    }

    fn finish(&mut self) {
        if let Some(text) = self.pending.take() {
            self.logical(&text);
        }
    }

    fn logical(&mut self, line: &Text) {
        let end = line.text.trim_end().len();
        let start = line.text.len() - line.text.trim_start().len();
        if start >= end {
            return;
        }
        let text = &line.text[start..end];
        if text.starts_with('[') {
            return self.header(&line.slice(start..end));
        }
        let Some(equals) = text.find('=').map(|at| start + at) else {
            let text = "neither a [Section], a comment nor Key=value; a line that goes on needs a backslash at its end";
            return self.document.problems.push(line.error(&(start..end), text));
        };
        let key = line.trimmed(start..equals);
        if key.text.is_empty() {
            return self
                .document
                .problems
                .push(line.error(&(start..start + 1), "the name of a key is missing before ="));
        }
        let value = Rc::new(line.trimmed(equals + 1..end));
        match &self.section {
            Some(section) => self.document.assignments.push(Assignment { section: Rc::clone(section), key, value }),
            None => {
                let text =
                    format!("{}= stands before the first section; write [Container] or another above it", key.text);
                self.document.problems.push(key.error(&key.whole(), Said::from(text).offering("[Container]")));
            }
        }
    }

    fn header(&mut self, line: &Text) {
        let name = line.text.strip_prefix('[').and_then(|s| s.strip_suffix(']'));
        match name {
            Some(name) if !name.is_empty() && !name.contains(['[', ']']) && !name.contains(char::is_control) => {
                let section = Rc::new(line.slice(1..line.text.len() - 1));
                self.document.sections.push(Rc::clone(&section));
                self.section = Some(section);
            }
            _ => {
                let text = "a section's header is one [Name] on a line of its own";
                self.document.problems.push(line.error(&line.whole(), text));
                // What follows belongs to a section nobody can name: reported once, here.
                self.section = Some(Rc::new(line.slice(0..0)));
            }
        }
    }

    fn report(&mut self, line: u32, before: &str, severity: Severity, text: &'static str) {
        let Said { text, suggestion } = text.into();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        self.document.problems.push(Problem {
            path: self.file.to_path_buf(),
            place: Place { line, column, width: 1 },
            severity,
            text,
            suggestion,
        });
    }
}

fn trailing_backslashes(line: &str) -> usize {
    line.len() - line.trim_end_matches('\\').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        parse(Path::new("u"), text.as_bytes())
    }

    fn pairs(document: &Document) -> Vec<(String, String, String)> {
        let of = |a: &Assignment| (a.section.text.clone(), a.key.text.clone(), a.value.text.clone());
        document.assignments.iter().map(of).collect()
    }

    #[test]
    fn the_example_of_the_manual() {
        let document = read(
            "[Section A]\nKeyOne=value 1\nKeyTwo=value 2\n\n# a comment\n\n[Section B]\nSetting=\"something\" \"some thing\" \"...\"\n\
             KeyTwo=value 2 \\\n       value 2 continued\n\n[Section C]\nKeyThree=value 3\\\n# this line is ignored\n; this line is ignored too\n       value 3 continued\n",
        );
        assert_eq!(document.problems, []);
        let pairs = pairs(&document);
        assert_eq!(pairs[2].2, "\"something\" \"some thing\" \"...\"");
        assert_eq!(pairs[3].2, "value 2  value 2 continued");
        assert_eq!(pairs[4], ("Section C".into(), "KeyThree".into(), "value 3 value 3 continued".into()));
    }

    #[test]
    fn bom_crlf_tabs_and_spaces_do_not_matter() {
        let document = read("\u{feff}[A]\r\n\tKey \t= \tvalue \t\r\n  # note\r\nOther=a\\\r\n b\r\n");
        assert_eq!(document.problems, []);
        assert_eq!(pairs(&document)[0].1, "Key");
        assert_eq!(pairs(&document)[0].2, "value");
        assert_eq!(pairs(&document)[1].2, "a b");
        assert_eq!(document.assignments[0].value.place(&(0..5)), Place { line: 2, column: 10, width: 5 });
    }

    #[test]
    fn an_escaped_backslash_does_not_continue_a_line() {
        let document = read("[A]\nA=x\\\\\nB=y\n");
        assert_eq!(pairs(&document)[0].2, "x\\\\");
        assert_eq!(pairs(&document)[1].2, "y");
    }

    #[test]
    fn a_blank_line_ends_a_continued_one() {
        let document = read("[A]\nA=x \\\n\nB=y\n");
        assert_eq!(pairs(&document).len(), 2);
        assert_eq!(pairs(&document)[0].2, "x");
    }

    /// The shapes that systemd's own tests of its reader have.
    #[test]
    fn what_continues_a_line_and_what_does_not() {
        let values = |text: &str| pairs(&read(text)).into_iter().map(|(_, _, value)| value).collect::<Vec<_>>();
        // A comment is one line, whatever it ends in, before a value and within it.
        assert_eq!(values("[A]\n#note\\\nA=x\\\ny\\\nz\n"), ["x y z"]);
        assert_eq!(values("[A]\n \tA=x\\\n  ;note\\\ny\\\nz\n"), ["x y z"]);
        // What is continued at the end of the file has nothing behind it.
        assert_eq!(values("[A]\nA=x\\\ny\\\nz\\\n"), ["x y z"]);
        assert_eq!(values("[A]\nA=x\\\n"), ["x"]);
        // A blank line ends the value, and the next line is an assignment again.
        assert_eq!(values("[A]\n[A]\nA=x\nA=y\\\n   \nA=z\n"), ["x", "y", "z"]);
        // Three backslashes are an escaped one and a continuation.
        assert_eq!(values("[A]\nA=x\\\\\\\n\\\\y\n"), ["x\\\\ \\\\y"]);
        assert_eq!(values("\n\n[A]\n\n\nA=    x \t"), ["x"]);
        let long = "abcd".repeat(1000);
        assert_eq!(values(&format!("[A]\nA={long}\\\nfoo\\\n")), [format!("{long} foo")]);
    }

    #[test]
    fn the_last_line_may_lack_its_end() {
        assert_eq!(pairs(&read("[A]\nA=x \\"))[0].2, "x");
        assert_eq!(pairs(&read("[A]\nA="))[0].2, "");
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let document = parse(Path::new("u"), b"Early=1\n[A\nB\n=x\n[A]\nC=a\xffb\nD=a\0b\nE=x \\ \nF=1\n");
        let shown: Vec<String> = document.problems.iter().map(ToString::to_string).collect();
        let places = ["u:1:1", "u:2:1", "u:3:1", "u:4:1", "u:6:4", "u:7:4", "u:8:5"];
        assert_eq!(shown.len(), places.len(), "{shown:#?}");
        for (shown, place) in shown.iter().zip(places) {
            assert!(shown.starts_with(&format!("{place}: ")), "{shown} at {place}");
        }
    }

    #[test]
    fn an_empty_file_is_empty() {
        assert!(read("").assignments.is_empty());
        assert!(read("\n\n# x\n").problems.is_empty());
    }
}
