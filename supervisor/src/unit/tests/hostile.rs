//! Texts that nobody would write, made from texts that somebody did: whatever comes, an answer, and every place inside the text.

use std::path::Path;

use super::source;
use crate::unit::{fuzz, machine::Machine, set::assemble, source::Sources, text::steps};

/// Words that mean something somewhere, to be put anywhere.
const WORDS: [&str; 18] = [
    "[",
    "]",
    "=",
    "\\",
    "\\\n",
    "\n",
    "\"",
    "'",
    "%",
    "%%",
    "$",
    "${",
    "\0",
    "\t",
    "\u{202e}",
    "#",
    "99999999999999999999",
    "\\x",
];

/// Marsaglia's xorshift: the same texts in every run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap()
    }
}

fn mutate(text: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.roll(text.len() + 1);
    match dice.roll(5) {
        0 => text.truncate(at),
        1 if at < text.len() => text[at] = u8::try_from(dice.roll(256)).unwrap(),
        2 => {
            let word = WORDS[dice.roll(WORDS.len())];
            text.splice(at..at, word.bytes());
        }
        3 => {
            let end = (at + dice.roll(40)).min(text.len());
            text.drain(at..end);
        }
        _ => {
            let end = (at + dice.roll(60)).min(text.len());
            let copy = text[at..end].to_vec();
            let to = dice.roll(text.len() + 1);
            text.splice(to..to, copy);
        }
    }
}

/// What fuzzing starts from, as it is kept, and pieces of the fixtures.
fn corpus() -> Vec<Vec<u8>> {
    let files = |folder: &str| {
        let list = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let mut paths: Vec<_> = list.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let kept: Vec<Vec<u8>> = files("fuzz/corpus/units").iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(kept.len() >= 10, "{}", kept.len());
    let mut corpus = kept;
    for path in files("src/unit/fixtures") {
        let kind = path.extension().unwrap().to_str().unwrap();
        if kind == "txt" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        // Whole files would cost more rounds than they show.
        let section = lines[0];
        let piece = |lines: &[&str]| format!("{kind}\n{section}\n{}\n", lines.join("\n")).into_bytes();
        corpus.extend(lines.chunks(12).map(piece));
    }
    corpus
}

/// The bounded run of what `cargo fuzz run units` does without end: what each text costs grows with it and with nothing else.
#[test]
fn whatever_comes_there_is_an_answer_with_places_inside_the_text() {
    let corpus = corpus();
    corpus.iter().for_each(|text| fuzz::one(text));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let mut text = corpus[round % corpus.len()].clone();
        for _ in 0..=dice.roll(6) {
            mutate(&mut text, &mut dice);
        }
        steps::take();
        fuzz::one(&text);
        let steps = steps::take();
        assert!(steps <= 20_000 + 200 * text.len(), "{steps} steps for {}: {text:?}", text.len());
    }
}

/// Texts that grow: what they cost grows with them and not faster.
#[test]
fn twice_the_text_is_twice_the_work() {
    let unit = |lines: &str| format!("[Container]\nImage=localhost/x\nNetwork=none\n{lines}\n");
    type Make = fn(usize) -> String;
    let texts: [(&str, Make); 17] = [
        ("words", |n| format!("Environment={}", "A=1 ".repeat(n))),
        ("continued lines", |n| format!("Exec=a{}", " \\\n b".repeat(n))),
        ("comments in them", |n| format!("Exec=a{}", " \\\n# x\n b".repeat(n))),
        ("unknown escapes", |n| format!("Exec={}", "\\d ".repeat(n))),
        ("unknown specifiers", |n| format!("Exec={}", "%Z ".repeat(n))),
        ("specifiers", |n| format!("Exec={}", "%N ".repeat(n))),
        ("wrong words", |n| format!("Sysctl={}", "x ".repeat(n))),
        ("unknown keys", |n| "Imagee=x\n".repeat(n)),
        ("volumes", |n| (0..n).map(|i| format!("Volume=/v{i}\n")).collect()),
        ("secrets", |n| (0..n).map(|i| format!("Secret=s{i}\n")).collect()),
        ("resets", |n| "Label=a\nExec=x\nExec=\n".repeat(n)),
        ("sections", |n| "[Unit]\n[Container]\n".repeat(n)),
        ("ports", |n| (0..n).map(|i| format!("PublishPort={}:1\n", i % 60_000 + 1)).collect()),
        ("one port", |n| "PublishPort=1-65535:1-65535\n".repeat(n)),
        ("links", |n| format!("[Unit]\nAfter={}", "b.service ".repeat(n))),
        ("unknown links", |n| format!("[Unit]\nAfter={}", "c.service ".repeat(n))),
        ("quotes", |n| format!("Exec={}", "\"a\"'b' ".repeat(n))),
    ];
    let cost = |text: &str| {
        let sources = Sources {
            units: vec![source("a", unit(text).as_bytes()), source("b", unit("").as_bytes())],
            ..Sources::default()
        };
        steps::take();
        assemble(sources, Vec::new(), &Machine::any(), true);
        steps::take()
    };
    for (name, make) in texts {
        let (once, twice) = (cost(&make(2000)), cost(&make(4000)));
        assert!(twice <= once * 5 / 2 + 20_000, "{name}: {once}, then {twice}");
    }
}
