//! `Condition…=` and `Assert…=`.

use crate::unit::{
    Condition,
    compare::{self, Operator},
    sheet::Sheet,
};

/// As they follow each other in the files.
pub(super) fn conditions(sheet: &mut Sheet<'_>) -> Vec<Condition> {
    let mut all = Vec::new();
    let keys: Vec<&str> =
        sheet.keys_of("Unit").into_iter().filter(|k| k.starts_with("Condition") || k.starts_with("Assert")).collect();
    for (key, value) in sheet.in_order("Unit", &keys) {
        let assert = key.strip_prefix("Assert");
        let Some(check) = assert.or_else(|| key.strip_prefix("Condition")) else { continue };
        let mut rest = value.text.as_str();
        let mut sign = |sign: char| match rest.strip_prefix(sign) {
            Some(after) => {
                rest = after.trim_start();
                true
            }
            None => false,
        };
        let (trigger, negated) = (sign('|'), sign('!'));
        if let Err(expected) = argument(check, rest) {
            sheet.error(&value, format!("{}={}: {expected}", key, value.text));
        }
        all.push(Condition { check, assert: assert.is_some(), trigger, negated, argument: rest.to_owned() });
    }
    all
}

/// Of systemd.unit(5), and those that `systemd-analyze architectures` adds.
const ARCHITECTURES: [&str; 34] = [
    "x86-64",
    "arm64",
    "x86",
    "arm",
    "riscv64",
    "ppc64-le",
    "s390x",
    "native",
    "ppc",
    "ppc-le",
    "ppc64",
    "ia64",
    "parisc",
    "parisc64",
    "s390",
    "sparc",
    "sparc64",
    "mips",
    "mips-le",
    "mips64",
    "mips64-le",
    "alpha",
    "arm-be",
    "arm64-be",
    "sh",
    "sh64",
    "m68k",
    "tilegx",
    "cris",
    "nios2",
    "riscv32",
    "loongarch64",
    "arc",
    "arc-be",
];

fn argument(check: &str, text: &str) -> Result<(), String> {
    let one_of = |words: &[&str]| {
        if words.contains(&text) { Ok(()) } else { Err(format!("expected one of {}", words.join(", "))) }
    };
    match check {
        _ if text.is_empty() => Err("expected an argument".to_owned()),
        "FirstBoot" | "ACPower" => crate::unit::values::boolean(text).map(drop).map_err(str::to_owned),
        "Architecture" => one_of(&ARCHITECTURES),
        "Memory" | "CPUs" => Operator::number(text, 0)
            .map(drop)
            .map_err(|_| "expected a comparison with a number, such as >=4".to_owned()),
        "KernelVersion" => compare::version(text, "").map(drop),
        "OSRelease" => compare::release(text, "").map(drop),
        "MemoryPressure" | "CPUPressure" | "IOPressure" => compare::pressure(text).map(drop),
        "Firmware" if !text.starts_with("device-tree-compatible(") && !text.starts_with("smbios-field(") => {
            one_of(&["uefi", "device-tree", "device-tree-compatible(…)", "smbios-field(…)"])
        }
        _ if (check.starts_with("Path") || check.contains("File") || check == "DirectoryNotEmpty")
            && !text.starts_with('/') =>
        {
            Err("expected an absolute path".to_owned())
        }
        // systemd ignores such a condition ("not normalized").
        _ if text.starts_with('/') && text.split('/').any(|part| part == "..") => {
            Err("expected a path without .. in it".to_owned())
        }
        _ => Ok(()),
    }
}
