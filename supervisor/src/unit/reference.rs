//! The documentation of all keys, made from their table: `orlop help units`, and UNITS.md in the repository.

use std::fmt::Write as _;

use super::{
    keys::{Honoured, Key, SECTIONS, Section, Status},
    kind::{KINDS, Kind, REFUSED},
    podman_args,
};

const HEAD: &str = "\
# Unit files

Every key of Podman 5's podman-systemd.unit(5) for the kinds of files below, some of Podman 6's, and every key
of systemd's manuals for the sections that go with them. What a key means is what those manuals say; here stands what becomes of it on this system.

- **supported**, all of its values or *only* those that are named: the others are errors that say so.
- **no effect**: accepted, and nothing follows from it; the reason is given.
- **refused**: an error; the reason and what to write instead are given. Where the reason is *not available in this version*, the value
  is read and checked all the same.

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
        if section.name == "Container" {
            podman_args(&mut page);
        }
    }
    page.push_str(LINT);
    page
}

fn row(page: &mut String, key: &Key) {
    let (here, note) = match key.status {
        Status::Supported(Honoured::Yes) => ("supported", String::new()),
        Status::Supported(Honoured::Only(values)) => ("supported", format!("only {}", values.join(", "))),
        Status::Supported(Honoured::No("")) => ("refused", LATER.to_owned()),
        Status::Supported(Honoured::No(hint)) => ("refused", format!("{LATER}; {hint}")),
        Status::Inert(why) => ("no effect", why.to_owned()),
        Status::Refused(why) => ("refused", why.to_owned()),
    };
    let value = if matches!(key.status, Status::Refused(_)) { String::new() } else { key.value.name() };
    let clean = |text: &str| text.replace('|', "\\|");
    let _ = writeln!(page, "| {}= | {} | {here} | {} |", key.name, clean(&value), clean(&note));
}

fn podman_args(page: &mut String) {
    page.push_str(
        "\nPodmanArgs= takes these options of podman-run(1), each as if its key stood behind all others:\n\n",
    );
    page.push_str("| option | key |\n|---|---|\n");
    for (options, keys) in podman_args::options() {
        let _ = writeln!(page, "| {} | {keys} |", options.replace(' ', ", "));
    }
}

fn counts(page: &mut String) {
    page.push_str("\n| section | keys | supported | no effect | refused |\n|---|---:|---:|---:|---:|\n");
    let mut line = |name: &str, keys: &[Key]| {
        let count = |is: fn(&Status) -> bool| keys.iter().filter(|key| is(&key.status)).count();
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {} | {} |",
            keys.len(),
            count(is_supported),
            count(|s| matches!(s, Status::Inert(_))),
            count(|s| matches!(s, Status::Refused(_) | Status::Supported(Honoured::No(_)))),
        );
    };
    let of = |section: &'static Section| section.keys().collect::<Vec<_>>();
    for section in &SECTIONS {
        line(&format!("[{}]", section.name), &of(section));
    }
    line("all", &SECTIONS.iter().flat_map(of).collect::<Vec<_>>());
    let (supported, all) = container_share();
    let _ = writeln!(
        page,
        "\nOf the {all} keys that Podman has for a container {supported} are supported ({} %), if only with some of their values.",
        supported * 100 / all
    );
}

/// Typed, with a reader of its own, and nothing acts upon it.
const LATER: &str = "not available in this version";

/// How many keys of a container are supported, and how many there are without those that Podman itself has given up.
fn container_share() -> (usize, usize) {
    let keys: Vec<Key> = SECTIONS[0].keys().collect();
    let given_up = |key: &&Key| matches!(key.status, Status::Refused(why) if why.starts_with("Podman has given it up"));
    let supported = keys.iter().filter(|key| is_supported(&key.status)).count();
    (supported, keys.len() - keys.iter().filter(given_up).count())
}

fn is_supported(status: &Status) -> bool {
    matches!(status, Status::Supported(Honoured::Yes | Honoured::Only(_)))
}

fn kinds(page: &mut String) {
    page.push_str("\n| file | sections | here |\n|---|---|---|\n");
    for kind in KINDS {
        let sections: Vec<String> = kind.sections().iter().map(|section| format!("[{section}]")).collect();
        let _ = writeln!(page, "| .{} | {} | supported |", kind.suffix(), sections.join(" "));
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
    fn no_key_of_a_container_is_given_up_again() {
        // A number that only grows.
        let (supported, all) = container_share();
        assert!(supported >= 82 && all == 91, "{supported} of {all}");
    }
}
