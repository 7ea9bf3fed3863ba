//! `orlop-image`: builds the parts of a machine by hand. What it prints on standard output is what it made; steps and
//! errors go to standard error.

use clap::{Args, Parser, Subcommand};
use initramfs::{Error, Kernel, PackConfig, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    version,
    about = "Builds what an Orlop machine boots from",
    after_help = "Examples:
  orlop-image build                             kernel, initramfs and root image; prints where they are
  orlop-image build --to ./machine              … and copies them into a folder
  orlop-image seed --units ./units --image web.tar
  orlop-image disk --state 16G                  a raw disk with both root slots
  orlop-image pack ./rootfs localhost/web:1 ./images --entrypoint /web --port 8080/tcp

Nothing needs root, except installing missing tools (erofs-utils, xfsprogs)."
)]
struct Cli {
    /// Where results and caches are kept [default: target/orlop of the repository]
    #[arg(long, global = true, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch the distribution's cloud kernel, or look at one that is given
    Kernel {
        #[command(flatten)]
        kernel: KernelArgs,
        /// Ask the distribution for a newer one
        #[arg(long, conflicts_with = "kernel")]
        update: bool,
    },
    /// Build the programs, the initramfs and the root image
    Build {
        #[command(flatten)]
        kernel: KernelArgs,
        /// Copy kernel, initramfs and root image into this folder
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Print paths and sizes as JSON
        #[arg(long)]
        json: bool,
    },
    /// Build a provisioning disk of unit files and images
    Seed {
        /// Unit files for /etc/containers.d: a folder, or one file
        #[arg(long, value_name = "DIR")]
        units: Option<PathBuf>,
        /// An image: OCI layout folder, oci-archive or docker-archive (repeatable)
        #[arg(long = "image", value_name = "PATH")]
        images: Vec<PathBuf>,
    },
    /// Build a raw disk: both root slots and a blank state partition
    Disk {
        #[command(flatten)]
        kernel: KernelArgs,
        /// Size of the state partition: a number of bytes, or with K, M, G or T
        #[arg(long, default_value = "16G", value_name = "SIZE", value_parser = size)]
        state: u64,
    },
    /// Pack a folder as an OCI image
    Pack {
        /// The container's root file system
        rootfs: PathBuf,
        /// The image's name, such as localhost/web:1
        reference: String,
        /// The OCI layout folder to add it to; made when missing
        layout: PathBuf,
        /// The program to run; repeat for its arguments
        #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
        entrypoint: Vec<String>,
        /// Default arguments; repeat for each
        #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
        cmd: Vec<String>,
        /// NAME=value; repeatable
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// user, uid or uid:gid
        #[arg(long)]
        user: Option<String>,
        #[arg(long, value_name = "DIR")]
        workdir: Option<String>,
        /// A port it listens on, such as 8080/tcp; repeatable
        #[arg(long, value_name = "PORT")]
        port: Vec<String>,
        #[arg(long, value_name = "SIGNAL")]
        stop_signal: Option<String>,
    },
}

#[derive(Args)]
struct KernelArgs {
    /// A kernel package (.deb), a folder of them or of an unpacked one, or a kernel image with its modules beside it
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orlop-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let out = cli.out.unwrap_or_else(initramfs::out);
    let progress = &mut |step: &str| eprintln!("  {step}");
    match cli.verb {
        Verb::Kernel { update: true, .. } => show_kernel(&initramfs::update_kernel(&out, progress)?),
        Verb::Kernel { kernel, .. } => show_kernel(&initramfs::kernel(&out, kernel.kernel.as_deref(), progress)?),
        Verb::Build { kernel, to, json } => {
            let kernel = initramfs::kernel(&out, kernel.kernel.as_deref(), progress)?;
            let image = initramfs::image(&out, &kernel, &initramfs::programs(progress)?, progress)?;
            let mut parts = vec![("kernel", kernel.image), ("initramfs", image.initramfs), ("root", image.root)];
            parts.extend(kernel.vmlinux.map(|vmlinux| ("vmlinux", vmlinux)));
            if let Some(folder) = to {
                copy_to(&folder, &mut parts)?;
            }
            if json {
                let sizes: serde_json::Map<_, _> =
                    image.sizes.list().iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes))).collect();
                let paths: serde_json::Map<_, _> =
                    parts.iter().map(|(name, path)| ((*name).to_owned(), json!(path))).collect();
                println!("{}", json!({ "release": kernel.release, "paths": paths, "sizes": sizes }));
            } else {
                parts.iter().for_each(|(name, path)| println!("{name:<10} {}", path.display()));
                println!("{:<10} {}", "release", kernel.release);
            }
        }
        Verb::Seed { units, images } => {
            println!("{}", initramfs::seed_disk(&out, units.as_deref(), &images, progress)?.display());
        }
        Verb::Disk { kernel, state } => {
            let kernel = initramfs::kernel(&out, kernel.kernel.as_deref(), progress)?;
            let image = initramfs::image(&out, &kernel, &initramfs::programs(progress)?, progress)?;
            println!("{}", initramfs::raw_disk(&out, &image, state, progress)?.display());
        }
        Verb::Pack { rootfs, reference, layout, entrypoint, cmd, env, user, workdir, port, stop_signal } => {
            let config =
                PackConfig { entrypoint, cmd, env, user, working_dir: workdir, exposed_ports: port, stop_signal };
            initramfs::pack(&rootfs, &reference, &config, &layout)?;
            println!("{}", layout.display());
        }
    }
    Ok(())
}

fn show_kernel(kernel: &Kernel) {
    println!("release    {}", kernel.release);
    println!("image      {}", kernel.image.display());
    println!("modules    {}", kernel.modules.display());
    match &kernel.vmlinux {
        Some(vmlinux) => println!("vmlinux    {}", vmlinux.display()),
        None => println!("vmlinux    none: this image has no entry for a direct boot of its payload"),
    }
}

/// Copies the parts under plain names and lets the list name the copies.
fn copy_to(folder: &Path, parts: &mut [(&str, PathBuf)]) -> Result<()> {
    let failed = |verb, path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { verb, path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed("create", folder))?;
    for (name, path) in parts {
        let file = match *name {
            "kernel" => "vmlinuz",
            "initramfs" => "initramfs.img",
            "root" => "root.erofs",
            other => other,
        };
        let target = folder.join(file);
        std::fs::copy(&path, &target).map_err(failed("copy", path))?;
        *path = target;
    }
    Ok(())
}

/// `16G`, `512M`, `1048576`.
fn size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &text[digits.len()..].to_ascii_uppercase()[..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("{unit} is no unit of sizes; use K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number, such as 16G".to_owned())?;
    number.checked_mul(1 << factor).ok_or_else(|| "that is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("16G"), Ok(16 << 30));
        assert_eq!(size("512m"), Ok(512 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert!(size("16X").unwrap_err().contains("X is no unit"));
        assert!(size("G").is_err());
        assert!(size("99999999999T").is_err());
    }
}
