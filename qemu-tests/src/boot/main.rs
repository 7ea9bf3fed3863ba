//! `cargo boot`: from a fresh checkout to containers that answer, in one command.

mod keyboard;
mod options;
mod screen;
mod session;

use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;

use keyboard::Keyboard;
use options::Options;
use qemu_tests::{Artefacts, BuildError, Echo, Forward, Machine, MachineError};
use screen::{Screen, harmless, say};
use session::{Boot, Interrupts};

/// The machine did not get as far as running the command of `--run`: podman's number for "not the command's fault".
const NO_MACHINE: u8 = 125;
/// Of a fresh state disk; sparse on the host.
const STATE_BYTES: u64 = 8 << 30;
/// With so much memory every machine is promised to come up.
const ENOUGH_MIB: u32 = 96;

#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("--disk {path}: {source}")]
    Disk { path: String, source: std::io::Error },
    #[error("--run: `{0}` has an open quote")]
    Quote(String),
    #[error("--run: which command? For example --run 'ps --json'")]
    NoCommand,
    #[error("-p: port {0} of this host can only lead to one port of the machine")]
    Twice(u16),
    #[error("the kernel does not come up, and would try for ever: {said}{memory}")]
    Panic { said: String, memory: String },
    #[error("watch for signals: {0}")]
    Signals(std::io::Error),
}

fn main() -> ExitCode {
    let options = Options::from_arguments();
    match boot(&options) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("\n{error}\n"));
            if options.run.is_some() { ExitCode::from(NO_MACHINE) } else { ExitCode::FAILURE }
        }
    }
}

fn boot(options: &Options) -> Result<ExitCode, BootError> {
    let run = match &options.run {
        Some(text) => Some(shlex::split(text).ok_or_else(|| BootError::Quote(text.clone()))?),
        None => None,
    };
    if run.as_ref().is_some_and(Vec::is_empty) {
        return Err(BootError::NoCommand);
    }
    let asked: Vec<Forward> = options.ports.iter().map(|publish| publish.0).collect();
    let mut hosts: Vec<u16> = asked.iter().map(|forward| forward.host).collect();
    hosts.sort_unstable();
    if let Some(pair) = hosts.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BootError::Twice(pair[0]));
    }
    let mut screen = Screen::new();
    let artefacts = Artefacts::build(options.kernel.as_deref(), &mut |line| screen.step(line))?;
    let interrupts = Interrupts::watch().map_err(BootError::Signals)?;
    let machine = start(options, &asked, &artefacts, &mut screen)?;
    let boot = Boot::default();
    // Nobody in here outlives the machine, which takes its folder with it.
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| interrupts.serve(&machine));
        scope.spawn(|| boot.watch(&machine));
        let ended = if let Some(words) = run {
            session::run(&machine, &words, options.timing, &interrupts, &boot)
        } else {
            let _keyboard = Keyboard::connect(&machine);
            scope.spawn(|| session::introduce(&machine, &asked, options.timing, &boot));
            Ok(session::wait(&machine, &interrupts))
        };
        // Whatever it was: those who wait for the machine end with it.
        machine.kill();
        interrupts.end();
        ended
    });
    match boot.panic() {
        Some(said) => Err(BootError::Panic { said: said.to_owned(), memory: advice(options.memory) }),
        None => Ok(ended?),
    }
}

/// What may have been the reason of a panic.
fn advice(memory_mib: u32) -> String {
    if memory_mib >= ENOUGH_MIB {
        return String::new();
    }
    format!("\n{memory_mib} MiB of memory may be too little for it: {ENOUGH_MIB} are enough")
}

fn start(
    options: &Options,
    asked: &[Forward],
    artefacts: &Artefacts,
    screen: &mut Screen,
) -> Result<Machine, BootError> {
    let mut builder = Machine::builder(artefacts, "boot")
        .memory_mib(options.memory)
        .cpus(options.cpus)
        .blank_state(STATE_BYTES)
        .may_reboot();
    if let Some(folder) = &options.units {
        builder = builder.unit_folder(folder);
    }
    for image in &options.images {
        builder = builder.image(image);
    }
    for words in &options.append {
        builder = builder.append(words);
    }
    if let Some(disk) = &options.disk {
        make_disk(disk).map_err(|source| BootError::Disk { path: disk.display().to_string(), source })?;
        builder = builder.kept_state_file(disk);
    }
    for forward in session::forwards(asked) {
        builder = builder.forward_from(forward.host, forward.guest);
    }
    let echo: Option<Echo> = if options.headless { None } else { Some(Box::new(|bytes: &[u8]| say(&harmless(bytes)))) };
    Ok(builder.start_with(echo, &mut |line| screen.step(line))?)
}

/// A blank disk on the first use; later ones find their state in it.
fn make_disk(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() == 0 {
        file.set_len(STATE_BYTES)?;
    }
    Ok(())
}
