//! The distribution's newest cloud kernel, by apt, as any user: lists and cache are private, the machine's own are
//! neither read nor changed, nothing is installed. The archives are the ones the machine itself is configured for.

use crate::command::{self, tool};
use crate::error::{Error, Result, at};
use crate::requirements::{self, DPKG};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel's packages, exact: name, version and size, the kernel image first.
#[derive(Debug)]
pub(super) struct Found {
    packages: Vec<Package>,
    apt: Apt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    depends: Vec<String>,
    bytes: u64,
}

/// What distribution this is (os-release(5)).
struct Host {
    id: String,
    codename: String,
    architecture: String,
}

/// One archive of the machine: where, and which suite of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Archive {
    base: String,
    suite: String,
}

/// apt with private folders.
#[derive(Debug)]
pub(crate) struct Apt {
    options: Vec<OsString>,
    folder: PathBuf,
}

/// Finds the newest kernel without downloading it.
pub(super) fn newest(work: &Path, progress: &mut dyn FnMut(&str)) -> Result<Found> {
    requirements::ensure(&[DPKG], progress)?;
    let host = host()?;
    let archives = archives(&host, work)?;
    let missing = |metapackage: &str| Error::NoKernel {
        reason: format!("the configured archives hold no {metapackage}; name a kernel with --kernel"),
    };
    match host.id.as_str() {
        "debian" => {
            let metapackage = format!("linux-image-cloud-{}", host.architecture);
            // Backports never hold an older kernel than their suite does, and their list is a small part of its size:
            // the suite itself is asked only when they have none.
            let backports = backports(&host, &archives);
            progress(&format!("look for {metapackage} in {}", names(&backports)));
            let apt = Apt::new(work, "backports", &backports)?;
            if let Some(found) = apt.update_and_find(&metapackage, &host)? {
                return Ok(Found { packages: found, apt });
            }
            progress(&format!("look for {metapackage} in {}", names(&archives)));
            let apt = Apt::new(work, "suite", &archives)?;
            let found = apt.update_and_find(&metapackage, &host)?.ok_or_else(|| missing(&metapackage))?;
            Ok(Found { packages: found, apt })
        }
        "ubuntu" => {
            // What 22.04 began with keeps erofs in a package of 100 MB of other drivers; its newer kernel does not.
            let metapackage =
                if host.codename == "jammy" { "linux-image-virtual-hwe-22.04" } else { "linux-image-virtual" };
            progress(&format!("look for {metapackage} in {}", names(&archives)));
            let apt = Apt::new(work, "suite", &archives)?;
            let found = apt.update_and_find(metapackage, &host)?.ok_or_else(|| missing(metapackage))?;
            Ok(Found { packages: found, apt })
        }
        other => Err(Error::NoKernel {
            reason: format!(
                "it is taken from Debian's or Ubuntu's archive, and this is {other}; name one with --kernel"
            ),
        }),
    }
}

impl Found {
    /// Names the folder of this kernel: package and version.
    pub(super) fn id(&self) -> String {
        self.packages.first().map_or_else(String::new, |image| format!("{}_{}", image.name, image.version))
    }

    /// Downloads the packages into a folder below `work`; apt checks their digests against the signed lists.
    pub(super) fn download(&self, work: &Path, progress: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>> {
        let folder = work.join("packages");
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        for package in &self.packages {
            progress(&format!(
                "download {} {} ({} MB)",
                package.name,
                package.version,
                package.bytes.div_ceil(1_000_000)
            ));
            let mut get = self.apt.command("apt-get");
            get.arg("download").arg(format!("{}={}", package.name, package.version)).current_dir(&folder);
            let said = format!("apt-get download {}", package.name);
            command::output(&mut get).map_err(|error| without_options(error, &said))?;
        }
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder).map_err(at("read", &folder))?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        Ok(files)
    }
}

impl Apt {
    fn new(work: &Path, name: &str, archives: &[Archive]) -> Result<Self> {
        let folder = work.join(name);
        for needed in ["lists/partial", "cache/archives/partial"] {
            let needed = folder.join(needed);
            fs::create_dir_all(&needed).map_err(at("create", &needed))?;
        }
        let sources = folder.join("sources.list");
        fs::write(&sources, archives.iter().map(Archive::source).collect::<String>()).map_err(at("write", &sources))?;
        let status = folder.join("status");
        fs::write(&status, "").map_err(at("write", &status))?;
        let path = |option: &str, value: &Path| {
            let mut text = OsString::from(format!("{option}="));
            text.push(value);
            ["-o".into(), text]
        };
        let mut options: Vec<OsString> = Vec::new();
        options.extend(path("Dir::Etc::sourcelist", &sources));
        options.extend(path("Dir::Etc::sourceparts", Path::new("/dev/null")));
        options.extend(path("Dir::State", &folder));
        options.extend(path("Dir::State::lists", &folder.join("lists")));
        // What is installed here must not decide which kernel a machine gets.
        options.extend(path("Dir::State::status", &status));
        options.extend(path("Dir::Cache", &folder.join("cache")));
        // Without this a network that is down is only a warning, and the answer would be that there is no such package.
        options.extend(["-o".into(), "APT::Update::Error-Mode=any".into()]);
        // As root apt would hand downloads to another user, who cannot write here.
        for option in ["APT::Sandbox::User=root", "Acquire::Retries=3", "Acquire::Languages=none"] {
            options.extend(["-o".into(), option.into()]);
        }
        Ok(Self { options, folder })
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = tool(program);
        command.args(&self.options);
        command
    }

    /// Fetches the lists and resolves the metapackage to the packages to unpack. An archive that cannot be read (a
    /// suite without backports) is no failure as long as the package is found elsewhere.
    fn update_and_find(&self, metapackage: &str, host: &Host) -> Result<Option<Vec<Package>>> {
        let updated = command::output(self.command("apt-get").args(["-q", "update"]));
        let Some(meta) = newest_of(self.show(metapackage))? else {
            // No package: then a failed update is the reason, unless the archive simply has no such suite.
            return match updated {
                Err(Error::Failed { output, .. }) if output.contains("does not have a Release file") => Ok(None),
                Err(error) => Err(without_options(error, "apt-get update, with private lists,")),
                Ok(_) => Ok(None),
            };
        };
        let image = meta.depends.iter().find(|name| name.starts_with("linux-image-"));
        let image = image.ok_or_else(|| Error::NoKernel {
            reason: format!("{metapackage} {} depends on no linux-image package", meta.version),
        })?;
        let wanted =
            |name: &str| Error::NoKernel { reason: format!("the archive has no {name}, which {metapackage} needs") };
        let image = newest_of(self.show(image))?.ok_or_else(|| wanted(image))?;
        let mut packages = vec![image.clone()];
        if host.id == "ubuntu" {
            for name in image.depends.iter().filter(|name| name.starts_with("linux-modules-")) {
                packages.push(newest_of(self.show(name))?.ok_or_else(|| wanted(name))?);
            }
        }
        Ok(Some(packages))
    }

    /// Downloads packages and all they depend on, and gives their files.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut get = self.command("apt-get");
        // Nothing is installed, so the machine's own locks are not asked for.
        get.args(["-q", "-y", "--no-install-recommends", "--download-only", "-o", "Debug::NoLocking=true", "install"]);
        let said = format!("apt-get --download-only install {}", packages.join(" "));
        command::output(get.args(packages)).map_err(|error| without_options(error, &said))?;
        let folder = self.folder.join("cache/archives");
        let files = fs::read_dir(&folder).map_err(at("read", &folder))?.flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
        files.sort();
        Ok(files)
    }

    /// All versions of a package; none when apt knows no such package.
    fn show(&self, package: &str) -> Vec<Package> {
        let answer = command::output(self.command("apt-cache").args(["show", "--no-all-versions=false", package]));
        answer.map(|text| parse_packages(&String::from_utf8_lossy(&text))).unwrap_or_default()
    }
}

impl Archive {
    /// A line for sources.list(5). The distribution's own keyring is named where it is known, so that no other key
    /// the machine trusts can sign a kernel.
    fn source(&self) -> String {
        let keyrings = ["debian-archive-keyring", "ubuntu-archive-keyring"];
        let keys: Vec<String> = keyrings
            .iter()
            .map(|name| format!("/usr/share/keyrings/{name}.gpg"))
            .filter(|path| Path::new(path).exists())
            .collect();
        let signed = if keys.is_empty() { String::new() } else { format!(" signed-by={}", keys.join(",")) };
        format!("deb [target=Packages lang=none{signed}] {} {} main\n", self.base, self.suite)
    }
}

/// Our dozen options would hide what went wrong.
fn without_options(error: Error, said: &str) -> Error {
    match error {
        Error::Failed { status, output, .. } => Error::Failed { command: said.to_owned(), status, output },
        other => other,
    }
}

fn names(archives: &[Archive]) -> String {
    let suites: Vec<&str> = archives.iter().map(|archive| archive.suite.as_str()).collect();
    suites.join(", ")
}

fn host() -> Result<Host> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).map_err(at("read", path))?;
    let fields: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key, value.trim_matches('"')))
        .collect();
    let field = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
    let architecture = command::output(tool("dpkg").arg("--print-architecture"))?;
    let architecture = String::from_utf8_lossy(&architecture).trim().to_owned();
    Ok(Host { id: field("ID"), codename: field("VERSION_CODENAME"), architecture })
}

/// The machine's archives of its own release. `--print-uris` answers from the configuration alone: it works as any
/// user, without a network and before the first `apt-get update`.
fn archives(host: &Host, work: &Path) -> Result<Vec<Archive>> {
    let lists = work.join("none");
    fs::create_dir_all(lists.join("partial")).map_err(at("create", &lists))?;
    let mut option = OsString::from("Dir::State::lists=");
    option.push(&lists);
    let uris = command::output(tool("apt-get").args(["update", "--print-uris", "-o"]).arg(option))?;
    let found = parse_archives(&String::from_utf8_lossy(&uris), &host.codename);
    if found.is_empty() {
        let reason =
            format!("apt is configured for no archive of {} {}; name a kernel with --kernel", host.id, host.codename);
        return Err(Error::NoKernel { reason });
    }
    Ok(found)
}

/// Debian's backports lie beside their suite in the same archive.
fn backports(host: &Host, archives: &[Archive]) -> Vec<Archive> {
    let mut found: Vec<Archive> = archives
        .iter()
        .filter(|archive| archive.suite == host.codename)
        .map(|archive| Archive { base: archive.base.clone(), suite: format!("{}-backports", host.codename) })
        .collect();
    found.dedup();
    found
}

/// A suite of Debian, from the archive this machine has its own suite from, with private lists below `work`.
pub(crate) fn debian_suite(work: &Path, suite: &str, progress: &mut dyn FnMut(&str)) -> Result<Apt> {
    requirements::ensure(&[DPKG], progress)?;
    let host = host()?;
    let own = archives(&host, work)?.into_iter().find(|archive| host.id == "debian" && archive.suite == host.codename);
    let archive = own.map(|own| Archive { base: own.base, suite: suite.to_owned() });
    let archive = archive.ok_or_else(|| Error::NoArchive { suite: suite.to_owned() })?;
    progress(&format!("look for packages in {suite}"));
    let apt = Apt::new(work, suite, &[archive])?;
    let updated = command::output(apt.command("apt-get").args(["-q", "update"]));
    updated.map_err(|error| without_options(error, "apt-get update, with private lists,"))?;
    Ok(apt)
}

/// Reads lines such as `'http://HOST/debian/dists/bookworm/InRelease' deb… 0`, keeping suites of this release.
fn parse_archives(text: &str, codename: &str) -> Vec<Archive> {
    let mut found = Vec::new();
    for line in text.lines() {
        let uri = line.trim_start_matches('\'').split('\'').next().unwrap_or_default();
        let Some((base, rest)) = uri.rsplit_once("dists/") else { continue };
        let Some(suite) = rest.strip_suffix("/InRelease") else { continue };
        let own = suite.strip_prefix(codename).is_some_and(|more| more.is_empty() || more.starts_with('-'));
        // Proposed updates are a testing ground; a machine that has them on still gets a released kernel.
        let released = !suite.ends_with("-proposed") && !suite.ends_with("-proposed-updates");
        let archive = Archive { base: base.to_owned(), suite: suite.to_owned() };
        if own && released && !codename.is_empty() && !found.contains(&archive) {
            found.push(archive);
        }
    }
    found
}

/// Reads the stanzas `apt-cache show` prints.
fn parse_packages(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let field = |key: &str| {
                stanza
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .find(|(found, _)| *found == key)
                    .map(|(_, value)| value)
            };
            let names = |list: &str| {
                list.split(',').filter_map(|item| item.split_whitespace().next().map(str::to_owned)).collect::<Vec<_>>()
            };
            Some(Package {
                name: field("Package")?.to_owned(),
                version: field("Version")?.to_owned(),
                depends: field("Depends").map(names).unwrap_or_default(),
                bytes: field("Size").and_then(|size| size.parse().ok()).unwrap_or(0),
            })
        })
        .collect()
}

/// The newest version, by dpkg's own comparison.
fn newest_of(packages: Vec<Package>) -> Result<Option<Package>> {
    let mut newest: Option<Package> = None;
    for package in packages {
        let newer = match &newest {
            None => true,
            Some(best) => {
                let mut dpkg = tool("dpkg");
                dpkg.args(["--compare-versions", &package.version, "gt", &best.version]);
                dpkg.status().map_err(|source| Error::Start { program: "dpkg".to_owned(), source })?.success()
            }
        };
        if newer {
            newest = Some(package);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_read_from_what_apt_would_fetch() {
        let text = "\
'http://one.example/debian/dists/bookworm/InRelease' one_InRelease 0 \n\
'http://one.example/debian/dists/bookworm-updates/InRelease' one-updates 0 \n\
'http://one.example/debian/dists/bookworm-proposed-updates/InRelease' one-proposed 0 \n\
'http://two.example/debian-security/dists/bookworm-security/InRelease' two 0 \n\
'https://other.example/dists/nodistro/InRelease' other 0 \n\
'http://one.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' one_main 0 \n";
        let archive = |base: &str, suite: &str| Archive { base: base.to_owned(), suite: suite.to_owned() };
        let found = parse_archives(text, "bookworm");
        assert_eq!(
            found,
            [
                archive("http://one.example/debian/", "bookworm"),
                archive("http://one.example/debian/", "bookworm-updates"),
                archive("http://two.example/debian-security/", "bookworm-security"),
            ]
        );
        let host = Host { id: "debian".to_owned(), codename: "bookworm".to_owned(), architecture: "amd64".to_owned() };
        assert_eq!(backports(&host, &found), [archive("http://one.example/debian/", "bookworm-backports")]);
    }

    #[test]
    fn a_release_without_a_name_matches_no_archive() {
        assert_eq!(parse_archives("'http://one.example/debian/dists/sid/InRelease' one 0\n", ""), []);
    }

    #[test]
    fn packages_are_read_from_stanzas() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 6.12.9-1~bpo12+1\n\
            Depends: linux-image-6.12.9+bpo-cloud-amd64 (= 6.12.9-1~bpo12+1), other | more\nSize: 1484\n\n\
            Package: linux-image-cloud-amd64\nVersion: 6.1.176-1\n";
        let packages = parse_packages(text);
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].depends, ["linux-image-6.12.9+bpo-cloud-amd64", "other"]);
        assert_eq!((packages[0].bytes, packages[1].bytes), (1484, 0));
    }

    #[test]
    fn the_newest_version_is_dpkgs_newest_not_the_texts() {
        let package = |version: &str| Package {
            name: "k".to_owned(),
            version: version.to_owned(),
            depends: Vec::new(),
            bytes: 0,
        };
        let versions = ["6.1.176-1", "6.12.9-1~bpo12+1", "6.12.10-1~bpo12+1", "6.9.7-1"].map(package);
        assert_eq!(newest_of(versions.to_vec()).unwrap().unwrap().version, "6.12.10-1~bpo12+1");
        assert_eq!(newest_of(Vec::new()).unwrap(), None);
    }
}
