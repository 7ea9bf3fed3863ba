//! What conditions ask of the machine.

use std::{fs, path::Path};

use crate::unit::compare::{self, Operator, glob};

pub(super) fn first_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().trim_end().to_owned()
}

pub(super) fn is_architecture(name: &str) -> bool {
    let own = match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        other => other,
    };
    name == "native" || name == own
}

pub(super) fn has_firmware(argument: &str) -> Result<bool, String> {
    let inside = |name: &str| argument.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(wanted) = inside("device-tree-compatible") {
        let known = fs::read_to_string("/proc/device-tree/compatible").unwrap_or_default();
        return Ok(known.split('\0').any(|known| known == wanted));
    }
    if let Some(rest) = inside("smbios-field") {
        let at = rest.find(['$', '!', '<', '>', '=']).ok_or("a comparison is missing")?;
        let (operator, wanted) = Operator::split(&rest[at..]).ok_or("a comparison is missing")?;
        let field = rest[..at].trim_end();
        if field.contains('/') {
            return Err(format!("{field} is no field"));
        }
        let path = Path::new("/sys/class/dmi/id").join(field);
        return if path.exists() { operator.holds(&first_line(&path), wanted.trim_matches('"')) } else { Ok(false) };
    }
    match argument {
        "uefi" => Ok(Path::new("/sys/firmware/efi").exists()),
        "device-tree" => Ok(Path::new("/sys/firmware/devicetree").exists()),
        other => Err(format!("no firmware is called {other}")),
    }
}

/// The hypervisor below this machine, as systemd calls it: what SMBIOS says where that is more than the CPU's own word.
fn hypervisor() -> Option<&'static str> {
    const VENDORS: [(&str, &str); 17] = [
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("KubeVirt", "kvm"),
        ("Amazon EC2", "amazon"),
        ("QEMU", "qemu"),
        ("VMware", "vmware"),
        ("VMW", "vmware"),
        ("innotek GmbH", "oracle"),
        ("VirtualBox", "oracle"),
        ("Xen", "xen"),
        ("Bochs", "bochs"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
        ("Hyper-V", "microsoft"),
        ("Apple Virtualization", "apple"),
        ("Google Compute Engine", "google"),
        ("Virtual Machine", "microsoft"),
    ];
    const SIGNATURES: [(&[u8; 12], &str); 9] = [
        (b"XenVMMXenVMM", "xen"),
        (b"KVMKVMKVM\0\0\0", "kvm"),
        (b"Linux KVM Hv", "kvm"),
        (b"TCGTCGTCGTCG", "qemu"),
        (b"VMwareVMware", "vmware"),
        (b"Microsoft Hv", "microsoft"),
        (b"bhyve bhyve ", "bhyve"),
        (b"ACRNACRNACRN", "acrn"),
        (b"SRESRESRESRE", "sre"),
    ];
    let dmi =
        ["product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"].iter().find_map(|field| {
            let said = first_line(&Path::new("/sys/class/dmi/id").join(field));
            VENDORS.iter().find(|(vendor, _)| said.starts_with(vendor)).map(|(_, name)| *name)
        });
    let cpu = signature().and_then(|said| SIGNATURES.iter().find(|(known, _)| **known == said)).map(|(_, name)| *name);
    match dmi {
        Some("oracle" | "amazon" | "google" | "parallels") => dmi,
        _ => cpu.or(dmi).or_else(|| signature().map(|_| "vm-other")),
    }
}

#[cfg(target_arch = "x86_64")]
fn signature() -> Option<[u8; 12]> {
    use std::arch::x86_64::__cpuid;
    if __cpuid(1).ecx & 1 << 31 == 0 {
        return None;
    }
    let said = __cpuid(0x4000_0000);
    let mut text = [0; 12];
    for (part, register) in text.chunks_mut(4).zip([said.ebx, said.ecx, said.edx]) {
        part.copy_from_slice(&register.to_le_bytes());
    }
    Some(text)
}

#[cfg(not(target_arch = "x86_64"))]
fn signature() -> Option<[u8; 12]> {
    None
}

/// The supervisor itself is in no container. `yes`: the argument as a boolean.
pub(super) fn is_virtual(argument: &str, yes: Option<bool>) -> bool {
    let found = hypervisor();
    match (yes, argument) {
        (Some(wanted), _) => found.is_some() == wanted,
        (None, "vm") => found.is_some(),
        (None, name) => found == Some(name),
    }
}

pub(super) fn is_called(argument: &str, hostname: &str, machine_id: &str) -> Result<bool, String> {
    let plain: String = argument.chars().filter(|c| *c != '-').collect();
    if plain.len() == 32 && plain.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(plain.eq_ignore_ascii_case(machine_id));
    }
    Ok(glob(argument, "(?i)")?.is_match(hostname))
}

/// A word of the kernel's command line: as it is, or without a `=` also the name before one.
pub(super) fn has_word(line: &str, wanted: &str) -> bool {
    let is = |word: &str| word == wanted || (!wanted.contains('=') && word.split('=').next() == Some(wanted));
    line.split_ascii_whitespace().any(is)
}

/// A machine without any supply has it too.
pub(super) fn has_ac_power(supplies: &Path) -> bool {
    let (mut off, mut discharging) = (false, false);
    for supply in fs::read_dir(supplies).into_iter().flatten().flatten() {
        let read = |name: &str| first_line(&supply.path().join(name));
        match read("type").as_str() {
            "Mains" | "USB" if read("online") == "1" => return true,
            "Mains" => off = true,
            "Battery" => discharging |= read("status") == "Discharging" && read("scope") != "Device",
            _ => {}
        }
    }
    !off && !discharging
}

/// systemd's names are cpuid's own, three of which the kernel calls otherwise.
pub(super) fn has_cpu_feature(cpuinfo: &str, name: &str) -> bool {
    let name = match name {
        "pclmul" => "pclmulqdq",
        "fma3" => "fma",
        "osxsave" => "xsave",
        other => other,
    };
    let line = cpuinfo.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.and_then(|line| line.split_once(':')).is_some_and(|(_, all)| all.split_ascii_whitespace().any(|f| f == name))
}

/// There is the one hierarchy of version 2 here.
pub(super) fn has_controllers(there: &str, wanted: &str) -> bool {
    let known = |name: &str| there.split_ascii_whitespace().any(|there| there == name);
    match wanted {
        "v2" => true,
        "v1" => false,
        names => names.split([' ', ',']).filter(|name| !name.is_empty()).all(known),
    }
}

/// proc(5)'s averages: of all tasks where the kernel tells that, else of some.
pub(super) fn is_calm(file: &Path, argument: &str) -> Result<bool, String> {
    let (most, average) = compare::pressure(argument)?;
    // A kernel without the file measures nothing; systemd goes on then.
    let Ok(text) = fs::read_to_string(file) else { return Ok(true) };
    let of = |who: &str| text.lines().find(|line| line.starts_with(who)).map(str::to_owned);
    let line = of("full").or_else(|| of("some")).ok_or("the kernel's file has no such line")?;
    let now = line.split(' ').find_map(|word| word.strip_prefix(average)?.parse::<f64>().ok());
    Ok(now.ok_or("the kernel's file has no such average")? <= most)
}

/// Loaded and ready, or a part of the kernel.
pub(super) fn has_module(name: &str) -> bool {
    let name = name.replace('-', "_");
    let folder = Path::new("/sys/module").join(&name);
    !name.contains('/') && folder.is_dir() && matches!(first_line(&folder.join("initstate")).as_str(), "" | "live")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_features_controllers_and_names() {
        let line = "console=ttyS0 quiet orlop.debug";
        assert!(has_word(line, "quiet") && has_word(line, "console") && has_word(line, "console=ttyS0"));
        assert!(!has_word(line, "console=tty") && !has_word(line, "cons") && !has_word(line, "quiet="));
        let cpuinfo = "processor\t: 0\nflags\t\t: fpu sse2 pclmulqdq xsave\n";
        assert!(has_cpu_feature(cpuinfo, "sse2") && has_cpu_feature(cpuinfo, "pclmul"));
        assert!(!has_cpu_feature(cpuinfo, "sse") && !has_cpu_feature("", "fpu"));
        assert!(has_controllers("cpu io memory", "cpu memory") && has_controllers("", "v2"));
        assert!(!has_controllers("cpu io", "cpu,memory") && !has_controllers("cpu", "v1"));
        assert_eq!(is_called("WEB*", "web1", ""), Ok(true));
        assert_eq!(is_called("web", "web1", ""), Ok(false));
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(is_called("01234567-89AB-cdef-0123-456789abcdef", "x", id), Ok(true));
        assert_eq!(is_called(id, id, "else"), Ok(false), "an id is one");
    }

    #[test]
    fn pressure_and_power() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory");
        let some = "some avg10=9.00 avg60=30.00 avg300=1.50 total=9\n";
        fs::write(&file, some).unwrap();
        assert_eq!(is_calm(&file, "2%"), Ok(true));
        assert_eq!(is_calm(&file, "2%/1min"), Ok(false));
        fs::write(&file, format!("{some}full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")).unwrap();
        assert_eq!(is_calm(&file, "2% / 1min"), Ok(true), "of all tasks, where that is told");
        assert_eq!(is_calm(Path::new("/none"), "2%"), Ok(true));

        let supplies = folder.path().join("supplies");
        let supply = |name: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(supplies.join(name)).unwrap();
            files.iter().for_each(|(file, text)| fs::write(supplies.join(name).join(file), text).unwrap());
        };
        assert!(has_ac_power(&supplies));
        supply("BAT0", &[("type", "Battery\n"), ("status", "Discharging\n")]);
        assert!(!has_ac_power(&supplies));
        supply("AC", &[("type", "Mains\n"), ("online", "1\n")]);
        assert!(has_ac_power(&supplies));
        supply("AC", &[("online", "0\n")]);
        supply("BAT0", &[("status", "Full\n")]);
        assert!(!has_ac_power(&supplies));
    }
}
