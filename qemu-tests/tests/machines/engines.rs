//! Other people's engines on our runtime: the cases of `cargo engines` that take no more than a moment each.

use qemu_tests::Artefacts;
use qemu_tests::engines::{Guest, Security, Verdict, run_cases};

fn short_cases_hold(security: Security, at_least: usize) {
    let guest = Guest::boot(Artefacts::shared(), security, 2, &mut |line| eprintln!("{line}")).unwrap();
    let verdicts = run_cases(&guest, |case| case.short, |verdict| println!("{verdict}")).unwrap();
    let failed: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.holds()).collect();
    let all = verdicts.len();
    assert!(failed.is_empty() && all >= at_least, "{} of {all} cases do not hold", failed.len());
}

#[test]
fn podman_containerd_and_docker_of_debian_use_the_runtime() {
    short_cases_hold(Security::AppArmor, 4);
}

#[test]
fn selinux_labels_are_the_containers() {
    short_cases_hold(Security::Selinux, 3);
}
