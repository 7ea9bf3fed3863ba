//! `/sbin/modprobe`, as the kernel calls it for `request_module`: `modprobe -q -- fs-overlay`.
//!
//! Exit status and words are kmod's: 0 when the module is in (or was before, or is built in), 1 when not.

use std::ffi::CStr;

use crate::cmdline::Cmdline;
use crate::modules::{ModuleError, Modules};

#[derive(Debug, Default, PartialEq, Eq)]
struct Request<'a> {
    quiet: bool,
    names: Vec<&'a str>,
    unknown: Option<&'a str>,
}

/// Returns the exit status.
pub(crate) fn main(args: &[&CStr]) -> i32 {
    let words = args.iter().skip(1).map(|word| word.to_str().unwrap_or("?"));
    let request = Request::parse(words);
    if let Some(word) = request.unknown {
        eprintln!("modprobe: unrecognized option '{word}'; usage: modprobe [-q] [--] NAME...");
        return 1;
    }
    if request.names.is_empty() {
        eprintln!("modprobe: ERROR: missing parameters; usage: modprobe [-q] [--] NAME...");
        return 1;
    }
    let mut modules = match Modules::open("", &Cmdline::read()) {
        Ok(modules) => modules,
        Err(error) => return refused(&request, &error),
    };
    request.names.iter().map(|name| load(&mut modules, &request, name)).max().unwrap_or(1)
}

fn load(modules: &mut Modules, request: &Request<'_>, name: &str) -> i32 {
    let unknown = match modules.load(name) {
        Ok(_) => return 0,
        Err(error @ ModuleError::Unknown { .. }) => error,
        Err(error) => return refused(request, &error),
    };
    let mut failed = None;
    if modules.load_alias(name, |error| failed = Some(error)) == 0 {
        // Built in modules are no files; those the kernel lists are enough for a caller that checks.
        let built_in = format!("/sys/module/{}", name.replace('-', "_"));
        return if std::path::Path::new(&built_in).exists() { 0 } else { refused(request, &unknown) };
    }
    failed.map_or(0, |error| refused(request, &error))
}

/// `-q` is for names that are not there; a module that is there and does not load is always said, as in kmod.
fn refused(request: &Request<'_>, error: &ModuleError) -> i32 {
    if !request.quiet || matches!(error, ModuleError::Insert { .. }) {
        eprintln!("modprobe: FATAL: {error}.");
    }
    1
}

impl<'a> Request<'a> {
    fn parse(words: impl Iterator<Item = &'a str>) -> Self {
        let mut request = Self::default();
        let mut options = true;
        for word in words {
            match word {
                "--" if options => options = false,
                "-q" | "--quiet" if options => request.quiet = true,
                // All arguments are names here, which is what -a says; the kernel logs nothing of -s.
                "-a" | "--all" | "-s" | "--syslog" if options => {}
                word if options && word.starts_with('-') && word.len() > 1 => request.unknown = Some(word),
                // `modprobe NAME param=value`: parameters come from the kernel's command line only.
                word if word.contains('=') => request.unknown = Some(word),
                word => request.names.push(word),
            }
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_way_to_call() {
        let request = Request::parse(["-q", "--", "fs-overlay"].into_iter());
        assert_eq!(request, Request { quiet: true, names: vec!["fs-overlay"], unknown: None });
        assert_eq!(Request::parse(["-r", "x"].into_iter()).unknown, Some("-r"));
        assert_eq!(Request::parse(["--", "-r"].into_iter()).names, ["-r"]);
        assert_eq!(Request::parse(["loop", "max_loop=8"].into_iter()).unknown, Some("max_loop=8"));
    }
}
