//! The Orlop side: the measuring program runs in a container that has the client and the control socket.

use qemu_tests::{Artefacts, Machine};

use super::{Meter, now, rows, script, subjects, unit};
use crate::{Result, Row, row};

const COUNTS: [u32; 4] = [10, 30, 100, 500];
const MEMORY_MIB: u32 = 2048;
const WAITS: u32 = 10;

pub(super) fn measure(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&artefacts.out)?;
    let layout = folder.path().join("layout");
    artefacts.pack_probe(&[&artefacts.nothing()], &layout)?;
    let mut builder = Machine::builder(artefacts, "bench-supervise").counting_instructions().image(&layout);
    for (name, text) in subjects(COUNTS[COUNTS.len() - 1]) {
        builder = builder.unit(&name, &text);
    }
    let host = "Volume=/usr/bin/orlop:/orlop:ro\nVolume=/run/orlop:/run/orlop\nVolume=/proc/sys/vm:/vm";
    let words: Vec<String> = script("/orlop", &COUNTS).iter().map(|line| format!("\"{line}\"")).collect();
    let meter =
        unit(&format!("measure {}", words.join(" ")), host, "[Service]\nType=oneshot\nTimeoutStartSec=infinity");
    let machine = builder.unit("meter.container", &meter).memory_mib(MEMORY_MIB).start()?;
    machine.settled()?;
    let stages = machine.get("/v1/system/timing")?;
    let stage = stages.as_array().into_iter().flatten().find(|stage| stage["name"] == "init");
    let began = stage.and_then(|stage| stage["at_ns"].as_f64()).ok_or("no stage init")?;
    let (clock, idle) = now(&machine.log("first")?.join("\n"))?;
    machine.post("/v1/units/meter/start?no_block=true")?;
    // One wait is too short for five hundred containers on a busy host.
    let ended = (0..WAITS).map(|_| machine.wait_for_log("meter", "exited")).find(std::result::Result::is_ok);
    ended.ok_or("the measuring program did not end")??;
    let said = machine.log("meter")?.join("\n");
    let mut rows = rows(&Meter::read(&said), &COUNTS, "orlop").map_err(|error| format!("{error}\n{said}"))?;
    // Before PID 1 the machine is never idle.
    rows.push(row("supervise.boot", (clock - began - idle) / 1e6, "million instructions"));
    Ok(rows)
}
