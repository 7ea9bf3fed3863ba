//! What `cargo boot` can be told.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use qemu_tests::Forward;

/// Build an Orlop machine, boot it in QEMU and show where its demo answers.
#[derive(Debug, Parser)]
#[command(name = "cargo boot --", bin_name = "cargo boot --", after_help = EXAMPLES, disable_version_flag = true)]
pub(crate) struct Options {
    /// Unit files (*.container) for the machine's /etc/containers.d
    #[arg(long, value_name = "DIR")]
    pub(crate) units: Option<PathBuf>,

    /// OCI image to preload: a layout folder, an oci-archive or a docker-archive (repeatable)
    #[arg(long = "image", value_name = "PATH")]
    pub(crate) images: Vec<PathBuf>,

    /// Reach a port of the machine from this host (repeatable); 8080:8080 is always there
    #[arg(short = 'p', long = "publish", value_name = "HOST:GUEST")]
    pub(crate) ports: Vec<Publish>,

    /// Keep the machine's state in this file, made if missing (default: a fresh disk, gone at the end)
    #[arg(long, value_name = "FILE")]
    pub(crate) disk: Option<PathBuf>,

    /// Memory of the machine in MiB, or with a suffix M or G
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = mebibytes)]
    pub(crate) memory: u32,

    /// Virtual CPUs
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,

    /// Boot this kernel instead of the distribution's: a kernel package (.deb), or a bzImage with a `modules` folder
    /// beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,

    /// Words for the kernel's command line, such as `ip=off` or `orlop.debug` (repeatable)
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) append: Vec<String>,

    /// Do not show the machine's console
    #[arg(long)]
    pub(crate) headless: bool,

    /// Show when each stage of the boot was reached
    #[arg(long)]
    pub(crate) timing: bool,

    /// Boot, wait until every enabled unit is settled, run `orlop ARGS` against the machine, print what it prints, power
    /// off, exit with its exit status (125: the machine itself did not get that far)
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) run: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  cargo boot                                        the machine with its demo on http://127.0.0.1:8080
  cargo boot -- --units my-units --image web.tar    your own units and image
  cargo boot -- -p 8443:443 --disk state.img        one more port; state kept for the next boot
  cargo boot -- --run 'ps --json'                   boot, ask, power off
  cargo boot -- --headless --timing                 no console, a table of the boot's stages

Ctrl-C powers the machine off in order, a second Ctrl-C cuts its power.
ORLOP_ACCEL=kvm|tcg overrules the choice of the accelerator, which is made by running a guest.";

impl Options {
    /// The arguments, also when they come with cargo's own separator: the alias has one already.
    pub(crate) fn from_arguments() -> Self {
        let mut arguments: Vec<_> = std::env::args_os().collect();
        if arguments.get(1).is_some_and(|first| first == "--") {
            arguments.remove(1);
        }
        Self::parse_from(arguments)
    }
}

/// HOST:GUEST, or one number for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish(pub(crate) Forward);

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |word: &str| match word.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("`{word}` is not a port; write HOST:GUEST, for example 8443:443")),
        };
        let (host, guest) = text.split_once(':').unwrap_or((text, text));
        Ok(Self(Forward { host: port(host)?, guest: port(guest)? }))
    }
}

fn mebibytes(text: &str) -> Result<u32, String> {
    let (number, factor) = match text.strip_suffix(['M', 'm']) {
        Some(number) => (number, 1),
        None => text.strip_suffix(['G', 'g']).map_or((text, 1), |number| (number, 1024)),
    };
    let size = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    size.filter(|size| *size > 0).ok_or_else(|| format!("`{text}` is not a size; write for example 256 or 1G"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn ports_and_sizes() {
        assert_eq!("8443:443".parse(), Ok(Publish(Forward { host: 8443, guest: 443 })));
        assert_eq!("80".parse(), Ok(Publish(Forward { host: 80, guest: 80 })));
        for wrong in ["", "0:80", "80:", "web", "1:2:3", "70000"] {
            assert!(wrong.parse::<Publish>().is_err(), "{wrong}");
        }
        assert_eq!((mebibytes("96"), mebibytes("96M"), mebibytes("2G")), (Ok(96), Ok(96), Ok(2048)));
        assert!(mebibytes("lots").is_err() && mebibytes("0").is_err());
    }

    #[test]
    fn a_run_and_an_append_may_begin_with_a_hyphen() {
        let options = Options::parse_from(["boot", "--run", "--json ps", "--append", "-x"]);
        assert_eq!(options.run.as_deref(), Some("--json ps"));
    }
}
