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

/// All that the spec names; most cannot run on the machines this program is built for, so a filter need not know their calls.
pub(crate) const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// What marks x32 calls under x86_64's architecture.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    pub(super) const fn native() -> Arch {
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
                other if ARCHITECTURES.contains(&other) => continue,
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

/// A call's name, as a piece of the table, and its numbers; `NONE` where an architecture lacks it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    name: (u16, u8),
    numbers: [u16; 4],
}

const NONE: u16 = u16::MAX;
/// Above every number of every call.
pub(super) const NUMBERS: usize = 1024;

const COUNT: usize = {
    let (mut lines, mut at) = (0, 0);
    while at < TABLE.len() {
        lines += (TABLE.as_bytes()[at] == b'\n') as usize;
        at += 1;
    }
    lines
};

/// The table, read by the compiler: a profile has hundreds of names, and reading text for each is most of its cost.
#[allow(clippy::cast_possible_truncation)] // the table is shorter than 64 KiB
static ENTRIES: [Entry; COUNT] = {
    let text = TABLE.as_bytes();
    let mut all = [Entry { name: (0, 0), numbers: [NONE; 4] }; COUNT];
    let (mut line, mut at) = (0, 0);
    while line < COUNT {
        let start = at;
        while text[at] != b' ' {
            at += 1;
        }
        all[line].name = (start as u16, (at - start) as u8);
        let mut column = 0;
        while column < 4 {
            at += 1;
            while text[at] != b' ' && text[at] != b'\n' {
                if text[at] != b'-' {
                    let before = all[line].numbers[column];
                    let before = if before == NONE { 0 } else { before };
                    all[line].numbers[column] = before * 10 + (text[at] - b'0') as u16;
                }
                at += 1;
            }
            column += 1;
        }
        at += 1;
        line += 1;
    }
    all
};

/// Entries by the hash of their name: one more than the index, 0 for none; those that collide lie behind each other.
#[allow(clippy::cast_possible_truncation)] // fewer entries than slots, or the compiler would not come to an end
static SLOTS: [u16; NUMBERS] = {
    let mut slots = [0; NUMBERS];
    let mut index = 0;
    while index < COUNT {
        let (start, length) = ENTRIES[index].name;
        let mut at = hash(TABLE.as_bytes(), start as usize, length as usize);
        while slots[at] != 0 {
            at = (at + 1) % NUMBERS;
        }
        slots[at] = index as u16 + 1;
        index += 1;
    }
    slots
};

/// FNV-1a.
const fn hash(text: &[u8], start: usize, length: usize) -> usize {
    let (mut hash, mut at) = (0x811c_9dc5_u32, start);
    while at < start + length {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 16) as usize % NUMBERS
}

impl Entry {
    pub(super) fn on(&self, arch: Arch) -> Option<usize> {
        self.numbers.get(arch.column() - 1).copied().filter(|number| *number != NONE).map(usize::from)
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    let mut at = hash(name.as_bytes(), 0, name.len());
    loop {
        let index = usize::from(*SLOTS.get(at)?).checked_sub(1)?;
        let entry = ENTRIES.get(index)?;
        let (start, length) = (usize::from(entry.name.0), usize::from(entry.name.1));
        if same(TABLE.as_bytes().get(start..start + length)?, name.as_bytes()) {
            return Some(entry);
        }
        at = (at + 1) % NUMBERS;
    }
}

/// Eight bytes at a time: the C library compares one by one.
fn same(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let equal = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    a.len() == b.len()
        && a_rest.len() == b_rest.len()
        && a.iter().zip(b).all(equal)
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
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
                assert_eq!(find(fields[0]).unwrap().on(arch), fields[arch.column()].parse().ok(), "{line}");
            }
        }
        for none in ["", "a", "zzz", "read ", "rea"] {
            assert!(find(none).is_none());
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_are_those_of_the_c_library() {
        let number = |name, arch| find(name).and_then(|entry| entry.on(arch));
        for (name, number_there) in
            [("read", libc::SYS_read), ("clone3", libc::SYS_clone3), ("mount_setattr", libc::SYS_mount_setattr)]
        {
            assert_eq!(number(name, Arch::X86_64).map(|n| n as i64), Some(number_there));
        }
        assert_eq!(number("socketcall", Arch::X86), Some(102));
        assert_eq!(number("openat", Arch::Aarch64), Some(56));
    }
}
