//! Texts that nobody would write, made from texts that somebody did: whatever comes, an answer, and every place inside the text.

use std::path::Path;

use super::source;
use crate::unit::{
    fuzz, keys,
    kind::{KINDS, Kind},
    machine::Machine,
    set::assemble,
    source::{Source, Sources},
    text::steps,
};

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
    let texts: [(&str, Make); 33] = [
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
        ("addresses", |n| (0..n).map(|i| format!("PublishPort=10.0.{}.{}:80:80\n", i / 250, i % 250)).collect()),
        ("ranges", |n| (0..n).map(|i| format!("PublishPort=10.0.{}.{}:1-{1}:1-{1}\n", i / 250, i % 250 + 1)).collect()),
        ("links", |n| format!("[Unit]\nAfter={}", "b.service ".repeat(n))),
        ("unknown links", |n| format!("[Unit]\nAfter={}", "c.service ".repeat(n))),
        ("timeouts", |n| format!("[Service]\n{}", "TimeoutSec=1\nTimeoutStopSec=2\n".repeat(n))),
        ("conditions", |n| format!("[Unit]\n{}", "ConditionHost=a\nAssertHost=b\n".repeat(n))),
        ("groups taken back", |n| format!("[Unit]\n{}", "ConditionHost=a\nConditionMemory=\n".repeat(n))),
        ("mounts", |n| (0..n).map(|i| format!("Mount=type=tmpfs,dst=/m{i}\n")).collect()),
        ("capabilities", |n| format!("DropCapability={}", "CAP_KILL x ".repeat(n))),
        ("quotes", |n| format!("Exec={}", "\"a\"'b' ".repeat(n))),
        ("maps", |n| (0..n).map(|i| format!("UIDMap=+{}:{}:1\n", i * 2, i * 3)).collect()),
        ("mount options", |n| format!("Mount=type=tmpfs,dst=/x,{}", "o,".repeat(n))),
        ("secret options", |n| format!("Secret=s,{}", "type=env,".repeat(n))),
        ("options of podman", |n| format!("PodmanArgs={}", "--read-only -eA=1 ".repeat(n))),
        ("options on lines", |n| format!("PodmanArgs=--rm{}", " \\\n --cap-drop=kill,chown".repeat(n))),
        ("lists", |n| format!("DNSOption=a{}", ",b".repeat(n))),
        ("limits of disks", |n| {
            format!("[Service]\n{}", (0..n).map(|i| format!("IODeviceWeight=/dev/x{i} 10\n")).collect::<String>())
        }),
        ("lists of words", |n| format!("Sysctl=net.a=1{}", ",net.b=2".repeat(n))),
        ("names", |n| format!("[Install]\nAlias={}", (0..n).map(|i| format!("a{i}.service ")).collect::<String>())),
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

/// Every key of the table, on many lines and in long ones.
#[test]
fn no_key_costs_more_than_its_length() {
    let file = |key: &keys::Key, value: &str, many: usize| {
        let (name, section) = (key.name, key.section);
        let own = KINDS.into_iter().find(|kind| kind.section() == section).unwrap_or(Kind::Container);
        let line = |number: usize| value.replace('#', &number.to_string());
        let text = match value.strip_suffix(' ') {
            Some(_) => format!("{name}={}\n", (0..many).map(line).collect::<String>()),
            None => (0..many).map(|number| format!("{name}={}\n", line(number))).collect(),
        };
        (own, format!("[{section}]\n{text}"))
    };
    let cost = |(kind, text): (Kind, String)| {
        let unit = Source { kind, ..source("a", text.as_bytes()) };
        steps::take();
        assemble(Sources { units: vec![unit], ..Sources::default() }, Vec::new(), &Machine::any(), true);
        steps::take()
    };
    for key in keys::all() {
        for value in ["a#=/b#:#", "#", "/dev/x# 1", "a#,b=# "] {
            let (once, twice) = (cost(file(&key, value, 150)), cost(file(&key, value, 300)));
            assert!(twice <= once * 5 / 2 + 20_000, "{}= with {value:?}: {once}, then {twice}", key.name);
        }
    }
}

/// Units that are many: what they cost grows with their number and not faster, whatever they have to do with each other.
#[test]
fn twice_the_units_are_twice_the_work() {
    let unit = |lines: String| format!("[Container]\nImage=localhost/x\nNetwork=none\n{lines}\n");
    type Make = fn(usize, usize) -> String;
    let folders: [(&str, Make); 8] = [
        ("a chain", |i, n| format!("[Unit]\nAfter=u{}.service\nWants=u{}.service", (i + 1).min(n - 1), i / 2)),
        ("a circle", |i, n| format!("[Unit]\nAfter=u{}.service", (i + 1) % n)),
        ("pairs", |i, _| format!("[Unit]\nAfter=u{}.service", i ^ 1)),
        ("unknown", |i, _| format!("[Unit]\nRequires=v{i}.service")),
        ("all of one", |_, _| "[Unit]\nAfter=u0.service\nUpholds=u0.service".to_owned()),
        ("one name", |_, _| "ContainerName=x".to_owned()),
        ("ports", |i, _| format!("PublishPort={}:1", i % 50 + 1)),
        ("addresses", |i, _| format!("PublishPort=10.0.{}.{}:80:80\nPublishPort={i}:1", i / 250, i % 250)),
    ];
    let cost = |make: Make, count: usize| {
        let units = (0..count).map(|i| source(&format!("u{i}"), unit(make(i, count)).as_bytes()));
        let sources = Sources { units: units.collect(), ..Sources::default() };
        steps::take();
        assemble(sources, Vec::new(), &Machine::any(), true);
        steps::take()
    };
    for (name, make) in folders {
        let (once, twice) = (cost(make, 400), cost(make, 800));
        assert!(twice <= once * 5 / 2 + 50_000, "{name}: {once}, then {twice}");
    }
}

/// A drop-in of all units is parsed once, and so is a template, whatever the number of its instances.
#[test]
fn what_units_share_is_read_once() {
    let shared: std::rc::Rc<[u8]> = format!("[Container]\n{}", "X-Note=a long line\n".repeat(2000)).into_bytes().into();
    let cost = |count: usize| {
        let text = b"[Container]\nImage=localhost/x\nNetwork=none\n";
        let unit = |i| Source { drop_ins: vec![("all.conf".into(), shared.clone())], ..source(&format!("u{i}"), text) };
        let sources = Sources { units: (0..count).map(unit).collect(), ..Sources::default() };
        steps::take();
        assemble(sources, Vec::new(), &Machine::any(), true);
        steps::take()
    };
    let (one, many) = (cost(1), cost(50));
    assert!(one > shared.len() / 2 && many < one * 2, "{one}, then {many}");
}

/// The fuzzer's own crate is built with another compiler; what it calls is this.
#[test]
fn the_fuzz_target_is_what_is_run_here() {
    let one: fn(&[u8]) = fuzz::one;
    one(b"container\n[Container]\n");
    let target = include_str!("../../../fuzz/fuzz_targets/units.rs");
    assert!(target.contains("fuzz_target!(|data: &[u8]| supervisor::unit::fuzz::one(data));"), "{target}");
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    assert!(manifest.contains("supervisor = { path = \"..\" }") && manifest.contains("fuzz_targets/units.rs"));
}
