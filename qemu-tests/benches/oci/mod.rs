//! `oci.*`: what the runtime costs, against the floor and against its peers, all in one machine and with the same bundles.
//!
//! The machine is the stand's (see `qemu_tests::Stand`). The peers are Debian's newest crun and runc, and youki as published for cargo; one that cannot be had is left out, and the
//! reason is said.

mod youki;

use std::path::PathBuf;
use std::time::Duration;

use qemu_tests::{Artefacts, Stand};

use super::{Result, Row};

pub(super) const NAMES: [&str; 6] =
    ["oci.run", "oci.run_seccomp", "oci.cycle", "oci.cycle_seccomp", "oci.exec", "oci.rss"];

/// From the newest on: a kernel that is older than a suite is no hindrance, its C library runs on it.
const SUITES: [&str; 3] = ["sid", "trixie", "bookworm"];
/// Emulated, with every runtime started a hundred times; a loaded host included.
const LIMIT: Duration = Duration::from_secs(1200);

pub(super) fn measure(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let mut stand = Stand::new(artefacts);
    stand.program("orlop-oci", &artefacts.programs.orlop_oci, 21);
    stand.program("floor", &artefacts.programs.probe.with_file_name("floor"), 21);
    let mut origin = String::new();
    match peers(artefacts) {
        Ok((folder, suite)) => {
            origin = format!("Debian {suite}");
            stand.libraries(&folder)?;
            stand.program("crun", &folder.join("usr/bin/crun"), 11);
            stand.program("runc", &folder.join("usr/sbin/runc"), 5);
            match youki::build(&artefacts.out, &folder) {
                Ok(program) => stand.program("youki", &program, 5),
                Err(error) => eprintln!("youki is left out: {error}"),
            }
        }
        Err(error) => eprintln!("crun, runc and youki are left out: {error}"),
    }
    let text = stand.run(artefacts, "bench-oci", LIMIT)?;
    for line in text.lines().filter(|line| line.starts_with("FAILED ")) {
        eprintln!("{}", line.trim());
    }
    rows(&text, &origin)
}

/// crun and runc with all they need, of the newest suite the archive has.
fn peers(artefacts: &Artefacts) -> Result<(PathBuf, &'static str)> {
    let mut failed = None;
    for suite in SUITES {
        match initramfs::tree_of_packages(&artefacts.out, suite, &["crun", "runc"], &mut |line| eprintln!("{line}")) {
            Ok(folder) => return Ok((folder, suite)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.map_or_else(|| "no suite to take them from".into(), Into::into))
}

/// `VERSION name words…` and `RESULT name case unit value…`, as `stand` prints them.
fn rows(text: &str, origin: &str) -> Result<Vec<Row>> {
    let lines = || text.lines().map(|line| line.trim().split(' ').collect::<Vec<_>>());
    let version = |name: &str| {
        let words = lines().find(|words| words.starts_with(&["VERSION", name]))?;
        words.last().map(|version| format!("{name} {version}"))
    };
    let of = |name: &str| match name {
        "orlop-oci" => "orlop".to_owned(),
        "floor" => "floor".to_owned(),
        "youki" => version(name).unwrap_or_default(),
        peer => format!("{} ({origin})", version(peer).unwrap_or_else(|| peer.to_owned())),
    };
    let mut rows = Vec::new();
    for words in lines() {
        let ["RESULT", name, case, unit, values @ ..] = words.as_slice() else { continue };
        let mut values = values.iter().map(|value| value.parse()).collect::<std::result::Result<Vec<f64>, _>>()?;
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { continue };
        let median = values.get(values.len() / 2).unwrap_or(min);
        let unit = if *unit == "bytes" { "bytes" } else { "million instructions" };
        rows.push(Row { name: format!("oci.{case}"), value: *median, unit, of: of(name), range: Some((*min, *max)) });
    }
    if rows.is_empty() {
        return Err(format!("the stand measured nothing; its console ends:\n{text}").into());
    }
    // Beside each other what is to be compared, the runtimes in the order they were measured.
    rows.sort_by_key(|row| NAMES.iter().position(|name| *name == row.name));
    Ok(rows)
}
