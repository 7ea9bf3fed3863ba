//! Other people's engines on our runtime: the cases of `cargo engines` that take no more than a moment each.

use qemu_tests::Artefacts;
use qemu_tests::engines::{Guest, Verdict, run_cases};

#[test]
fn podman_and_containerd_of_debian_use_the_runtime() {
    let guest = Guest::boot(Artefacts::shared(), 2, &mut |line| eprintln!("{line}")).unwrap();
    let verdicts = run_cases(&guest, |case| case.short, |verdict| println!("{verdict}")).unwrap();
    let failed: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.holds()).collect();
    assert!(failed.is_empty() && verdicts.len() > 2, "{} of {} cases do not hold", failed.len(), verdicts.len());
}
