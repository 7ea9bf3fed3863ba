//! The documentation of all keys, made from their table: `orlop help units`, and UNITS.md in the repository.

use std::fmt::Write as _;

use super::{
    keys::{Honoured, Key, SECTIONS, Section, Status},
    kind::{KINDS, Kind, REFUSED},
};

const HEAD: &str = "\
# Unit files

Every key of Podman 5's podman-systemd.unit(5) for the kinds of files below, some of Podman 6's, and every key
of systemd's manuals for the sections that go with them. What a key means is what those manuals say; here stands what becomes of it on this system.

- **yes**: supported.
- **only** some values: those are supported; others are read, checked and refused as *known, not available in this version*.
- **later**: in the language only: read, checked and typed; nothing acts upon it yet, so it is an error that says so.
- **no effect**: accepted, and nothing follows from it; the reason is given.
- **refused**: cannot be honoured here; the reason and what to write instead are given.

Sections and keys that begin with `X-` are free for the user. An unknown key is an error with the nearest known one.
";

const LINT: &str = "
## orlop lint

`orlop lint [FILE|FOLDER…]` reads units as the machine does and shows every mistake of every file: `file:line:column: reason`, the
line, and a marker under the place. A file is checked together with the others of its folder, and with those of the folders above
as long as they hold units (or up to one called containers.d). Exit status: 0 without errors (warnings may be shown), 1 with errors
in units, 2 for a file or folder that cannot be read, whatever else was found, and for a wrong command line. Colours are for
terminals, and for none with `NO_COLOR`.

With `--json` it prints one array. Each element is an object:

| field | |
|---|---|
| `file` | path as given or found |
| `line` | counted from 1; 0 is the file as a whole |
| `column`, `width` | in characters, the column counted from 1 |
| `severity` | `error` or `warning` |
| `message` | one sentence: what is wrong, and what to write instead |
| `suggestion` | the nearest word or the right form, where there is one; else null |
";

/// The whole page, in Markdown that reads well as plain text.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    counts(&mut page);
    kinds(&mut page);
    for section in &SECTIONS {
        let _ = write!(page, "\n## [{}]\n\nFrom {}.\n\n", section.name, section.manual);
        let _ = writeln!(page, "| key | value | here | |\n|---|---|---|---|");
        let mut keys: Vec<Key> = section.keys().collect();
        keys.sort_by_key(|key| key.name);
        for key in keys {
            row(&mut page, &key);
        }
    }
    page.push_str(LINT);
    page
}

fn row(page: &mut String, key: &Key) {
    let (here, note) = match key.status {
        Status::Supported(Honoured::Yes) => ("yes", String::new()),
        Status::Supported(Honoured::Only(values)) => ("only", values.join(", ")),
        Status::Supported(Honoured::No(hint)) => ("later", hint.to_owned()),
        Status::Inert(why) => ("no effect", why.to_owned()),
        Status::Refused(why) => ("refused", why.to_owned()),
    };
    let value = if here == "refused" { String::new() } else { key.value.name() };
    let clean = |text: &str| text.replace('|', "\\|");
    let _ = writeln!(page, "| {}= | {} | {here} | {} |", key.name, clean(&value), clean(&note));
}

fn counts(page: &mut String) {
    page.push_str(
        "\n| section | keys | in the language | acted upon | no effect | refused |\n|---|---:|---:|---:|---:|---:|\n",
    );
    let mut line = |name: &str, keys: &[Key]| {
        let count = |is: fn(&Status) -> bool| keys.iter().filter(|key| is(&key.status)).count();
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {} | {} | {} |",
            keys.len(),
            count(|s| matches!(s, Status::Supported(_))),
            count(|s| matches!(s, Status::Supported(Honoured::Yes | Honoured::Only(_)))),
            count(|s| matches!(s, Status::Inert(_))),
            count(|s| matches!(s, Status::Refused(_))),
        );
    };
    let of = |section: &'static Section| section.keys().collect::<Vec<_>>();
    for section in &SECTIONS {
        line(&format!("[{}]", section.name), &of(section));
    }
    line("all", &SECTIONS.iter().flat_map(of).collect::<Vec<_>>());
    let Share { language, acted, all } = container_share();
    let _ = writeln!(
        page,
        "\nOf the {all} keys that Podman has for a container {language} are in the language ({} %), and this version acts upon {acted} \
         of them ({} %), if only with some of their values.",
        language * 100 / all,
        acted * 100 / all
    );
}

struct Share {
    /// Read, checked and typed.
    language: usize,
    /// Of these: something follows from it on a machine.
    acted: usize,
    all: usize,
}

/// Of the keys of a container, without those that Podman itself has given up.
fn container_share() -> Share {
    let keys: Vec<Key> = SECTIONS[0].keys().collect();
    let given_up = |key: &&Key| matches!(key.status, Status::Refused(why) if why.starts_with("Podman has given it up"));
    let later = |key: &&Key| matches!(key.status, Status::Supported(Honoured::No(_)));
    let language = keys.iter().filter(|key| matches!(key.status, Status::Supported(_))).count();
    Share {
        language,
        acted: language - keys.iter().filter(later).count(),
        all: keys.len() - keys.iter().filter(given_up).count(),
    }
}

fn kinds(page: &mut String) {
    page.push_str("\n| file | sections | here |\n|---|---|---|\n");
    for kind in KINDS {
        let sections: Vec<String> = kind.sections().iter().map(|section| format!("[{section}]")).collect();
        let here = kind.unavailable().map_or("yes".to_owned(), |hint| format!("later; {hint}"));
        let _ = writeln!(page, "| .{} | {} | {here} |", kind.suffix(), sections.join(" "));
    }
    for (suffix, why) in REFUSED.iter().filter(|(suffix, _)| Kind::of(suffix).is_none()) {
        let _ = writeln!(page, "| .{suffix} | | refused: {why} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shown in full by `orlop help units > supervisor/UNITS.md`.
    #[test]
    fn the_page_in_the_repository_is_that_of_the_table() {
        let page = include_str!("../../UNITS.md");
        assert!(page == reference(), "UNITS.md is old: write it anew with `orlop help units > supervisor/UNITS.md`");
    }

    #[test]
    fn nine_of_ten_keys_of_a_container_are_in_the_language_and_none_is_given_up_again() {
        let Share { language, acted, all } = container_share();
        assert!(language * 10 >= all * 9, "{language} of {all}");
        // What a machine acts upon is another number, which only grows.
        assert!(acted >= 62 && acted <= language, "{acted} of {all}");
    }
}
