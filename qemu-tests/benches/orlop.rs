//! `cargo bench`: the one measurement command. `cargo bench -- boot` measures what begins with `boot`.
//!
//! Each measurement has a dotted name and can be run alone by it. A table goes to the screen and a list of
//! `{"name", "value", "unit", "of"}` (and `range`, least and most, where there were several) to `target/bench.json`: what
//! this run measured and nothing older, so that no number of yesterday's build stands beside today's. `of` says what was
//! measured: `orlop`, or what it is compared with.
//!
//! Speed is counted in busy instructions of the emulated CPU, kernel and user together, from init's first one: two runs
//! agree within 3 %, whatever else the host does. Seconds are only measured where a person waits.

mod lint;
mod oci;
mod supervise;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qemu_tests::{Artefacts, Machine};
use serde::Serialize;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    of: String,
    /// The least and the most of what was measured several times; `value` is then the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<(f64, f64)>,
}

fn row(name: &str, value: f64, unit: &'static str) -> Row {
    Row { name: name.to_owned(), value, unit, of: "orlop".to_owned(), range: None }
}

/// The names a measurement gives, and the measurement: some come from the same machine.
struct Measurement {
    names: &'static [&'static str],
    run: fn(&Artefacts) -> Result<Vec<Row>>,
}

const MEASUREMENTS: [Measurement; 8] = [
    Measurement { names: &["boot.supervisor_exec", "boot.first_container", "boot.first_container_again"], run: boot },
    Measurement { names: &["boot.least_memory"], run: least_memory },
    Measurement { names: &SIZES, run: sizes },
    Measurement { names: &["rss.init", "rss.supervisor"], run: resident },
    Measurement { names: &oci::NAMES, run: oci::measure },
    Measurement { names: &supervise::NAMES, run: supervise::measure },
    Measurement { names: &lint::NAMES, run: lint::measure },
    Measurement { names: &["host.second_boot"], run: second_boot },
];

/// In the order of `initramfs::Sizes::list`.
const SIZES: [&str; 8] = [
    "size.init",
    "size.orlop",
    "size.orlop-oci",
    "size.kernel",
    "size.initramfs",
    "size.root",
    "size.root_without_modules",
    "size.uki",
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some(option) = filters.iter().find(|word| word.starts_with('-')) {
        let is_help = option == "--help" || option == "-h";
        eprintln!("cargo bench -- [START_OF_A_NAME]… measures what begins so, or everything. There are:");
        names().for_each(|name| eprintln!("  {name}"));
        return if is_help { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    match lint::child().unwrap_or_else(|| measure(&filters)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    MEASUREMENTS.iter().flat_map(|one| one.names).copied()
}

fn measure(filters: &[String]) -> Result<()> {
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.starts_with(filter.as_str()));
    let chosen: Vec<&Measurement> =
        MEASUREMENTS.iter().filter(|one| one.names.iter().any(|name| wanted(name))).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = names().collect();
        return Err(format!("no measurement begins with {filters:?}; there are: {}", names.join(" ")).into());
    }
    let artefacts = Artefacts::build(None, &mut |line| eprintln!("{line}"))?;
    let mut rows = Vec::new();
    for measurement in chosen {
        eprintln!("measuring {}", measurement.names.join(" "));
        rows.extend((measurement.run)(&artefacts)?.into_iter().filter(|row| wanted(&row.name)));
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for Row { name, value, unit, of, range } in &rows {
        let range = range.map_or_else(String::new, |(min, max)| format!("  ({min:.3} … {max:.3})"));
        println!("{name:<width$}  {value:>14.3}  {unit:<20}  {of}{range}");
    }
    let file = artefacts.out.with_file_name("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&rows)? + "\n")?;
    eprintln!("written to {}", file.display());
    Ok(())
}

/// From PID 1's first instruction to the start of the demo's process, on a blank disk, which becomes the state, and once more.
fn boot(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&artefacts.out)?;
    let state = folder.path().join("state");
    std::fs::File::create(&state)?.set_len(2 << 30)?;
    let builder = Machine::builder(artefacts, "bench-boot").counting_instructions().state_file(&state);
    let mut rows = Vec::new();
    for again in [false, true] {
        let machine = builder.clone().start()?;
        machine.settled()?;
        let million = |name: &str, stage: &str| -> Result<Row> {
            Ok(row(name, machine.million_instructions(stage)?, "million instructions"))
        };
        if again {
            rows.push(million("boot.first_container_again", "unit:demo:started")?);
        } else {
            rows.push(million("boot.supervisor_exec", "supervisor-exec")?);
            rows.push(million("boot.first_container", "unit:demo:started")?);
        }
        machine.post("/v1/system/poweroff")?;
        machine.wait_end()?;
    }
    Ok(rows)
}

/// The smallest memory with which the demo answers, found by halving.
fn least_memory(artefacts: &Artefacts) -> Result<Vec<Row>> {
    const STEP_MIB: u32 = 2;
    // The kernel alone does not boot in the first; every machine is promised to work in the second.
    let (mut fails, mut works) = (40, 96);
    while works - fails > STEP_MIB {
        let middle = (fails + works) / 2 / STEP_MIB * STEP_MIB;
        let enough = runs_in(artefacts, middle)?;
        eprintln!("{middle} MiB: {}", if enough { "works" } else { "too little" });
        if enough {
            works = middle;
        } else {
            fails = middle;
        }
    }
    Ok(vec![row("boot.least_memory", f64::from(works), "MiB")])
}

fn runs_in(artefacts: &Artefacts, mib: u32) -> Result<bool> {
    const LIMIT: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(200);
    let machine = Machine::builder(artefacts, "bench-memory").memory_mib(mib).forward(8080).start()?;
    let started = Instant::now();
    while started.elapsed() < LIMIT && !machine.has_ended() {
        if machine.answers_http(8080) {
            return Ok(true);
        }
        thread::park_timeout(PAUSE);
    }
    Ok(false)
}

fn sizes(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let sizes = artefacts.image.sizes.list();
    let known = |name: &str| SIZES.iter().any(|known| known.strip_prefix("size.") == Some(name));
    if let Some((name, _)) = sizes.iter().find(|(name, _)| !known(name)) {
        return Err(format!("size.{name} is missing in the list of measurements").into());
    }
    let bytes = |(name, bytes): &(&str, u64)| row(&format!("size.{name}"), *bytes as f64, "bytes");
    Ok(sizes.iter().map(bytes).collect())
}

fn resident(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let machine = Machine::builder(artefacts, "bench-rss").start()?;
    machine.settled()?;
    let system = machine.get("/v1/system")?;
    let kib = |key: &str| system.get(key).and_then(Value::as_f64).ok_or_else(|| format!("no {key} in {system}"));
    Ok(vec![row("rss.init", kib("init_rss_kib")?, "KiB"), row("rss.supervisor", kib("supervisor_rss_kib")?, "KiB")])
}

/// What a person waits from `cargo boot` to the start of QEMU when nothing has changed.
fn second_boot(_: &Artefacts) -> Result<Vec<Row>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let boot = |args: &[&str]| {
        let mut command = Command::new(&cargo);
        command.arg("boot").arg("--").args(args).current_dir(initramfs::workspace()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    // The first one builds the program itself.
    boot(&["--help"]).output()?;
    let started = Instant::now();
    let mut child = boot(&["--headless"]).spawn()?;
    let mut said = Vec::new();
    let stderr = child.stderr.take().map(BufReader::new);
    let reached = stderr.into_iter().flat_map(BufRead::lines).map_while(std::io::Result::ok).any(|line| {
        let found = line.contains("in QEMU (");
        said.push(line);
        found
    });
    let seconds = started.elapsed().as_secs_f64();
    // Its QEMU goes with it.
    child.kill()?;
    child.wait()?;
    if !reached {
        return Err(format!("cargo boot did not start QEMU: {}", said.join("\n")).into());
    }
    Ok(vec![row("host.second_boot", seconds, "seconds")])
}
