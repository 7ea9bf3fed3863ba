//! A piece of a unit file that knows where it came from, through continued lines and replaced specifiers.

use std::{ops::Range, path::Path, rc::Rc};

use super::{Place, Problem, Said, Severity};

/// What a key was set to, or a part of it. `file` is the drop-in where one set it.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) file: Rc<Path>,
    /// Of byte 0. Most texts stand on one line and have no more.
    first: Segment,
    /// In the order of `at`.
    more: Vec<Segment>,
}

/// From byte `at` of the text on, the file reads from this line and column.
#[derive(Debug, Clone, Copy)]
struct Segment {
    at: usize,
    line: u32,
    column: u32,
    /// The text is not what the file has here (a specifier's meaning): every byte of it lies at `column`.
    replaced: bool,
}

/// Something wrong at some bytes of a `Text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) range: Range<usize>,
    pub(super) text: String,
    suggestion: Option<String>,
}

impl Text {
    pub(super) fn new(file: Rc<Path>) -> Self {
        Self {
            text: String::new(),
            file,
            first: Segment { at: 0, line: 1, column: 1, replaced: false },
            more: Vec::new(),
        }
    }

    fn add(&mut self, segment: Segment) {
        if segment.at == 0 { self.first = segment } else { self.more.push(segment) }
    }

    /// Adds what the file has at this place.
    pub(super) fn push(&mut self, text: &str, line: u32, column: u32) {
        self.add(Segment { at: self.text.len(), line, column, replaced: false });
        self.text.push_str(text);
    }

    /// Adds a specifier's meaning in place of what `from` has at `cursor`.
    pub(super) fn push_replaced(&mut self, text: &str, cursor: &Cursor<'_>) {
        self.add(Segment { at: self.text.len(), replaced: true, ..cursor.place });
        self.text.push_str(text);
    }

    /// For a walk from its begin to its end, which costs its length once.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { text: self, place: self.first, next: 0 }
    }

    /// A part of the text, with its places.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        #[cfg(test)]
        steps::add(range.len());
        let mut part = Self::new(Rc::clone(&self.file));
        part.first = Segment { at: 0, ..self.locate(range.start) };
        let inside = self.more[self.behind(range.start)..].iter().take_while(|s| s.at < range.end);
        part.more.extend(inside.map(|s| Segment { at: s.at - range.start, ..*s }));
        part.text.push_str(&self.text[range]);
        part
    }

    /// A part without the white space around it.
    pub(super) fn trimmed(&self, range: Range<usize>) -> Self {
        let part = &self.text[range.clone()];
        let start = range.start + part.len() - part.trim_start().len();
        self.slice(start..start + part.trim().len())
    }

    /// Which of `more` is the first that begins behind this byte.
    fn behind(&self, at: usize) -> usize {
        self.more.partition_point(|s| s.at <= at)
    }

    fn locate(&self, at: usize) -> Segment {
        let segment = self.behind(at).checked_sub(1).map_or(&self.first, |last| &self.more[last]);
        if segment.replaced {
            return *segment;
        }
        #[cfg(test)]
        steps::add(at - segment.at);
        let chars = self.text.get(segment.at..at).map_or(0, |s| s.chars().count());
        Segment { column: segment.column.saturating_add(u32::try_from(chars).unwrap_or(u32::MAX)), ..*segment }
    }

    /// Where these bytes stand in the file; the width stays on the first line of them.
    pub(super) fn place(&self, range: &Range<usize>) -> Place {
        let start = self.locate(range.start);
        let next = self.more.get(self.behind(range.start)).map_or(usize::MAX, |s| s.at);
        let chars = if start.replaced {
            1
        } else {
            self.text.get(range.start..range.end.min(next)).map_or(1, |s| s.trim_end().chars().count())
        };
        Place { line: start.line, column: start.column, width: u32::try_from(chars.max(1)).unwrap_or(u32::MAX) }
    }

    /// Whether some of these bytes stand, or are to stand, for a specifier.
    pub(super) fn has_specifier(&self, range: &Range<usize>) -> bool {
        let first = self.behind(range.start).saturating_sub(1);
        let inside = self.more.iter().skip(first).take_while(|s| s.at < range.end);
        let replaced = std::iter::once(&self.locate(range.start)).chain(inside).any(|s| s.replaced);
        replaced || self.text.get(range.clone()).is_some_and(|text| text.contains('%'))
    }

    /// `file:line`
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.file.display(), self.place(&self.whole()).line)
    }

    pub(super) fn whole(&self) -> Range<usize> {
        0..self.text.len()
    }

    pub(super) fn error(&self, range: &Range<usize>, text: impl Into<Said>) -> Problem {
        self.problem(range, Severity::Error, text.into())
    }

    pub(super) fn warning(&self, range: &Range<usize>, text: impl Into<Said>) -> Problem {
        self.problem(range, Severity::Warning, text.into())
    }

    fn problem(&self, range: &Range<usize>, severity: Severity, Said { text, suggestion }: Said) -> Problem {
        Problem { path: self.file.to_path_buf(), place: self.place(range), severity, text, suggestion }
    }
}

/// A place in a text that only goes forward.
pub(super) struct Cursor<'a> {
    text: &'a Text,
    /// Where it stands: the byte, and the line and column of it.
    place: Segment,
    /// Which of `more` is the first that begins behind it.
    next: usize,
}

impl Cursor<'_> {
    /// The byte at which it stands.
    pub(super) fn at(&self) -> usize {
        self.place.at
    }

    /// Appends what lies between here and there to `other`, places included.
    pub(super) fn copy_to(&mut self, to: usize, other: &mut Text) {
        let from = self.place.at;
        let base = other.text.len();
        other.add(Segment { at: base, ..self.place });
        other.text.push_str(&self.text.text[from..to]);
        let first = self.next;
        self.skip_to(to);
        let passed = self.text.more[first..self.next].iter().filter(|s| s.at < to);
        other.more.extend(passed.map(|s| Segment { at: base + s.at - from, ..*s }));
    }

    pub(super) fn skip_to(&mut self, to: usize) {
        while let Some(segment) = self.text.more.get(self.next).filter(|s| s.at <= to) {
            self.place = *segment;
            self.next += 1;
        }
        #[cfg(test)]
        steps::add(to - self.place.at);
        let chars = if self.place.replaced { 0 } else { self.text.text[self.place.at..to].chars().count() };
        let column = self.place.column.saturating_add(u32::try_from(chars).unwrap_or(u32::MAX));
        self.place = Segment { at: to, column, ..self.place };
    }
}

impl Fault {
    pub(super) fn new(range: Range<usize>, text: impl Into<Said>) -> Self {
        let Said { text, suggestion } = text.into();
        Self { range, text, suggestion }
    }

    pub(super) fn said(&self) -> Said {
        Said { text: self.text.clone(), suggestion: self.suggestion.clone() }
    }
}

/// What reading costs, counted where it is spent: characters walked along and copied. A clock would tell of the machine.
#[cfg(test)]
pub(super) mod steps {
    use std::cell::Cell;

    thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

    pub(in crate::unit) fn add(count: usize) {
        COUNT.with(|all| all.set(all.get() + count + 1));
    }

    pub(in crate::unit) fn take() -> usize {
        COUNT.with(Cell::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_continued_lines() {
        let mut text = Text::new(Rc::from(Path::new("f")));
        text.push("one ", 3, 6);
        text.push("twö three", 4, 3);
        assert_eq!(text.place(&(0..3)), Place { line: 3, column: 6, width: 3 });
        assert_eq!(text.place(&(4..8)), Place { line: 4, column: 3, width: 3 });
        assert_eq!(text.place(&(9..14)), Place { line: 4, column: 7, width: 5 });
        let part = text.slice(2..14);
        assert_eq!(part.text, "e twö three");
        assert_eq!(part.place(&(7..12)), Place { line: 4, column: 7, width: 5 });
    }
}
