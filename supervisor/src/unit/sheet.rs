//! All that a unit's file and its drop-ins set, key by key, checked against the table of keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use super::{
    Origin, Problem, Said, Severity,
    build::inner_dollars,
    keys::{self, Guess, Honoured, Key, Reset, Status},
    kind::Kind,
    lists, podman_args,
    problem::form,
    source::whole,
    specifier::{self, Scope},
    syntax::{Assignment, Document},
    text::{Fault, Text},
    values,
    words::{self, Backslash, Word},
};

pub(super) struct Sheet<'a> {
    pub(super) scope: Scope<'a>,
    /// What this version does not honour is a mistake. Without it, the whole language is read.
    strict: bool,
    problems: Vec<Problem>,
    /// Values that are right and not honoured by this version, as far as nothing worse is found at their places.
    unavailable: Vec<Problem>,
    /// By key and section: names differ in their first letters, sections seldom do.
    values: BTreeMap<Name, Vec<Set>>,
    /// Values so far.
    count: u32,
    /// Header of the first section of the kind.
    main: Option<Text>,
    #[cfg(test)]
    pub(super) asked: BTreeSet<(&'static str, &'static str)>,
}

/// What a line sets.
struct Set {
    /// How many values came before it, whatever their keys.
    rank: u32,
    /// Its specifiers not yet replaced: words are split first.
    written: Rc<Text>,
    value: Rc<Text>,
}

/// Key and section.
type Name = (&'static str, &'static str);

const MAX_PROBLEMS: usize = 100;

/// Keys whose readers know of dollars themselves.
const OWN_DOLLARS: [&str; 9] = [
    "Exec",
    "Entrypoint",
    "ReloadCmd",
    "HealthCmd",
    "HealthStartupCmd",
    "Environment",
    "Label",
    "Annotation",
    "Sysctl",
];

impl<'a> Sheet<'a> {
    /// The unit's file first, its drop-ins in their order.
    pub(super) fn new(scope: Scope<'a>, documents: &[Rc<Document>], strict: bool) -> Self {
        let mut sheet = Self {
            scope,
            strict,
            problems: Vec::new(),
            unavailable: Vec::new(),
            values: BTreeMap::new(),
            count: 0,
            main: None,
            #[cfg(test)]
            asked: BTreeSet::new(),
        };
        for document in documents {
            for problem in &document.problems {
                sheet.push(|| problem.clone());
            }
            for section in &document.sections {
                sheet.section(section);
            }
            for assignment in &document.assignments {
                sheet.assign(assignment);
            }
        }
        sheet.podman_args();
        sheet
    }

    /// Behind all others, as on podman's command line.
    fn podman_args(&mut self) {
        let of_service = self.values.keys().filter(|(_, section)| *section == "Service").map(|(key, _)| *key);
        let of_service: BTreeSet<&str> = of_service.collect();
        for value in self.written("Container", "PodmanArgs") {
            let words = self.words("Container", &value);
            let (found, wrong) = podman_args::assignments(&value, &words);
            for (word, said) in wrong {
                self.error_at(&value, &word, said.behind(format_args!("PodmanArgs={}", word.text)));
            }
            for assignment in &found {
                let name = assignment.key.text.as_str();
                // On a Podman host they are two limits, of the service and of the container in it.
                if assignment.section.text == "Service" && of_service.contains(name) {
                    // The other is none.
                    if assignment.value.text.is_empty() {
                        continue;
                    }
                    let text = format!("PodmanArgs=: [Service] says {name}= already; leave one of them out");
                    self.error(&assignment.value, text);
                } else {
                    self.assign(assignment);
                }
            }
        }
    }

    /// A file that is wrong from end to end is not worth more than a first page of reasons. Each costs a walk along its line, so
    /// those that follow are not even made.
    fn push(&mut self, problem: impl FnOnce() -> Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        } else if self.problems.len() == MAX_PROBLEMS {
            self.problems.push(Problem { text: "more mistakes follow".to_owned(), suggestion: None, ..problem() });
        }
    }

    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        for problem in std::mem::take(&mut self.unavailable) {
            #[cfg(test)]
            super::text::steps::add(self.problems.len());
            let worse =
                |p: &Problem| p.severity == Severity::Error && p.path == problem.path && p.place == problem.place;
            if !self.problems.iter().any(worse) {
                self.push(|| problem);
            }
        }
        self.problems
    }

    /// Where each key was set.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let mut files: BTreeMap<&Path, Arc<Path>> = BTreeMap::new();
        let mut all = Vec::new();
        for ((key, section), values) in &self.values {
            for Set { value, .. } in values {
                let file = files.entry(&value.file).or_insert_with(|| Arc::from(&*value.file));
                all.push(Origin { section, key, file: Arc::clone(file), place: value.place(&value.whole()) });
            }
        }
        all
    }

    /// A key that means nothing where the other one is not set.
    pub(super) fn useless(&mut self, (section, name): Name, without: &str) {
        if let Some(value) = self.last(section, name) {
            self.warning(&value, format!("{name}= has no effect without {without}"));
        }
    }

    pub(super) fn warning(&mut self, value: &Text, text: impl Into<Said>) {
        self.push(|| value.warning(&value.whole(), text));
    }

    fn section(&mut self, section: &Text) {
        let name = section.text.as_str();
        let kind = self.scope.kind;
        if name == kind.section() && self.main.is_none() {
            self.main = Some(section.clone());
        }
        if kind.sections().contains(&name) || name.starts_with("X-") {
            return;
        }
        let text = if keys::is_section(name) || ["Build", "Kube", "Path"].contains(&name) {
            format!("[{name}] has no place in a .{} file", kind.suffix()).into()
        } else {
            match keys::nearest_section(name, kind) {
                Some(near) => Said::guess(format!("unknown section [{name}]"), Some(format!("[{near}]")), ""),
                None => format!("unknown section [{name}]; sections of your own begin with X-").into(),
            }
        };
        self.push(|| section.error(&section.whole(), text));
    }

    fn assign(&mut self, assignment: &Assignment) {
        let section = assignment.section.text.as_str();
        let (key, value) = (&assignment.key, &assignment.value);
        let name = key.text.as_str();
        let kind = self.scope.kind;
        // Unknown sections are reported once, at their header.
        if !kind.sections().contains(&section) || name.starts_with("X-") {
            return;
        }
        let Some(row @ Key { section, name, value: language, status }) = keys::find(section, name) else {
            let guess = || match keys::guess(section, name, kind) {
                Guess::Section(other) => Said::from(format!("{name}= belongs in [{other}], this is [{section}]"))
                    .offering(format!("[{other}]")),
                Guess::Name(near) => {
                    Said::guess(format!("unknown key {name}= in [{section}]"), Some(format!("{near}=")), "")
                }
                Guess::Nothing => format!("unknown key {name}= in [{section}]; keys of your own begin with X-").into(),
            };
            return self.push(|| key.error(&key.whole(), guess()));
        };
        // Nothing is asked for by an empty assignment, it takes back what came before.
        if value.text.is_empty() && row.reset() != Reset::Never {
            return self.take_back(key, &row);
        }
        if let Status::Refused(why) = status {
            let said = Said { text: format!("{name}= cannot be honoured here: {why}"), suggestion: form(why) };
            return self.push(|| key.error(&key.whole(), said));
        }
        let written = Rc::clone(value);
        let value = if written.text.contains('%') {
            match self.expand(&written) {
                Ok(value) => Rc::new(value),
                Err(fault) => return self.fault(&written, &fault),
            }
        } else {
            Rc::clone(&written)
        };
        // All of a Quadlet section stands in the ExecStart= that it makes, where systemd would replace it.
        if Kind::is_quadlet(section)
            && !OWN_DOLLARS.contains(&name)
            && value.text.contains("${")
            && inner_dollars(&value.text).is_err()
        {
            let text = "${…} would be taken from podman's own environment, and there is no environment here to take it from; write the \
                        value itself";
            self.push(|| value.error(&value.whole(), text));
        }
        let plain = lists::unquoted(section, &value.text);
        // Whoever runs the file on a Podman host gets another number there.
        if language.is_number() && values::octal(plain).is_some() {
            self.push(|| value.error(&value.whole(), values::two_numbers(name, plain)));
        }
        if let Err(expected) = language.check(plain) {
            self.push(|| value.error(&value.whole(), format!("{name}={}: {expected}", value.text)));
        }
        match status {
            Status::Supported(Honoured::Only(values)) if !values.iter().any(|v| v.eq_ignore_ascii_case(plain)) => {
                let listed = values.join(", ");
                let text = format!("{name}={}: known, not available in this version; it can be {listed}", value.text);
                self.unavailable(&value, text);
            }
            Status::Supported(Honoured::No(hint)) => {
                let then = if hint.is_empty() { String::new() } else { format!("; {hint}") };
                let text = format!("{name}= cannot be honoured here: not available in this version{then}");
                self.unavailable(key, Said { text, suggestion: form(hint) });
            }
            _ => {}
        }
        if matches!(status, Status::Inert(_)) {
            return;
        }
        let is_list = lists::of_values(section, name) && value.text.contains([',', '"']);
        let all = if is_list { lists::parts(&value) } else { vec![value] };
        for value in all {
            let written = if is_list { Rc::clone(&value) } else { Rc::clone(&written) };
            self.values.entry((name, section)).or_default().push(Set { rank: self.count, written, value });
            self.count += 1;
        }
    }

    fn take_back(&mut self, at: &Text, key: &Key) {
        match key.reset() {
            Reset::Own => drop(self.values.remove(&(key.name, key.section))),
            Reset::All(names) => {
                let its =
                    |name: &str, section: &str| section == key.section && names.iter().any(|n| name.starts_with(n));
                self.values.retain(|(name, section), _| !its(name, section));
            }
            Reset::Nothing if self.values.contains_key(&(key.name, key.section)) => {
                let text = format!(
                    "{}= stays as it is: dependencies are not taken back by an empty value (systemd.unit(5)); take them out where they \
                     are written",
                    key.name
                );
                self.push(|| at.warning(&at.whole(), text));
            }
            Reset::Nothing | Reset::Never => {}
        }
    }

    /// What is said rightly and not honoured by this version.
    pub(super) fn unavailable(&mut self, at: &Text, text: impl Into<Said>) {
        if self.strict && self.unavailable.len() < MAX_PROBLEMS {
            self.unavailable.push(at.error(&at.whole(), text));
        }
    }

    fn expand(&mut self, value: &Text) -> Result<Text, Fault> {
        let mut strange = Vec::new();
        let expanded = specifier::expand(value, &self.scope, &mut strange);
        for fault in strange {
            self.push(|| value.warning(&fault.range, fault.said()));
        }
        expanded
    }

    fn fault(&mut self, value: &Text, fault: &Fault) {
        self.push(|| value.error(&fault.range, fault.said()));
    }

    pub(super) fn error(&mut self, value: &Text, text: impl Into<Said>) {
        self.push(|| value.error(&value.whole(), text));
    }

    /// At some bytes of the value.
    pub(super) fn error_in(&mut self, value: &Text, range: &std::ops::Range<usize>, text: impl Into<Said>) {
        self.push(|| value.error(range, text));
    }

    pub(super) fn error_at(&mut self, value: &Text, word: &Word, text: impl Into<Said>) {
        self.push(|| value.error(&word.range, text));
    }

    pub(super) fn warning_at(&mut self, value: &Text, word: &Word, text: impl Into<Said>) {
        self.push(|| value.warning(&word.range, text));
    }

    /// For what is missing: at the header of the kind's section, or at the file as a whole.
    pub(super) fn missing(&mut self, path: &Path, text: impl Into<Said>) {
        let problem = match &self.main {
            Some(header) => header.error(&header.whole(), text),
            None => whole(path, Severity::Error, text),
        };
        self.push(|| problem);
    }

    pub(super) fn has_main(&self) -> bool {
        self.main.is_some()
    }

    /// The keys of a section that are set.
    pub(super) fn keys_of(&self, section: &str) -> Vec<&'static str> {
        self.values.keys().filter(|(_, of)| *of == section).map(|(key, _)| *key).collect()
    }

    /// Every value since the last empty assignment.
    pub(super) fn all(&mut self, section: &'static str, name: &'static str) -> Vec<Rc<Text>> {
        #[cfg(test)]
        self.asked.insert((section, name));
        self.values.get(&(name, section)).into_iter().flatten().map(|set| Rc::clone(&set.value)).collect()
    }

    /// The same, as they are to be split into words.
    pub(super) fn written(&mut self, section: &'static str, name: &'static str) -> Vec<Rc<Text>> {
        #[cfg(test)]
        self.asked.insert((section, name));
        self.values.get(&(name, section)).into_iter().flatten().map(|set| Rc::clone(&set.written)).collect()
    }

    /// Every value of several keys, as they follow each other in the files.
    pub(super) fn in_order(&mut self, section: &'static str, names: &[&'static str]) -> Vec<(&'static str, Rc<Text>)> {
        #[cfg(test)]
        self.asked.extend(names.iter().map(|name| (section, *name)));
        let of = |name: &&'static str| {
            let values = self.values.get(&(*name, section)).into_iter().flatten();
            values.map(|set| (set.rank, *name, Rc::clone(&set.value))).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = names.iter().flat_map(of).collect();
        all.sort_by_key(|(rank, ..)| *rank);
        all.into_iter().map(|(_, name, value)| (name, value)).collect()
    }

    /// The last value: it replaces those before it.
    pub(super) fn last(&mut self, section: &'static str, name: &'static str) -> Option<Rc<Text>> {
        #[cfg(test)]
        self.asked.insert((section, name));
        Some(lists::bare(section, &self.values.get(&(name, section))?.last()?.value))
    }

    /// Every value as `last` has it, where the last one counts and mistakes in those that it replaces are told too.
    pub(super) fn every(&mut self, section: &'static str, name: &'static str) -> Vec<Rc<Text>> {
        self.all(section, name).iter().map(|value| lists::bare(section, value)).collect()
    }

    /// The last value in its own language; a mistake in it is reported, and so are those in values that it replaces.
    pub(super) fn read<T, E: Into<Said>>(
        &mut self,
        section: &'static str,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        #[cfg(test)]
        self.asked.insert((section, name));
        let set = self.values.get(&(name, section)).into_iter().flatten();
        let all: Vec<_> = set.map(|set| (set.written.text.is_empty(), lists::bare(section, &set.value))).collect();
        let mut last = None;
        for (asks_for_nothing, value) in all {
            last = None;
            // One in which specifiers stand for nothing is no such value.
            if asks_for_nothing {
                continue;
            }
            match read(&value.text) {
                Ok(read) => last = Some(read),
                Err(text) => self.error(&value, text.into().behind(format_args!("{name}={}", value.text))),
            }
        }
        last
    }

    /// Every value in its own language, each with its place; mistakes are reported.
    pub(super) fn each<T, E: Into<Said>>(
        &mut self,
        section: &'static str,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<(Rc<Text>, T)> {
        let mut all = Vec::new();
        for value in self.all(section, name) {
            match read(lists::unquoted(section, &value.text)) {
                Ok(one) => all.push((value, one)),
                Err(text) => self.error(&value, text.into().behind(format_args!("{name}={}", value.text))),
            }
        }
        all
    }

    /// The last value as it is.
    pub(super) fn text(&mut self, section: &'static str, name: &'static str) -> Option<String> {
        self.last(section, name).map(|value| value.text.clone())
    }

    /// The words of a value as it is `written`; escapes nobody knows are warned about, a quote that is not closed is an error.
    pub(super) fn words(&mut self, section: &str, value: &Text) -> Vec<Word> {
        self.split(section, value, Backslash::Escapes)
    }

    fn split(&mut self, section: &str, value: &Text, backslash: Backslash) -> Vec<Word> {
        let mut words = match words::split(&value.text, backslash) {
            Ok(found) => {
                for warning in found.warnings {
                    // Its splitString knows what to do with such an escape, and does nothing with the line.
                    let there = if Kind::is_quadlet(section) { "; Podman leaves the whole line out" } else { "" };
                    let Said { text, suggestion } = warning.said();
                    self.push(|| value.warning(&warning.range, Said { text: text + there, suggestion }));
                }
                found.words
            }
            Err(fault) => {
                self.fault(value, &fault);
                Vec::new()
            }
        };
        // systemd replaces specifiers in each word, when nothing of what they mean can end it any more.
        words.retain_mut(|word| {
            if !word.text.contains('%') {
                return true;
            }
            let mut text = Text::new(Rc::clone(&value.file));
            text.push(&word.text, 0, 0);
            match specifier::expand(&text, &self.scope, &mut Vec::new()) {
                Ok(expanded) => word.text = expanded.text,
                // Only what an escape has made: of all others the value was refused.
                Err(fault) => self.push(|| value.error(&word.range, fault.text)),
            }
            true
        });
        words
    }

    /// The words of all values of a key, each with the value it stands in.
    pub(super) fn all_words(&mut self, section: &'static str, name: &'static str) -> Vec<(Rc<Text>, Word)> {
        self.split_all(section, name, Backslash::Escapes)
    }

    /// Words whose backslashes are characters: names of units and devices, and what else systemd and Quadlet read so.
    pub(super) fn all_names(&mut self, section: &'static str, name: &'static str) -> Vec<(Rc<Text>, Word)> {
        self.split_all(section, name, Backslash::Stays)
    }

    fn split_all(&mut self, section: &'static str, name: &'static str, backslash: Backslash) -> Vec<(Rc<Text>, Word)> {
        let mut all = Vec::new();
        for value in self.written(section, name) {
            for word in self.split(section, &value, backslash) {
                let words = if lists::of_words(section, name) { lists::words(word) } else { vec![word] };
                all.extend(words.into_iter().map(|word| (Rc::clone(&value), word)));
            }
        }
        all
    }
}
