//! The command line, as somebody in a shell has it.

use std::{fs, process::Command};

use crate::pid1::Pid1;

pub(crate) struct Said {
    pub(crate) code: String,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// By way of files: whoever is PID 1 here reaps every child.
pub(crate) fn orlop(machine: &Pid1, words: &[&str], input: &str) -> Said {
    const SCRIPT: &str = r#"cd "$1" && shift && "$@" <in >out 2>err; echo $? >code.new; mv code.new code"#;
    let folder = tempfile::tempdir_in("/run").unwrap();
    fs::write(folder.path().join("in"), input).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "sh"]).arg(folder.path()).arg(env!("CARGO_BIN_EXE_orlop")).args(words);
    drop(command.spawn().unwrap());
    machine.wait("the command's end", |_| folder.path().join("code").exists());
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    Said { code: read("code").trim().to_owned(), out: read("out"), err: read("err") }
}

pub(crate) fn done(machine: &Pid1, words: &[&str], input: &str) -> String {
    let said = orlop(machine, words, input);
    assert_eq!(said.code, "0", "{words:?}: {}", said.err);
    said.out
}
