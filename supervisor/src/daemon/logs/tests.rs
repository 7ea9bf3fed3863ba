//! All of it together: what goes into pipes comes back from files, whatever the disk does.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::Instant,
};

use super::{
    super::{Caps, Own, Remarks, Stream, file::LogFile, record, spool},
    *,
};
use crate::{
    api::types::LogLine,
    daemon::clock,
    unit::{Options, UnitName},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn name(text: &str) -> UnitName {
    UnitName::parse(text).unwrap()
}

fn owners(names: &[&str]) -> Vec<Owner> {
    names.iter().map(|name| Owner::parse(name).unwrap()).collect()
}

fn of(names: &[&str]) -> LogQuery {
    LogQuery { owners: owners(names), ..LogQuery::default() }
}

/// A disk may be slow here.
fn nothing_but_patience(kind: ErrorKind, text: String) {
    if kind != ErrorKind::TimedOut {
        std::panic::panic_any(text);
    }
}

fn logs(folder: &Path) -> Logs {
    Logs::start(folder.into(), folder.join("spools"), None, None, nothing_but_patience).unwrap()
}

fn remark(logs: &mut Logs, text: &str) {
    let mut remarks = Remarks::default();
    remarks.note(text, || logs.last_remark(&name("web")));
    remarks.take().iter().for_each(|remark| logs.remark(&name("web"), remark));
}

fn lines(chunk: &[u8]) -> Vec<LogLine> {
    chunk.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn all_lines(logs: &Logs, query: LogQuery) -> Vec<LogLine> {
    let reading = read(logs, query, || {}).unwrap().unwrap();
    lines(&reading.chunks.iter().flatten().collect::<Vec<u8>>())
}

fn messages(logs: &Logs, query: LogQuery) -> Vec<String> {
    all_lines(logs, query).into_iter().map(|line| line.message).collect()
}

fn until(reading: &Reading, count: usize) -> Vec<LogLine> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(lines(&reading.chunks.recv_timeout(deadline - Instant::now()).unwrap()));
    }
    found
}

fn put(log: &mut LogFile, second: i64, text: &str) {
    let mut batch = Vec::new();
    record::write(&mut batch, &clock::rfc3339(second * 1_000_000), Stream::Out, false, text.as_bytes());
    log.prepare(batch.len()).unwrap();
    log.append(&batch).unwrap();
}

fn small(folder: &Path, max_bytes: u64) -> LogFile {
    LogFile::new(folder.into(), Caps { max_bytes, max_files: 3, rate: None }, "b1".into())
}

/// A pipe as containers have it, whose end is told.
fn follow(logs: &Logs, unit: &str, stream: Stream, caps: Caps) -> (io::PipeWriter, Receiver<()>) {
    let (pipe, writer) = io::pipe().unwrap();
    let pipe: OwnedFd = pipe.into();
    nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let (done, ended) = channel();
    logs.follow(&name(unit), (stream, 1), caps, pipe, move || done.send(()).unwrap());
    (writer, ended)
}

#[test]
fn tails_of_any_length_cross_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = small(&folder.path().join("web"), 1000);
    for i in 0..60 {
        put(&mut file, i, &i.to_string());
    }
    let logs = logs(folder.path());
    let everything = messages(&logs, of(&["web"]));
    assert_eq!(everything.last().unwrap(), "59");
    for tail in 0..=everything.len() + 3 {
        let expected = &everything[everything.len().saturating_sub(tail)..];
        assert_eq!(messages(&logs, LogQuery { tail: Some(tail), ..of(&["web"]) }), expected, "tail {tail}");
    }
    let since = LogQuery { since_us: Some(57_500_000), ..of(&["web"]) };
    assert_eq!(messages(&logs, since), ["58", "59"]);
    let between = LogQuery { since_us: Some(50_000_000), until_us: Some(52_000_000), ..of(&["web"]) };
    assert_eq!(messages(&logs, between), ["50", "51", "52"]);
    assert_eq!(messages(&logs, LogQuery { tail: Some(2), grep: Some("^4".into()), ..of(&["web"]) }), ["48", "49"]);
    assert!(messages(&logs, of(&["nothing"])).is_empty());
    let wrong = LogQuery { grep: Some("(".into()), ..of(&["web"]) };
    assert!(read(&logs, wrong, || {}).is_err_and(|text| text.contains("not a pattern")));
}

#[test]
fn who_does_not_follow_gets_what_there_was_however_much_comes_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    for (unit, before, more) in [("same", 1000, 100), ("next", 1000, 500), ("gone", 2500, 9000)] {
        let mut file = small(&folder.path().join(unit), 50_000);
        (0..before).for_each(|i| put(&mut file, i, &i.to_string()));
        let reading = read(&logs, of(&[unit]), || {}).unwrap().unwrap();
        // The reader waits with the second chunk.
        let mut seen = lines(&reading.chunks.recv_timeout(PATIENCE).unwrap());
        (before..before + more).for_each(|i| put(&mut file, i, &i.to_string()));
        seen.extend(reading.chunks.iter().flat_map(|chunk| lines(&chunk)));
        let seen: Vec<i64> = seen.iter().map(|line| line.message.parse().unwrap()).collect();
        assert!(seen.is_sorted_by(|a, b| a + 1 == *b), "{unit}: {} lines", seen.len());
        let last = *seen.last().unwrap();
        assert!(if unit == "gone" { last < before } else { last == before - 1 }, "{unit}: {last} of {before}");
    }
}

#[test]
fn several_logs_are_merged_in_the_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    for (unit, from) in [("web", 0), ("db", 1), ("app", 2)] {
        let mut file = small(&folder.path().join(unit), 100_000);
        for i in 0..20 {
            put(&mut file, i * 3 + from, &format!("{unit} {}", i * 3 + from));
        }
    }
    let logs = logs(folder.path());
    let number = |line: &String| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let merged = messages(&logs, LogQuery::default());
    assert_eq!(merged.iter().map(number).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    let two = LogQuery { tail: Some(3), ..of(&["web", "db"]) };
    assert_eq!(messages(&logs, two), ["db 55", "web 57", "db 58"]);
    let grep = LogQuery { tail: Some(1), grep: Some("WEB".into()), ..LogQuery::default() };
    assert!(messages(&logs, grep).is_empty(), "capitals are meant");
    let grep = LogQuery { tail: Some(1), grep: Some("web|app".into()), ..LogQuery::default() };
    assert_eq!(messages(&logs, grep), ["app 59"]);
}

#[test]
fn logs_are_read_by_boot() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = Vec::new();
    for (boot, second) in [("a", 10), ("b", 20), ("c", 30)] {
        own.push(boots::enter(folder.path(), boot).unwrap());
        let folders = [own.last().unwrap().join("@kernel"), folder.path().join("web")];
        for folder in folders {
            let mut file = LogFile::new(folder, Caps::default(), boot.into());
            put(&mut file, second, &format!("one of {boot}"));
            put(&mut file, second + 1, &format!("two of {boot}"));
        }
    }
    // The order that boots are listed in is theirs, whatever the clock said; this test's own boot comes last.
    let logs = logs(folder.path());
    logs.flush(PATIENCE);
    let of_boot = |boot: &str, names: &[&str]| messages(&logs, LogQuery { boot: Some(boot.into()), ..of(names) });
    assert_eq!(of_boot("b", &["web"]), ["one of b", "two of b"]);
    assert_eq!(of_boot("-1", &["@kernel"]), ["one of c", "two of c"]);
    assert_eq!(of_boot("1", &["@kernel", "web"]), ["one of a", "one of a", "two of a", "two of a"]);
    let tail = LogQuery { boot: Some("-2".into()), tail: Some(1), ..of(&["web"]) };
    assert_eq!(messages(&logs, tail), ["two of b"]);
    assert_eq!(messages(&logs, of(&["@kernel"])).len(), 6, "over all boots");
    let tail = LogQuery { tail: Some(3), ..of(&["@kernel"]) };
    assert_eq!(messages(&logs, tail), ["two of b", "one of c", "two of c"]);
    let wrong = LogQuery { boot: Some("-7".into()), ..of(&["web"]) };
    assert!(read(&logs, wrong, || {}).is_err_and(|text| text.contains("-1 to -3")));
}

#[test]
fn a_follower_of_all_sees_every_log_and_new_ones_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut logs = logs(folder.path());
    let reading = read(&logs, LogQuery { follow: true, ..LogQuery::default() }, || {}).unwrap().unwrap();
    let (mut writer, ended) = follow(&logs, "web", Stream::Err, Caps::default());
    writer.write_all(b"hello\nhalf").unwrap();
    drop(writer);
    ended.recv_timeout(PATIENCE).unwrap();
    remark(&mut logs, "exited with status 0");
    let seen = until(&reading, 3);
    let seen: Vec<_> = seen.iter().map(|l| (l.stream.as_str(), l.message.as_str(), l.partial)).collect();
    let expected = [("stderr", "hello", false), ("stderr", "half", true), ("orlop", "exited with status 0", false)];
    assert_eq!(seen, expected);
    let (mut writer, _ended) = follow(&logs, "db", Stream::Out, Caps::default());
    writer.write_all(b"\0\xff\x1b[31m\n").unwrap();
    let line = until(&reading, 1).remove(0);
    assert_eq!((line.unit.as_str(), line.raw.as_deref()), ("db", Some(&b"\0\xff\x1b[31m"[..])));
}

#[test]
fn a_line_of_a_mebibyte_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let (mut writer, ended) = follow(&logs, "web", Stream::Out, Caps::default());
    let long: String = (0..1 << 17).map(|i| format!("{i:07x}\u{e4}")).collect();
    writer.write_all(format!("short\n{long}\nlast\n").as_bytes()).unwrap();
    drop(writer);
    ended.recv_timeout(PATIENCE).unwrap();
    let lines = all_lines(&logs, of(&["web"]));
    assert!(lines.iter().all(|line| line.raw.is_none()), "no character is cut in two");
    let text: String = lines.iter().map(|line| line.message.clone() + if line.partial { "" } else { "\n" }).collect();
    assert!(text == format!("short\n{long}\nlast\n"), "{} bytes", text.len());
}

/// However much has come before the disk takes any of it.
#[test]
fn no_file_is_larger_than_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let caps = Caps { max_bytes: 4000, max_files: 1000, ..Caps::default() };
    let (pipe, mut writer) = io::pipe().unwrap();
    let (done, ended) = channel();
    let numbers: String = (0..3000).map(|i| format!("{i}\n")).collect();
    writer.write_all(numbers.as_bytes()).unwrap();
    drop(writer);
    logs.follow(&name("web"), (Stream::Out, 1), caps, pipe.into(), move || done.send(()).unwrap());
    ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(messages(&logs, of(&["web"])).join("\n") + "\n", numbers);
    let files = fs::read_dir(folder.path().join("web")).unwrap();
    let sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() > 10 && sizes.iter().all(|size| *size <= caps.max_bytes), "{sizes:?}");
}

#[test]
fn what_exceeds_a_units_rate_is_counted_in_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let caps = Caps { rate: Some((10, Duration::from_secs(3600))), ..Caps::default() };
    let (mut writer, ended) = follow(&logs, "web", Stream::Out, caps);
    for i in 0..1000 {
        writeln!(writer, "{i}").unwrap();
    }
    drop(writer);
    ended.recv_timeout(PATIENCE).unwrap();
    let messages = messages(&logs, of(&["web"]));
    assert_eq!(messages.len(), 11);
    assert!(messages[9] == "9" && messages[10].starts_with("990 lines suppressed"), "{messages:?}");
}

/// As when a supervisor takes over from another, and when all its units end at once.
#[test]
fn hundreds_of_pipes_and_thousands_of_remarks_in_one_go_are_all_logged() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut logs = logs(folder.path());
    let units: Vec<UnitName> = (0..600).map(|i| name(&format!("u{i}"))).collect();
    let mut ends = Vec::new();
    for unit in &units {
        for stream in [Stream::Out, Stream::Err] {
            let (writer, ended) = follow(&logs, unit.as_str(), stream, Caps::default());
            (&writer).write_all(b"last words\n").unwrap();
            ends.push(ended);
        }
        let mut remarks = Remarks::default();
        // More of them than a unit has in a turn, as a rule.
        (0..100).for_each(|i| remarks.note(&format!("remark {i}"), || logs.last_remark(unit)));
        remarks.take().iter().for_each(|remark| logs.remark(unit, remark));
    }
    ends.iter().for_each(|ended| ended.recv_timeout(PATIENCE).unwrap());
    logs.flush(PATIENCE);
    for unit in &units {
        let lines = messages(&logs, of(&[unit.as_str()]));
        let remarks: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("remark ")).collect();
        assert!(remarks.iter().zip(0..).all(|(found, i)| *found == i.to_string()), "{unit}: {remarks:?}");
        assert_eq!((remarks.len(), lines.len()), (100, 102), "{unit}");
    }
}

/// A FIFO that nobody reads stands for a disk that does not answer: opening it for writing waits.
#[test]
fn a_disk_that_stands_still_costs_lines_and_holds_up_nobody() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(folder.path().join("web")).unwrap();
    let current = folder.path().join("web/current");
    nix::unistd::mkfifo(&current, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let spools = folder.path().join("spools");
    let own = Own::open(&spools).unwrap();
    let mut logs = Logs::start(folder.path().into(), spools.clone(), Some(&own), None, nothing_but_patience).unwrap();
    let (mut writer, ended) = follow(&logs, "web", Stream::Out, Caps { max_bytes: u64::MAX, ..Caps::default() });
    // 4 MB: it ends though not one line is written.
    let numbers = 0..600_000;
    for i in numbers.clone() {
        writeln!(writer, "{i}").unwrap();
    }
    // Nor does the loop wait, however much it has to say.
    for _ in 0..100_000 {
        remark(&mut logs, "remark");
        own.say(6, "said");
    }
    let kept: u64 = fs::read_dir(&spools).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(kept <= 3 * 256 * 1024 + 100, "{kept} bytes are held in memory");
    // The disk is back.
    let (done, text) = channel();
    std::thread::spawn(move || {
        // For writing too: then it has no end between two writers.
        let mut file = File::options().read(true).write(true).open(current).unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; 65536]);
        while !text.ends_with(b" stdout F back\n") {
            let n = file.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..n]);
        }
        // Kept open: there is room in it for the little that is still to come.
        done.send((String::from_utf8(text).unwrap(), file)).unwrap();
    });
    let deadline = Instant::now() + PATIENCE;
    // What is said before all is written that was kept is dropped too.
    let ((text, _disk), said) = (0..)
        .find_map(|said| {
            assert!(Instant::now() < deadline, "what is said now is not logged");
            writeln!(writer, "back").unwrap();
            Some((text.recv_timeout(Duration::from_millis(20)).ok()?, said))
        })
        .unwrap();
    drop(writer);
    ended.recv_timeout(PATIENCE).unwrap();
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" stdout F ")).map(|(_, text)| text).collect();
    let (last, before) = lines.split_last().unwrap();
    let lost: usize = text
        .lines()
        .filter_map(|line| line.split_once(" lines lost: ")?.0.rsplit(' ').next()?.parse::<usize>().ok())
        .sum::<usize>();
    let whole = before.iter().filter_map(|line| line.parse::<usize>().ok()).filter(|n| numbers.contains(n)).count();
    // At the place where the dropping begins one line is cut short; it counts as lost and stands there.
    assert!(lost > 1000 && *last == "back", "{lost}, {last}");
    let count = lost + whole;
    assert!((numbers.len()..=numbers.len() + 1 + said).contains(&count), "{lost} + {whole}");
}

/// The sum of what `lines` says is lost.
fn told(lines: &[String]) -> usize {
    lines.iter().filter_map(|line| line.split_once(" lost: ")?.0.split(' ').next()?.parse::<usize>().ok()).sum()
}

/// The supervisor after one that was killed is given what that one left in memory.
fn next_supervisor(spools: &Path) -> (tempfile::TempDir, Logs) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(folder.path().join("spools")).unwrap();
    for entry in fs::read_dir(spools).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join("spools").join(entry.file_name())).unwrap();
    }
    let mut next = logs(folder.path());
    next.all_followed();
    next.flush(PATIENCE);
    (folder, next)
}

#[test]
fn what_a_disk_that_stood_still_cost_is_told_by_the_next_supervisor() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(folder.path().join("web")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("web/current"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let logs = logs(folder.path());
    let (mut writer, _ended) = follow(&logs, "web", Stream::Out, Caps::default());
    let numbers = 300_000;
    for i in 0..numbers {
        writeln!(writer, "{i}").unwrap();
    }
    // The container sleeps; what is in its pipe still is taken.
    let taken = || {
        let spool = spool::Spool::open(folder.path().join("spools/web:stdout.1")).unwrap();
        let mut bytes = Vec::new();
        spool.read(&mut bytes).unwrap();
        usize::try_from(spool.lost()).unwrap() + bytes.iter().filter(|byte| **byte == b'\n').count()
    };
    let deadline = Instant::now() + PATIENCE;
    while taken() < numbers {
        assert!(Instant::now() < deadline, "{} of {numbers} lines", taken());
        std::thread::yield_now();
    }
    let (next_folder, next) = next_supervisor(&folder.path().join("spools"));
    let lines = messages(&next, of(&["web"]));
    let whole = lines.iter().enumerate().take_while(|(i, line)| **line == i.to_string()).count();
    // One line is cut short where the dropping begins.
    assert!((numbers..=numbers + 1).contains(&(whole + told(&lines))), "{whole} + {}", told(&lines));
    assert!(lines.last().unwrap().ends_with(" lines lost: the disk did not take them in time"), "at its place");
    assert_eq!(fs::read_dir(next_folder.path().join("spools")).unwrap().count(), 0);
}

#[test]
fn what_a_full_disk_cost_is_told_once_there_is_room_and_by_whoever_is_there_then() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = folder.path().join("web");
    // Something in the way stands for a disk that takes nothing.
    fs::write(&place, "").unwrap();
    let (complain, complaints) = channel();
    let spools = folder.path().join("spools");
    let complain = move |_, text| complain.send(text).unwrap();
    let logs = Logs::start(folder.path().into(), spools.clone(), None, None, complain).unwrap();
    // Both pipes have ended before there is room.
    for stream in [Stream::Out, Stream::Err] {
        let (mut writer, ended) = follow(&logs, "web", stream, Caps::default());
        writer.write_all(b"1\n2\n3\n").unwrap();
        drop(writer);
        ended.recv_timeout(PATIENCE).unwrap();
    }
    assert!(complaints.recv_timeout(PATIENCE).unwrap().contains("web: "));
    // Until all that has ended is put away.
    logs.flush(PATIENCE);
    assert!(complaints.try_recv().is_err(), "said once");
    assert_eq!(fs::read_dir(&spools).unwrap().count(), 1, "one place for all of it");
    let (_next_folder, next) = next_supervisor(&spools);
    assert_eq!(told(&messages(&next, of(&["web"]))), 6);
    // Nobody says anything more.
    let reading = read(&logs, LogQuery { follow: true, ..of(&["web"]) }, || {}).unwrap().unwrap();
    fs::remove_file(&place).unwrap();
    let line = until(&reading, 1).remove(0);
    assert!(line.message.starts_with("6 records lost: ") && line.stream == "orlop", "{}", line.message);
    logs.flush(PATIENCE);
    assert_eq!(fs::read_dir(&spools).unwrap().count(), 0);
}

#[test]
fn lines_that_were_too_many_are_counted_by_the_next_supervisor() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let logs = logs(folder.path());
    let caps = Caps { rate: Some((10, Duration::from_secs(3600))), ..Caps::default() };
    let (mut writer, _ended) = follow(&logs, "web", Stream::Out, caps);
    (0..1000).for_each(|i| writeln!(writer, "{i}").unwrap());
    logs.flush(PATIENCE);
    let (_next_folder, next) = next_supervisor(&folder.path().join("spools"));
    let lines = messages(&next, of(&["web"]));
    assert!(lines.len() == 1 && lines[0].starts_with("990 lines suppressed"), "{lines:?}");
}

#[test]
fn one_that_writes_without_end_keeps_nobody_out_of_his_log() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let logs = logs(folder.path());
    let caps = Caps { max_bytes: 1 << 20, max_files: 2, rate: None };
    let (mut noisy, _ended) = follow(&logs, "noisy", Stream::Out, caps);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let noise = std::thread::spawn(move || {
        // The shortest lines: a batch of records is a small part of what a spool has room for.
        let block = b"y\n".repeat(16 << 10);
        while !stopped.load(Ordering::Relaxed) {
            noisy.write_all(&block).unwrap();
        }
    });
    let reading = read(&logs, LogQuery { follow: true, ..of(&["noisy"]) }, || {}).unwrap().unwrap();
    until(&reading, 1);
    let (mut quiet, quiet_ended) = follow(&logs, "quiet", Stream::Out, Caps::default());
    quiet.write_all(b"hello\n").unwrap();
    drop(quiet);
    let written = quiet_ended.recv_timeout(PATIENCE).is_ok();
    let flushed = logs.flush(PATIENCE);
    stop.store(true, Ordering::Relaxed);
    noise.join().unwrap();
    assert!(written && flushed);
    assert_eq!(messages(&logs, of(&["quiet"])), ["hello"]);
}

#[test]
fn no_file_is_larger_than_the_machines_logs_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    logs.set_options(&Options { max_log_bytes: Some(200_000), ..Options::default() });
    let caps = Caps { max_bytes: 20 << 30, max_files: 5, rate: None };
    let (mut writer, ended) = follow(&logs, "web", Stream::Out, caps);
    (0..20_000).for_each(|i| writeln!(writer, "{i:060}").unwrap());
    drop(writer);
    ended.recv_timeout(PATIENCE).unwrap();
    let files = fs::read_dir(folder.path().join("web")).unwrap();
    let sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.iter().sum::<u64>() <= 200_000, "{sizes:?}");
}
