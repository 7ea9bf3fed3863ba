//! Texts that nobody would write, made from texts that somebody did: whatever comes, an answer, and every place inside the text.

use super::source;
use crate::unit::{machine::Machine, set::assemble, source::Sources};

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
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
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

#[test]
fn whatever_comes_there_is_an_answer_with_places_inside_the_text() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let mut text = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..=dice.roll(6) {
            mutate(&mut text, &mut dice);
        }
        let sources = Sources {
            units: vec![source("a", &text), source("b", b"[Container]\nImage=localhost/b\nNetwork=none\n")],
            ..Sources::default()
        };
        let set = assemble(sources, Vec::new(), &Machine::any(), true);
        assert_eq!(set.units.len() + set.broken.len(), 2);
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
