//! The program inside the test containers: each subcommand does one thing that a test looks at from outside.
//!
//! On failure: one sentence on stderr and exit status 1; a wrong call exits with 2.

mod cgroups;
mod files;
mod kernel;
mod meter;
mod net;
mod processes;
mod seize;
mod stack;
#[allow(unsafe_code)]
mod sys;

use std::io;
use std::process::ExitCode;

const USAGE: &str = "\
probe serve PORT                 answer HTTP: / says ok, /pid /uptime /hostname /hits say what they are named for
                                 (on the socket it was handed, if it was handed one)
probe stream PORT                endless numbered lines, on stdout and to each TCP client
probe knock ADDRESS              ask a port here, HOST:PORT or a unix socket for / again and again; say `refused` when nobody listens there
probe relay PORT SOCKET          carry connections to a unix socket
probe strike PORT CGROUP         kill what comes into the cgroup as many microseconds later as a line of a connection says
probe ignore-term                say `ignoring` and stay, whatever asks to stop
probe zombies PROC               print how many processes below this procfs are zombies and stay so
probe try-writes PATH [SKIP...]  print every folder below PATH in which a file can be created
probe mount-of PATH              print file system type and size in bytes of the mount at PATH
probe write FILE TEXT            write and sync
probe fill FILE MIB SHOW...     write this much and sync, then show these files
probe hoard FILE MIB             write this much, take all other room there is, stay; gives it back on TERM
probe multiply                   start processes until no more are allowed, then stay
probe show FILE...               print `FILE: TEXT` of each, lines joined by |
probe sizes FOLDER               print `NAME: BYTES` of each file in it
probe cat FILE...                print files
probe digest FILE...             print `FILE: DIGEST` of each; two differ when the files do
probe count FILE                 add one to the number in FILE, sync, print it
probe tick FILE                  the same, and how many ms ago the one before it ended: `tick N after MS`
probe alone FILE                 be there for a moment; fails if another is
probe herald                     say `announcing`, by sd_notify(3) that it is ready, then again and again that it lives; ends on TERM
probe keep                       have a file kept by sd_notify(3), FDSTORE=1, that counts the runs it was handed to: `keeping N`; ends on TERM
probe keep-killing CGROUP [TIMES] kill everything in the cgroup whenever there is something
probe keep-freezing CGROUP       freeze the cgroup whenever it is not frozen
probe freeze SECONDS CGROUP...   freeze the cgroups, thaw them after SECONDS
probe seize PROC                 write to the file of every other program below this procfs as soon as nobody runs it; each for the first
                                 time, `held PROGRAM`, then `refused PROGRAM: WHY` or `wrote PROGRAM`
probe stack PROC FOLDER IMAGE... file systems over loop and device mapper, one in another, on the host of this procfs
probe load-kernel IMAGE INITRAMFS WORDS... have one ready for a kexec, its command line this one's and these words
probe on-request PORT COMMAND... wait for a connection, then do that
probe now                        print the machine's clock and how long it was idle
probe measure 'ROUNDS LABEL COMMAND ; LABEL COMMAND'...  what the machine does while these run
probe lines COUNT                print this many lines of 100 bytes
probe exit CODE                  print `exiting` and exit
probe sleep [SECONDS]            stay (for ever without SECONDS), end on TERM
probe burn                       use a CPU
probe eat-memory MIB             touch this much memory, then stay
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = run(&words);
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("probe {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<ExitCode> {
    match words {
        ["on-request", port, command @ ..] => {
            with_number(port, net::wait_for_request)?;
            return run(command);
        }
        ["serve", port] => with_number(port, net::serve),
        ["stream", port] => with_number(port, net::stream),
        ["knock", address] => net::knock(address),
        ["relay", port, socket] => with_number(port, |port| net::relay(port, socket)),
        ["strike", port, cgroup] => with_number(port, |port| cgroups::strike(port, cgroup)),
        ["ignore-term"] => processes::ignore_term(),
        ["zombies", proc] => processes::zombies(proc),
        ["try-writes", path, skip @ ..] => files::try_writes(path, skip),
        ["mount-of", path] => files::mount_of(path),
        ["write", file, text] => files::write(file, text),
        ["fill", file, mib, show @ ..] => {
            with_number(mib, |mib| files::fill(file, mib))?;
            files::show(show);
            Ok(())
        }
        ["hoard", file, mib] => with_number(mib, |mib| files::hoard(file, mib)),
        ["multiply"] => processes::multiply(),
        ["show", files @ ..] => {
            files::show(files);
            Ok(())
        }
        ["sizes", folder] => files::sizes(folder),
        ["cat", files @ ..] => files::cat(files),
        ["digest", files @ ..] => files::digest(files),
        ["count", file] => files::count(file),
        ["tick", file] => files::tick(file),
        ["alone", file] => files::alone(file),
        ["herald"] => processes::herald(),
        ["keep"] => processes::keep(),
        ["keep-killing", cgroup] => cgroups::keep_killing(cgroup, u32::MAX),
        ["keep-killing", cgroup, times] => with_number(times, |times| cgroups::keep_killing(cgroup, times)),
        ["keep-freezing", cgroup] => cgroups::keep_freezing(cgroup),
        ["load-kernel", image, initramfs, words @ ..] => kernel::load(image, initramfs, &words.join(" ")),
        ["freeze", seconds, cgroups @ ..] => with_number(seconds, |seconds| cgroups::freeze(seconds, cgroups)),
        ["seize", proc] => seize::seize(proc),
        ["stack", proc, folder, images @ ..] => stack::stack(proc, folder, images),
        ["now"] => meter::now(),
        ["measure", lines @ ..] => meter::measure(lines),
        ["lines", count] => with_number(count, processes::lines),
        ["exit", code] => {
            println!("exiting");
            return with_number(code, |code: u8| Ok(ExitCode::from(code)));
        }
        ["sleep"] => processes::sleep(None),
        ["sleep", seconds] => with_number(seconds, |seconds| processes::sleep(Some(seconds))),
        ["burn"] => processes::burn(),
        ["eat-memory", mib] => with_number(mib, processes::eat_memory),
        _ => {
            eprint!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn with_number<T: std::str::FromStr, R>(word: &str, run: impl FnOnce(T) -> io::Result<R>) -> io::Result<R> {
    match word.parse() {
        Ok(number) => run(number),
        Err(_) => Err(io::Error::other(format!("`{word}` is not a number in range"))),
    }
}
