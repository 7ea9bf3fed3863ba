//! `%` in values: the specifiers of systemd.unit(5) that mean something without a login.

use super::{
    Said, UnitName,
    kind::Kind,
    machine::Machine,
    problem::form,
    text::{Fault, Text},
};

/// Whose file is read, and where.
pub(super) struct Scope<'a> {
    pub(super) kind: Kind,
    /// As systemd would call it, without suffix: `data-volume` for `data.volume`.
    pub(super) node: UnitName,
    pub(super) machine: &'a Machine,
    /// The file itself.
    pub(super) path: String,
}

impl Scope<'_> {
    /// The unit's, without suffix, whatever its kind.
    pub(super) fn name(&self) -> &str {
        let name = self.node.as_str();
        match self.kind {
            Kind::Timer | Kind::Socket => name.rsplit_once('.').map_or(name, |(name, _)| name),
            _ => name,
        }
    }

    /// Of a template's instance.
    pub(super) fn instance(&self) -> Option<&str> {
        self.name().split_once('@').map(|(_, instance)| instance)
    }
}

/// The value with its specifiers replaced. Places stay those of the file. What is no specifier stays as it is, as with systemd, and
/// is reported in `strange`.
pub(super) fn expand(value: &Text, scope: &Scope<'_>, strange: &mut Vec<Fault>) -> Result<Text, Fault> {
    if !value.text.contains('%') {
        return Ok(value.clone());
    }
    let mut expanded = Text::new(std::rc::Rc::clone(&value.file));
    let mut cursor = value.cursor();
    let mut done = 0;
    while let Some(at) = value.text[done..].find('%').map(|i| done + i) {
        let letter = value.text[at + 1..].chars().next();
        let range = at..at + 1 + letter.map_or(0, char::len_utf8);
        done = range.end;
        match letter.map(|letter| meaning(letter, scope)) {
            Some(Meaning::Is(text)) => {
                cursor.copy_to(range.start, &mut expanded);
                expanded.push_replaced(&text, &cursor);
                cursor.skip_to(range.end);
            }
            Some(Meaning::Nothing(why)) => {
                let text = format!("{} cannot be honoured here: {why}", &value.text[range.clone()]);
                return Err(Fault::new(range, Said { text, suggestion: form(why) }));
            }
            Some(Meaning::Unknown) => {
                let shown = &value.text[range.clone()];
                let text = format!("{shown} is not a specifier and stays as it is; write %{shown} to say so");
                let form = format!("%{shown}");
                strange.push(Fault::new(range, Said::from(text).offering(form)));
            }
            None => {}
        }
    }
    cursor.copy_to(value.text.len(), &mut expanded);
    Ok(expanded)
}

enum Meaning {
    Is(String),
    Nothing(&'static str),
    Unknown,
}

fn meaning(letter: char, scope: &Scope<'_>) -> Meaning {
    let name = scope.name();
    let (prefix, instance) = name.split_once('@').unwrap_or((name, ""));
    let last = |text: &str| text.rsplit('-').next().unwrap_or(text).to_owned();
    let text = match letter {
        '%' => "%",
        // In the value of every key, where systemd has keys that know none (MemoryMax=, for one): a limit that follows the instance is
        // meant as it is written.
        'n' => return Meaning::Is(scope.kind.full(&scope.node)),
        'N' => name,
        'p' => prefix,
        'P' => return Meaning::Is(unescape(prefix)),
        'i' => instance,
        'I' => return Meaning::Is(unescape(instance)),
        'j' => return Meaning::Is(last(prefix)),
        'J' => return Meaning::Is(unescape(&last(prefix))),
        'f' => return Meaning::Is(format!("/{}", unescape(if instance.is_empty() { prefix } else { instance }))),
        'y' => scope.path.as_str(),
        'Y' => scope.path.rsplit_once('/').map_or(".", |(folder, _)| folder),
        't' => "/run",
        'S' => "/var/lib",
        'C' => "/var/cache",
        'L' => "/var/log",
        'E' => "/etc",
        'T' => "/tmp",
        'V' => "/var/tmp",
        'h' => "/root",
        'u' | 'g' => "root",
        'U' | 'G' => "0",
        's' => return Meaning::Nothing("the host has no shell"),
        'd' => return Meaning::Nothing("there are no credentials; write Secret= in [Container]"),
        'D' => "/usr/share",
        'c' | 'r' | 'R' => return Meaning::Nothing("systemd has given it up"),
        _ => return scope.machine.specifier(letter).map_or(Meaning::Unknown, Meaning::Is),
    };
    Meaning::Is(text.to_owned())
}

/// systemd-escape(1) backwards: `-` is `/`, `\\x2d` is `-`. What is no escape stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let hex = rest.strip_prefix("\\x").and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        match (hex, c) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &rest[4..];
                continue;
            }
            (None, '-') => bytes.push(b'/'),
            (None, c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = &rest[c.len_utf8()..];
    }
    String::from_utf8_lossy(&bytes).replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{path::Path, rc::Rc};

    fn value(text: &str) -> Text {
        let mut value = Text::new(Rc::from(Path::new("u")));
        value.push(text, 1, 10);
        value
    }

    fn read(kind: Kind, node: &str, text: &str, strange: &mut Vec<Fault>) -> Result<Text, Fault> {
        let node = UnitName::parse(node).unwrap();
        expand(&value(text), &Scope { kind, node, machine: &Machine::any(), path: "/etc/x".into() }, strange)
    }

    fn is(kind: Kind, node: &str, text: &str, expected: &str) {
        assert_eq!(read(kind, node, text, &mut Vec::new()).unwrap().text, expected, "{node} {text}");
    }

    #[test]
    fn those_that_mean_something_are_replaced() {
        let one = "%n %N %p %j 100%% %t/x %S [%i]";
        is(Kind::Container, "web-front", one, "web-front.service web-front web-front front 100% /run/x /var/lib []");
        is(Kind::Container, "web@a-b", "%n %N %p %i %I %f", "web@a-b.service web@a-b web a-b a/b /a/b");
        is(Kind::Container, "web@a\\x2db", "%I %y %Y", "a-b /etc/x /etc");
        is(Kind::Volume, "data-volume", "%n %N", "data-volume.service data-volume");
        is(Kind::Volume, &Kind::Volume.node("data@a"), "%n %p %i", "data-volume@a.service data-volume a");
        is(Kind::Timer, "job@a.timer", "%n %N %i", "job@a.timer job@a a");
        is(Kind::Timer, "job.timer", "%n %N %p", "job.timer job job");
        is(Kind::Container, "a", "%H %m %b %v %o %l", &format!("machine {0} {0} 6.12 orlop machine", "0".repeat(32)));
        is(Kind::Container, "a", "50%", "50%");
        assert_eq!(read(Kind::Container, "a", "a %d", &mut Vec::new()).unwrap_err().range, 2..4);
    }

    /// Every letter of systemd.unit(5), none forgotten.
    #[test]
    fn each_letter_has_its_meaning() {
        let zeros = "0".repeat(32);
        let arch = std::env::consts::ARCH.replace("x86_64", "x86-64").replace("aarch64", "arm64");
        let node = "a-b\\x2dc@d-e\\x2df";
        let all = [
            ("%%", "%"),
            ("%a", arch.as_str()),
            ("%A", "0"),
            ("%b", &zeros),
            ("%B", "0"),
            ("%C", "/var/cache"),
            ("%D", "/usr/share"),
            ("%E", "/etc"),
            ("%f", "/d/e-f"),
            ("%g", "root"),
            ("%G", "0"),
            ("%h", "/root"),
            ("%H", "machine"),
            ("%i", "d-e\\x2df"),
            ("%I", "d/e-f"),
            ("%j", "b\\x2dc"),
            ("%J", "b-c"),
            ("%l", "machine"),
            ("%L", "/var/log"),
            ("%m", &zeros),
            ("%M", "orlop"),
            ("%n", "a-b\\x2dc@d-e\\x2df.service"),
            ("%N", node),
            ("%o", "orlop"),
            ("%p", "a-b\\x2dc"),
            ("%P", "a/b-c"),
            ("%q", "machine"),
            ("%S", "/var/lib"),
            ("%t", "/run"),
            ("%T", "/tmp"),
            ("%u", "root"),
            ("%U", "0"),
            ("%v", "6.12"),
            ("%V", "/var/tmp"),
            ("%w", "0"),
            ("%W", ""),
            ("%y", "/etc/x"),
            ("%Y", "/etc"),
        ];
        for (letter, meaning) in all {
            is(Kind::Container, node, letter, meaning);
        }
        // Without an instance the prefix is the path.
        is(Kind::Container, "a-b", "%f %P", "/a/b a/b");
        for letter in ('a'..='z').chain('A'..='Z').filter(|c| !all.iter().any(|(known, _)| known.ends_with(*c))) {
            let mut strange = Vec::new();
            let read = read(Kind::Container, "a", &format!("%{letter}"), &mut strange);
            assert!("cdrRs".contains(letter) == read.is_err() && read.is_ok() == (strange.len() == 1), "%{letter}");
        }
    }

    #[test]
    fn what_is_no_specifier_stays_and_is_reported() {
        let mut strange = Vec::new();
        assert_eq!(read(Kind::Container, "a", "date +%Z", &mut strange).unwrap().text, "date +%Z");
        assert_eq!((strange.len(), strange[0].range.clone()), (1, 6..8));
    }

    #[test]
    fn places_stay_those_of_the_file() {
        let expanded = read(Kind::Container, "a-long-name", "%N:/data:bad", &mut Vec::new()).unwrap();
        assert_eq!(expanded.text, "a-long-name:/data:bad");
        assert_eq!(expanded.place(&(18..21)).column, 10 + 9);
        assert_eq!(expanded.place(&(0..11)).column, 10);
    }
}
