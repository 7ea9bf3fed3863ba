//! `cargo shop`: PostgreSQL, redis and nginx of Debian as one set of Quadlet units; a customer outside writes numbers while the
//! supervisor and the databases are killed, the nightly dump is made, and the power fails. Every acknowledged number must be there.

mod clients;
mod images;
mod writer;

use clap::Parser;
use clients::{Postgres, Redis};
use qemu_tests::{Artefacts, LIMIT, Machine};
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

const POSTGRES: u16 = 5432;
const REDIS: u16 = 6379;
const FRONT: u16 = 8088;
const STRIKE: u16 = 9001;
const MEMORY_MIB: u32 = 1024;
const DISK_BYTES: u64 = 4 << 30;
/// Written between two mishaps, at least.
const BETWEEN: u64 = 10;
/// Unpacking a Debian and making a cluster, on an emulated processor.
const PATIENCE: u32 = 10;

/// Kills the supervisor.
const STRIKE_UNIT: &str = "[Container]\nImage=localhost/probe:latest\nNetwork=host\nExec=strike 9001 /cg/orlop\n\
                           Volume=/sys/fs/cgroup:/cg\n[Install]\nWantedBy=multi-user.target\n";
/// A few seconds before the dump.
const NIGHT_UNIT: &str = "[Container]\nImage=localhost/postgres:latest\nNetwork=host\nUser=root\nEntrypoint=date\n\
                          Exec=--utc --set=01:59:57\nAddCapability=CAP_SYS_TIME\n[Service]\nType=oneshot\n";

/// Real applications under the supervisor, killed again and again; nothing acknowledged may be lost.
#[derive(Parser)]
#[command(name = "cargo shop")]
struct Options {
    /// How often something is killed
    #[arg(long, default_value_t = 15)]
    kills: u32,
}

fn main() -> ExitCode {
    match shop(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Whoever closed standard output does not want to read it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// What a program of the host says.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}: {}", output.status, said.trim()).into())
}

fn run(command: &mut Command) -> Result<()> {
    said(command).map(drop)
}

fn boot(artefacts: &Artefacts, images: &[&Path], disk: &Path) -> Result<Machine> {
    let mut builder = Machine::builder(artefacts, "shop").unit_folder(&images::sources().join("units"));
    for image in images {
        builder = builder.image(image);
    }
    for port in [POSTGRES, REDIS, FRONT, STRIKE] {
        builder = builder.forward(port);
    }
    let builder = builder.unit("strike.container", STRIKE_UNIT).unit("night.container", NIGHT_UNIT);
    let machine = builder.memory_mib(MEMORY_MIB).state_file(disk).append("orlop.rescue_timeout=0").start()?;
    for _ in 0..PATIENCE {
        let Some(units) = machine.settled_within(LIMIT)? else { continue };
        if let Some(bad) = units.iter().find(|unit| unit["enabled"] == true && unit["state"] != "active") {
            let name = bad["name"].as_str().unwrap_or_default();
            return Err(format!("{bad:#}\n{}", machine.log(name)?.join("\n")).into());
        }
        return Ok(machine);
    }
    Err(format!("the shop does not open: {:#}", machine.get("/v1/units")?).into())
}

fn kill_the_supervisor(machine: &Machine) -> Result<()> {
    // Nobody answers where a person is asked first.
    const PATIENCE: Duration = Duration::from_secs(3);
    let generation = |machine: &Machine| {
        let system = machine.get_within("/v1/system", PATIENCE);
        system.map(|system| system.and_then(|system| system["supervisor_generation"].as_u64()))
    };
    let before = machine.get("/v1/system")?["supervisor_generation"].as_u64();
    let mut killer = TcpStream::connect(machine.forwarded(STRIKE)?)?;
    killer.set_read_timeout(Some(LIMIT))?;
    killer.write_all(b"0\n")?;
    BufReader::new(killer).read_line(&mut String::new())?;
    machine.wait_until("the next supervisor", || {
        // After five deaths in a row somebody is asked.
        if machine.console().wait("press Enter.", Duration::ZERO).is_ok() {
            let _ = machine.console().type_keys("r\n");
        }
        Ok((generation(machine)? > before).then_some(()))
    })?;
    Ok(())
}

/// One mishap after the other; after each the customer gets on.
fn trouble(machine: &Machine, kills: u32, acknowledged: [&AtomicU64; 2], done: &AtomicBool) -> Result<()> {
    for kill in 0..kills {
        let before = acknowledged.map(|count| count.load(Ordering::Relaxed));
        let victim = ["the supervisor", "db", "cache", "the supervisor and db"][kill as usize % 4];
        say(&format!("{victim} is killed; {} orders, {} in the cache", before[0], before[1]));
        if victim.ends_with("db") {
            machine.post("/v1/units/db/kill?signal=KILL")?;
        }
        if victim == "cache" {
            machine.post("/v1/units/cache/kill?signal=KILL")?;
        }
        if victim.starts_with("the supervisor") {
            kill_the_supervisor(machine)?;
        }
        let goes_on = |count: &AtomicU64, before: u64| count.load(Ordering::Relaxed) >= before + BETWEEN;
        machine.wait_until("the customer to get on", || {
            let all = acknowledged.iter().zip(before).all(|(count, before)| goes_on(count, before));
            Ok((all || done.load(Ordering::Relaxed)).then_some(()))
        })?;
    }
    Ok(())
}

/// The clock jumps to two at night, and the dump of then is handed out.
fn night(machine: &Machine, orders: &AtomicU64) -> Result<()> {
    let before = orders.load(Ordering::Relaxed);
    say("it becomes night");
    machine.post("/v1/units/night/start")?;
    machine.wait_for_log("backup", "dumped ")?;
    let answer = machine.http(FRONT, "/orders.sql")?;
    let dump = answer.text();
    let numbers = dump.lines().filter_map(|line| line.split_once('\t')?.0.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect();
    let most = numbers.iter().max().copied().unwrap_or_default();
    if most < before || numbers.len() as u64 != most {
        let (status, found, log) = (answer.status, numbers.len(), machine.log("backup")?.join("\n"));
        return Err(
            format!("{before} orders were there, and the dump ({status}) has {found} up to {most}\n{log}").into()
        );
    }
    say(&format!("the dump has {most} orders"));
    Ok(())
}

fn shop(options: &Options) -> Result<()> {
    let mut progress = |line: &str| say(line);
    let artefacts = Artefacts::build(None, &mut progress)?;
    let images = images::build(&artefacts, &mut progress)?;
    let work = tempfile::tempdir_in(&artefacts.out)?;
    let (probe, disk) = (work.path().join("probe"), work.path().join("state.raw"));
    artefacts.pack_probe(&[], &probe)?;
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    say("the shop opens");
    let machine = boot(&artefacts, &[&images, &probe], &disk)?;
    let (orders, cached, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (postgres, redis) = (machine.forwarded(POSTGRES)?, machine.forwarded(REDIS)?);
    // Who gives up makes all others stop.
    let end = |result: std::io::Result<()>| {
        done.store(true, Ordering::Relaxed);
        result
    };
    thread::scope(|scope| {
        let writers = [
            scope.spawn(|| end(writer::write::<Postgres>(postgres, &orders, &done))),
            scope.spawn(|| end(writer::write::<Redis>(redis, &cached, &done))),
        ];
        let result =
            trouble(&machine, options.kills, [&orders, &cached], &done).and_then(|()| night(&machine, &orders));
        done.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| "the customer panicked")??;
        }
        result
    })?;
    let (orders, cached) = (orders.into_inner(), cached.into_inner());
    let look = |machine: &Machine| -> Result<()> {
        writer::check::<Postgres>(machine.forwarded(POSTGRES)?, orders)?;
        Ok(writer::check::<Redis>(machine.forwarded(REDIS)?, cached)?)
    };
    look(&machine)?;
    say(&format!("{orders} orders and {cached} numbers in the cache are there; the power fails"));
    machine.power_cut();
    let machine = boot(&artefacts, &[&images, &probe], &disk)?;
    look(&machine)?;
    say("all of them are there after it");
    Ok(())
}
