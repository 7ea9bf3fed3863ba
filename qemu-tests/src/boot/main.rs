//! `cargo boot`: from a fresh checkout to containers that answer, in one command.

mod keyboard;
mod options;
mod screen;
mod session;

use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use keyboard::Keyboard;
use options::Options;
use qemu_tests::{Artefacts, BuildError, Echo, Machine, MachineError};
use screen::{Screen, harmless, say};

/// The machine did not get as far as running the command of `--run`: podman's number for "not the command's fault".
const NO_MACHINE: u8 = 125;
/// Of a fresh state disk; sparse on the host.
const STATE_BYTES: u64 = 8 << 30;

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
    let mut screen = Screen::new();
    let artefacts = Artefacts::build(options.kernel.as_deref(), &mut |line| screen.step(line))?;
    let machine = start(options, &artefacts, &mut screen)?;
    let interrupts = session::Interrupts::watch(&machine).map_err(BootError::Signals)?;
    if let Some(words) = run {
        return Ok(session::run(&machine, &words, options.timing, &interrupts)?);
    }
    let _keyboard = Keyboard::connect(&machine);
    let introduced = Arc::clone(&machine);
    let timing = options.timing;
    std::thread::spawn(move || session::introduce(&introduced, timing));
    Ok(session::wait(&machine, &interrupts))
}

fn start(options: &Options, artefacts: &Artefacts, screen: &mut Screen) -> Result<Arc<Machine>, BootError> {
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
    let asked: Vec<_> = options.ports.iter().map(|publish| publish.0).collect();
    for forward in session::forwards(&asked) {
        builder = builder.forward_from(forward.host, forward.guest);
    }
    let echo: Option<Echo> = if options.headless { None } else { Some(Box::new(|bytes: &[u8]| say(&harmless(bytes)))) };
    Ok(Arc::new(builder.start_with(echo, &mut |line| screen.step(line))?))
}

/// A blank disk on the first use; later ones find their state in it.
fn make_disk(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() == 0 {
        file.set_len(STATE_BYTES)?;
    }
    Ok(())
}
