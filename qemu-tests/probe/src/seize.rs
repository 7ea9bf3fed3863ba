//! After the files of running programs, as CVE-2019-5736 was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Looks again and again at what every process runs. An open file keeps its way to the program when the process is gone.
pub(crate) fn seize(proc: &str) -> io::Result<()> {
    let id = |file: &fs::Metadata| (file.dev(), file.ino());
    let own = id(&fs::metadata("/proc/self/exe")?);
    let (mut said, mut held) = (BTreeSet::new(), BTreeMap::new());
    let mut say = |line: String| {
        if said.insert(line.clone()) {
            println!("{line}");
        }
    };
    say("seizing".to_owned());
    loop {
        for entry in fs::read_dir(proc)?.flatten() {
            let is_process = entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
            // Processes of the kernel run no file, and others end while we look.
            let Some(program) = is_process.then(|| File::open(entry.path().join("exe")).ok()).flatten() else {
                continue;
            };
            let which = id(&program.metadata()?);
            if which != own {
                say(format!("held {}", fs::read_link(way(&program))?.display()));
                held.entry(which).or_insert(program);
            }
        }
        held.retain(|_, program| match overwrite(program) {
            Some(end) => {
                say(end);
                false
            }
            None => true,
        });
    }
}

fn way(program: &File) -> String {
    format!("/proc/self/fd/{}", program.as_raw_fd())
}

/// What comes of it; not yet anything while somebody runs it.
fn overwrite(program: &File) -> Option<String> {
    let name = fs::read_link(way(program)).unwrap_or_default();
    match OpenOptions::new().write(true).open(way(program)).and_then(|mut file| file.write_all(b"seized")) {
        Ok(()) => Some(format!("wrote {}", name.display())),
        Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => None,
        Err(error) => Some(format!("refused {}: {error}", name.display())),
    }
}
