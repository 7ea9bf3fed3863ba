//! All that a unit's file and its drop-ins set, key by key, checked against the table of keys.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    Problem, UnitName,
    keys::{self, Guess, Key, Status},
    specifier,
    syntax::{Assignment, Document},
    text::{Fault, Text},
    words::{self, Word},
};

pub(super) struct Sheet {
    pub(super) unit: UnitName,
    problems: Vec<Problem>,
    values: BTreeMap<(&'static str, &'static str), Vec<Rc<Text>>>,
    /// Header of the first `[Container]`.
    container: Option<Text>,
    #[cfg(test)]
    pub(super) asked: std::collections::BTreeSet<(&'static str, &'static str)>,
}

const MAX_PROBLEMS: usize = 100;

impl Sheet {
    /// The unit's file first, its drop-ins in their order.
    pub(super) fn new(unit: UnitName, documents: Vec<Document>) -> Self {
        let mut sheet = Self {
            unit,
            problems: Vec::new(),
            values: BTreeMap::new(),
            container: None,
            #[cfg(test)]
            asked: std::collections::BTreeSet::new(),
        };
        for mut document in documents {
            for problem in document.problems.drain(..) {
                sheet.push(problem);
            }
            for section in &document.sections {
                sheet.section(section);
            }
            for assignment in &document.assignments {
                sheet.assign(assignment);
            }
        }
        sheet
    }

    /// A file that is wrong from end to end is not worth more than a first page of reasons; each costs a walk along its line.
    fn push(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else if self.problems.len() == MAX_PROBLEMS {
            self.problems.push(Problem { text: "more mistakes follow".to_owned(), ..problem });
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn warning(&mut self, value: &Text, text: impl Into<String>) {
        self.push(value.warning(&value.whole(), text));
    }

    fn section(&mut self, section: &Text) {
        let name = section.text.as_str();
        if name == "Container" && self.container.is_none() {
            self.container = Some(section.clone());
        }
        if keys::is_section(name) || name.starts_with("X-") {
            return;
        }
        let text = if keys::OTHER_SECTIONS.contains(&name) {
            format!("[{name}] has no place in a .container file")
        } else {
            let guess = keys::nearest_section(name).map_or(String::new(), |near| format!("; did you mean [{near}]?"));
            format!("unknown section [{name}]{guess}; sections of your own begin with X-")
        };
        self.push(section.error(&section.whole(), text));
    }

    fn assign(&mut self, assignment: &Assignment) {
        let section = assignment.section.text.as_str();
        let (key, value) = (&assignment.key, &assignment.value);
        let name = key.text.as_str();
        // Unknown sections are reported once, at their header.
        if !keys::is_section(section) || name.starts_with("X-") {
            return;
        }
        let Some(Key { section, name, status }) = keys::find(section, name) else {
            let text = match keys::guess(section, name) {
                Guess::Section(other) => format!("{name}= belongs in [{other}], this is [{section}]"),
                Guess::Name(near) => format!("unknown key {name}= in [{section}]; did you mean {near}=?"),
                Guess::Nothing => format!("unknown key {name}= in [{section}]; keys of your own begin with X-"),
            };
            return self.push(key.error(&key.whole(), text));
        };
        // Nothing is asked for by an empty assignment, it takes back what came before.
        if value.text.is_empty() {
            self.values.remove(&(section, name));
            return;
        }
        match status {
            Status::Supported => match self.expand(value) {
                Ok(value) => self.values.entry((section, name)).or_default().push(Rc::new(value)),
                Err(fault) => self.fault(value, &fault),
            },
            Status::Inert(_) => {}
            Status::Only(values) if values.iter().any(|v| v.eq_ignore_ascii_case(&value.text)) => {}
            Status::Only(values) => {
                let text = format!(
                    "{name}={}: known, not available in this version; it can be {}",
                    value.text,
                    values.join(", ")
                );
                self.push(value.error(&value.whole(), text));
            }
            Status::NotYet(hint) => {
                let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
                self.problems
                    .push(key.error(&key.whole(), format!("{name}=: known, not available in this version{hint}")));
            }
            Status::Refused(why) => {
                self.push(key.error(&key.whole(), format!("{name}= cannot be honoured here: {why}")));
            }
        }
    }

    fn expand(&mut self, value: &Text) -> Result<Text, Fault> {
        let mut strange = Vec::new();
        let expanded = specifier::expand(value, &self.unit, &mut strange);
        for fault in strange {
            self.push(value.warning(&fault.range, fault.text));
        }
        expanded
    }

    fn fault(&mut self, value: &Text, fault: &Fault) {
        self.push(value.error(&fault.range, fault.text.clone()));
    }

    pub(super) fn error(&mut self, value: &Text, text: impl Into<String>) {
        self.push(value.error(&value.whole(), text));
    }

    pub(super) fn error_at(&mut self, value: &Text, word: &Word, text: impl Into<String>) {
        self.push(value.error(&word.range, text));
    }

    /// For what is missing: at the header of `[Container]`, or at the file as a whole.
    pub(super) fn missing(&mut self, path: &std::path::Path, text: &str) {
        let problem = match &self.container {
            Some(header) => header.error(&header.whole(), text),
            None => Problem {
                path: path.to_path_buf(),
                place: super::Place::default(),
                severity: super::Severity::Error,
                text: text.to_owned(),
            },
        };
        self.push(problem);
    }

    pub(super) fn has_container(&self) -> bool {
        self.container.is_some()
    }

    /// Every value since the last empty assignment.
    pub(super) fn all(&mut self, section: &'static str, name: &'static str) -> Vec<Rc<Text>> {
        #[cfg(test)]
        self.asked.insert((section, name));
        self.values.get(&(section, name)).cloned().unwrap_or_default()
    }

    /// The last value: it replaces those before it.
    pub(super) fn last(&mut self, section: &'static str, name: &'static str) -> Option<Rc<Text>> {
        let value = self.all(section, name).pop()?;
        // Quadlet takes one pair of quotes around a whole value away, systemd does not.
        let quoted =
            section == "Container" && value.text.len() >= 2 && value.text.starts_with('"') && value.text.ends_with('"');
        Some(if quoted { Rc::new(value.slice(1..value.text.len() - 1)) } else { value })
    }

    /// The last value in its own language; a mistake in it is reported.
    pub(super) fn read<T, E: Into<String>>(
        &mut self,
        section: &'static str,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.last(section, name)?;
        if value.text.is_empty() {
            return None;
        }
        match read(&value.text) {
            Ok(read) => Some(read),
            Err(text) => {
                self.error(&value, format!("{name}={}: {}", value.text, text.into()));
                None
            }
        }
    }

    /// The words of a value; escapes nobody knows are warned about, a quote that is not closed is an error.
    pub(super) fn words(&mut self, value: &Text) -> Vec<Word> {
        match words::split(&value.text) {
            Ok(found) => {
                for warning in found.warnings {
                    self.push(value.warning(&warning.range, warning.text));
                }
                found.words
            }
            Err(fault) => {
                self.fault(value, &fault);
                Vec::new()
            }
        }
    }

    /// The words of all values of a key, each with the value it stands in.
    pub(super) fn all_words(&mut self, section: &'static str, name: &'static str) -> Vec<(Rc<Text>, Word)> {
        let mut all = Vec::new();
        for value in self.all(section, name) {
            all.extend(self.words(&value).into_iter().map(|word| (Rc::clone(&value), word)));
        }
        all
    }
}
