//! The runtime's file lies on the machine's sealed root: no container comes to write to it, whatever way it gets there (CVE-2019-5736).

use crate::support::{probe_unit, run_probe, state};
use qemu_tests::{Artefacts, Machine};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// A program that is run by whatever runs it.
const SCRIPT: &str = "#!/proc/self/exe\n";

fn digest(machine: &Machine, unit: &str) -> String {
    let shown = run_probe(machine, unit, "/host/orlop-oci: ").unwrap();
    shown.into_iter().find(|line| line.starts_with("/host/orlop-oci: ")).unwrap()
}

#[test]
fn no_container_writes_to_the_programs_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, SCRIPT).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let layout = folder.path().join("layout");
    Artefacts::shared().pack_probe(&[&script], &layout).unwrap();

    let check = |command: &str| format!("HealthCmd={command}\nHealthInterval=200ms\nHealthRetries=1\n");
    // Who may not trace a program does not see its file.
    let may_trace = "AddCapability=SYS_PTRACE\n";
    let read = probe_unit("digest /host/orlop-oci", "Volume=/usr/bin:/host:ro") + "[Service]\nType=oneshot\n";
    let machine = Machine::builder(Artefacts::shared(), "seizure")
        .image(&layout)
        .unit("before.container", &read)
        .unit("after.container", &read)
        // The runtime comes in as a script's interpreter, and on its way to another program.
        .unit("script.container", &probe_unit("seize /proc", &(check("[\"/script\",\"word\"]") + may_trace)))
        .unit("plain.container", &probe_unit("seize /proc", &(check("[\"/probe\",\"show\"]") + may_trace)))
        // Every process of the machine, which a unit that is given its procfs sees: PID 1 too.
        .unit("host.container", &probe_unit("seize /host", &format!("Volume=/proc:/host\n{may_trace}")))
        .unit("entry.container", "[Container]\nImage=localhost/probe:latest\nNetwork=host\nEntrypoint=/script\n")
        .start()
        .unwrap();
    machine.settled().unwrap();
    let before = digest(&machine, "before");

    for thief in ["script", "plain", "host"] {
        machine.post(&format!("/v1/units/{thief}/start")).unwrap();
    }
    let _ = machine.post("/v1/units/entry/start?no_block=true");
    let failed = |unit: &Value| state(unit) == "failed";
    let entry = machine.wait_until("the end of entry", || Ok(Some(machine.unit("entry")?).filter(failed))).unwrap();
    assert_ne!(entry["exit_code"], 0, "{entry:#}");
    let refused = |program: &str| format!("refused {program}: Read-only file system (os error 30)");
    for thief in ["script", "plain", "host"] {
        machine.wait_for_log(thief, &refused("/usr/bin/orlop-oci")).unwrap();
    }
    for program in ["/sbin/init", "/usr/bin/orlop"] {
        machine.wait_for_log("host", &refused(program)).unwrap();
    }
    for thief in ["script", "plain", "host"] {
        let told = machine.log(thief).unwrap();
        // What other containers run lies in their own roots.
        let wrote = ["wrote /usr", "wrote /sbin"].map(|words| told.iter().any(|line| line.starts_with(words)));
        assert_eq!(wrote, [false; 2], "{told:#?}");
    }

    assert_eq!(digest(&machine, "after"), before);
    let again = machine.post("/v1/units/plain/restart").unwrap();
    assert_eq!(state(&again), "active", "{again:#}");
}
