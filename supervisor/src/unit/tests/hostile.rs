//! Texts that nobody would write, made from texts that somebody did: whatever comes, an answer, and every place inside the text.

use super::source;
use crate::unit::{machine::Machine, set::assemble, source::Sources, text::steps};

const SEEDS: [&str; 4] = [
    "[Unit]\nDescription=A %N\nAfter=b.container network-online.target\nRequires=b.service\n\n[Container]\nImage=localhost/x:1\nNetwork=host\n\
     Exec=/bin/sh -c \"echo $$HOME\" \\\n# note\n  'x y'\nEnvironment=A=1 \"B=2 3\" C=\\x41\\u00e4\n",
    "\u{feff}[Container]\r\nImage=docker.io/library/nginx@sha256:0000000000000000000000000000000000000000000000000000000000000000\r\nNetwork=none\r\n\
     Volume=data:/d:ro,Z\r\nVolume=./x:/y\r\nTmpfs=/t:size=1m,mode=1777\r\nUlimit=nofile=1:2\r\nSysctl=net.core.somaxconn=1\r\n",
    "[Container]\nImage=localhost/ä\nNetwork=none\nEntrypoint=[\"a\", \"b\"]\nAddCapability=all\nDropCapability=CAP_CHOWN\nMask=/a:/b\n\
     Unmask=/proc/*\nAddHost=a;b:::1\nUser=a:b\nMemory=1.5G\n[Service]\nRestart=always\nRestartSec=1min 2.5s\nMemoryMax=50%\n[Install]\nWantedBy=x.target\n",
    "[X-Mine]\nKey=value\n[Container]\nPodmanArgs=--x\nPublishPort=1:2\n[Quadlet]\nDefaultDependencies=no\n[Container]\nImage=\n\\\n\\\n=\n[\n]\n",
];

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

/// The seeds, and pieces of the fixtures, each with the kind of its file.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut corpus: Vec<(String, Vec<u8>)> =
        SEEDS.iter().map(|text| ("container".to_owned(), text.as_bytes().to_vec())).collect();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/unit/fixtures")).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().unwrap().to_str().unwrap().to_owned();
        if kind == "txt" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        // Whole files would cost more rounds than they show.
        let section = lines[0];
        corpus.extend(
            lines.chunks(12).map(|lines| (kind.clone(), format!("{section}\n{}\n", lines.join("\n")).into_bytes())),
        );
    }
    corpus.sort();
    corpus
}

#[test]
fn whatever_comes_there_is_an_answer_with_places_inside_the_text() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let corpus = corpus();
    for round in 0..20_000 {
        let (kind, text) = &corpus[round % corpus.len()];
        let mut text = text.clone();
        for _ in 0..=dice.roll(6) {
            mutate(&mut text, &mut dice);
        }
        let sources = Sources {
            units: vec![
                source(&format!("a.{kind}"), &text),
                source("b", b"[Container]\nImage=localhost/b\nNetwork=none\n"),
            ],
            ..Sources::default()
        };
        let set = assemble(sources, Vec::new(), &Machine::any(), true);
        assert_eq!(set.names().count() + set.broken.len(), 2);
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        for problem in &set.problems {
            let place = problem.place;
            if place.line == 0 {
                continue;
            }
            let line = lines.get(place.line as usize - 1).unwrap_or_else(|| panic!("{problem} in {text:?}"));
            let length = String::from_utf8_lossy(line).chars().count();
            assert!(place.column >= 1 && place.column as usize <= length + 1, "{problem} in {text:?}");
            assert!(
                place.width >= 1 && place.column as usize + place.width as usize <= length + 2,
                "{problem}: {place:?} in {text:?}"
            );
        }
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
