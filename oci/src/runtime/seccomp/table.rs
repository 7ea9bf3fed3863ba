//! Names and numbers of system calls, per architecture (from the kernel's headers, Linux 6.17).

use super::Result;
use crate::runtime::config::ConfigError;

/// Lines of name, number on x86_64, x86, x32, and where the generic table holds (aarch64); sorted by name.
const TABLE: &str = include_str!("syscalls.txt");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
}

/// What marks x32 calls under x86_64's architecture.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    const fn native() -> Arch {
        if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 }
    }

    /// AUDIT_ARCH_*.
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }

    fn column(self) -> usize {
        match self {
            Arch::X86_64 => 1,
            Arch::X86 => 2,
            Arch::X32 => 3,
            Arch::Aarch64 => 4,
        }
    }

    /// The machine's own, always, and those of the list that can run on it. A program of any other is killed at its first call.
    pub(super) fn wanted(names: &[String]) -> Result<Vec<Arch>> {
        let mut all = vec![Arch::native()];
        for name in names {
            let arch = match name.as_str() {
                "SCMP_ARCH_X86_64" => Arch::X86_64,
                "SCMP_ARCH_X86" => Arch::X86,
                "SCMP_ARCH_X32" => Arch::X32,
                "SCMP_ARCH_AARCH64" => Arch::Aarch64,
                other if other.starts_with("SCMP_ARCH_") => continue,
                other => {
                    let why = format!("{other:?} is not an architecture");
                    return Err(ConfigError::invalid("linux.seccomp.architectures", why));
                }
            };
            let runs = (arch == Arch::Aarch64) == (Arch::native() == Arch::Aarch64);
            if runs && !all.contains(&arch) {
                all.push(arch);
            }
        }
        Ok(all)
    }
}

/// The columns of a call's line.
#[derive(Clone, Copy)]
pub(super) struct Numbers(&'static str);

impl Numbers {
    pub(super) fn on(self, arch: Arch) -> Option<u32> {
        self.0.split(' ').nth(arch.column() - 1)?.parse().ok()
    }
}

/// The numbers of a call, found by halving the table: lines are short, so the start of a line is never far.
pub(super) fn numbers(name: &str) -> Option<Numbers> {
    let bytes = TABLE.as_bytes();
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = (low + high) / 2;
        let start = bytes.get(..middle)?.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = bytes.get(start..)?;
        let end = line.iter().position(|b| *b == b'\n')?;
        let space = line.iter().position(|b| *b == b' ')?;
        match line.get(..space)?.cmp(name.as_bytes()) {
            std::cmp::Ordering::Less => low = start + end + 1,
            std::cmp::Ordering::Greater => high = start,
            std::cmp::Ordering::Equal => return TABLE.get(start + space + 1..start + end).map(Numbers),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_line_is_found() {
        let names: Vec<&str> = TABLE.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert!(names.is_sorted());
        for line in TABLE.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            assert_eq!(fields.len(), 5, "{line}");
            for arch in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64] {
                assert_eq!(numbers(fields[0]).unwrap().on(arch), fields[arch.column()].parse().ok(), "{line}");
            }
        }
        for none in ["", "a", "zzz", "read ", "rea"] {
            assert!(numbers(none).is_none());
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_are_those_of_the_c_library() {
        let number = |name, arch| numbers(name).and_then(|all| all.on(arch));
        for (name, number_there) in
            [("read", libc::SYS_read), ("clone3", libc::SYS_clone3), ("mount_setattr", libc::SYS_mount_setattr)]
        {
            assert_eq!(number(name, Arch::X86_64).map(i64::from), Some(number_there));
        }
        assert_eq!(number("socketcall", Arch::X86), Some(102));
        assert_eq!(number("openat", Arch::Aarch64), Some(56));
    }
}
