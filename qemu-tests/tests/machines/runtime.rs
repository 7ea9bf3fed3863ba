//! The runtime as the machine has it: built for the guest, on a read-only root.

use std::time::Duration;

use qemu_tests::{Artefacts, Stand};

/// Peak resident memory of the runtime and of all it starts.
const BUDGET_BYTES: u64 = 2 << 20;

#[test]
fn the_runtime_stays_in_its_memory() {
    let artefacts = Artefacts::shared();
    let mut stand = Stand::new(artefacts);
    stand.program("orlop-oci", &artefacts.programs.orlop_oci, 3);
    let text = stand.run(artefacts, "runtime", Duration::from_secs(300)).unwrap();
    assert!(!text.contains("FAILED "), "{text}");
    let results = |case: &str| -> Vec<String> {
        let mark = format!("RESULT orlop-oci {case} ");
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&mark)).unwrap_or_default();
        line.split(' ').skip(1).map(str::to_owned).collect()
    };
    for case in ["run", "run_seccomp", "cycle", "cycle_seccomp", "exec", "rss"] {
        assert_eq!(results(case).len(), 3, "{case}: {text}");
    }
    for bytes in results("rss") {
        assert!(bytes.parse::<u64>().unwrap() <= BUDGET_BYTES, "{bytes} bytes of at most {BUDGET_BYTES}");
    }
}
