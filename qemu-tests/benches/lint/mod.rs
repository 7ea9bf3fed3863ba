//! `orlop lint` on a folder of ten thousand units, on the host: what it takes of one CPU and of memory.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use nix::sys::resource::{UsageWho, getrusage};
use qemu_tests::Artefacts;

use super::{Result, Row, row};

pub(super) const NAMES: [&str; 2] = ["lint.cpu", "lint.memory"];

/// Set in the process that has one child only, so that what its children took is what `orlop` took.
const FOLDER: &str = "ORLOP_BENCH_LINT";
const PROGRAM: &str = "ORLOP_BENCH_PROGRAM";
const UNITS: usize = 10_000;

pub(super) fn measure(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    write_units(folder.path())?;
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.env(FOLDER, folder.path()).env(PROGRAM, &artefacts.programs.orlop).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(seconds)), Some(Ok(kib))) => {
            Ok(vec![row(NAMES[0], seconds, "seconds of CPU"), row(NAMES[1], kib, "KiB")])
        }
        _ => Err(format!("lint: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// In the process of its own: runs the one child and says what it took.
pub(super) fn child() -> Option<Result<()>> {
    let (folder, program) = (std::env::var_os(FOLDER)?, std::env::var_os(PROGRAM)?);
    Some(run(Path::new(&program), Path::new(&folder)))
}

fn run(program: &Path, folder: &Path) -> Result<()> {
    let output = Command::new(program).arg("lint").arg(folder).output()?;
    let summary = String::from_utf8_lossy(&output.stdout);
    if !summary.ends_with(&format!("{UNITS} units: 0 errors, 0 warnings\n")) {
        return Err(summary.into_owned().into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    println!("{} {}", seconds(usage.user_time()) + seconds(usage.system_time()), usage.max_rss());
    Ok(())
}

/// Each as long as units are, each after the one before it.
fn write_units(folder: &Path) -> Result<()> {
    for index in 0..UNITS {
        let mut text = format!(
            "[Unit]\nDescription=Application %N\nWants=network-online.target\nAfter=network-online.target\n\n[Container]\n\
             Image=docker.io/library/application:{index}\nNetwork=host\nVolume=data{index}:/var/lib/data\nTmpfs=/tmp:size=64M\n\
             Environment=MODE=production \"GREETING=Hello %p\" NUMBER={index}\nReadOnly=true\nMemory=128M\nUser=1000\n\
             DropCapability=all\nAddCapability=CAP_NET_BIND_SERVICE\nExec=/bin/server --port 80 \\\n    --name %N\n\n[Service]\n\
             Restart=always\nRestartSec=5s\nTimeoutStopSec=20\nCPUWeight=50\n\n[Install]\nWantedBy=multi-user.target\n"
        );
        if index > 0 {
            writeln!(text, "[Unit]\nAfter=unit{}.container", index - 1)?;
        }
        fs::write(folder.join(format!("unit{index}.container")), text)?;
    }
    Ok(())
}
