//! Whose programs are wanted, in the words of image indexes (which are Go's): the machine's own, or others by request.

use std::fmt;

use oci_spec::image::{Arch, Descriptor, Os};

/// For Linux always. `Default`: what every machine of this one's kind can run.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `amd64`, `arm64`, `arm`; `None`: the machine's.
    pub architecture: Option<String>,
    /// `v8`, `v7`; `None`: any that needs nothing beyond the architecture itself.
    pub variant: Option<String>,
}

/// As in containers/image: 32-bit Arm runs what is older; the others have one that is the architecture itself.
const ARM: [&str; 4] = ["v8", "v7", "v6", "v5"];

impl Platform {
    fn architecture(&self) -> Arch {
        match &self.architecture {
            Some(name) => Arch::from(name.as_str()),
            None => host(),
        }
    }

    /// The variants that will do, the best one first. Nothing is said by "".
    fn variants(&self) -> Vec<&str> {
        let architecture = self.architecture();
        match self.variant.as_deref() {
            Some(wanted) => {
                let older = ARM.iter().skip_while(|variant| **variant != wanted);
                let older: Vec<&str> = older.copied().filter(|_| architecture == Arch::ARM).collect();
                let wanted = if older.is_empty() { vec![wanted] } else { older };
                wanted.into_iter().chain([""]).collect()
            }
            None => match architecture {
                Arch::Amd64 => vec!["", "v1"],
                Arch::ARM64 => vec!["", "v8"],
                Arch::ARM if self.architecture.is_some() => [""].into_iter().chain(ARM).collect(),
                // Others need features of the processor that nobody promised.
                _ => vec![""],
            },
        }
    }

    pub(super) fn takes(&self, os: &Os, architecture: &Arch, variant: Option<&str>) -> bool {
        *os == Os::Linux
            && *architecture == self.architecture()
            && self.variants().contains(&variant.unwrap_or_default())
    }

    /// The best entry, else the first that names no platform (its configuration is checked later).
    pub(super) fn choose<'a>(&self, entries: impl Iterator<Item = &'a Descriptor>) -> Option<Descriptor> {
        let entries: Vec<&Descriptor> = entries.collect();
        let architecture = self.architecture();
        let is = |entry: &Descriptor, variant: &str| {
            entry.platform().as_ref().is_some_and(|platform| {
                *platform.os() == Os::Linux
                    && *platform.architecture() == architecture
                    && platform.variant().as_deref().unwrap_or_default() == variant
            })
        };
        let named = self.variants().into_iter().find_map(|variant| entries.iter().find(|entry| is(entry, variant)));
        named.or_else(|| entries.iter().find(|entry| entry.platform().is_none())).map(|entry| (*entry).clone())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture())?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The architecture programs of this machine are built for.
fn host() -> Arch {
    match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        "riscv64" => Arch::RISCV64,
        other => Arch::Other(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(architecture: &str, variant: Option<&str>) -> Platform {
        Platform { architecture: Some(architecture.to_owned()), variant: variant.map(str::to_owned) }
    }

    #[test]
    fn what_is_older_will_do_and_what_is_newer_will_not() {
        assert_eq!(wanted("arm", Some("v7")).variants(), ["v7", "v6", "v5", ""]);
        assert_eq!(wanted("arm", None).variants(), ["", "v8", "v7", "v6", "v5"]);
        assert_eq!(wanted("arm64", None).variants(), ["", "v8"]);
        assert_eq!(wanted("amd64", Some("v3")).variants(), ["v3", ""]);
        assert!(wanted("amd64", None).takes(&Os::Linux, &Arch::Amd64, None));
        assert!(!wanted("amd64", None).takes(&Os::Linux, &Arch::Amd64, Some("v2")));
        assert!(!wanted("amd64", None).takes(&Os::Windows, &Arch::Amd64, None));
        assert_eq!(wanted("arm", Some("v7")).to_string(), "linux/arm/v7");
    }
}
