//! Every verb against a stub: what it asks, what it shows, how it ends.

mod stub;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use clap::{CommandFactory, Parser};

use super::{
    args::Cli,
    execute,
    screen::{Screen, harmless},
};
use stub::{Stub, chunked, json, problem};

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn run_on(stub: &Stub, words: &[&str], terminal: bool) -> Ran {
    let host = format!("unix://{}", stub.path().display());
    let words = ["orlop", "-H", &host].into_iter().chain(words.iter().copied());
    let cli = Cli::try_parse_from(words).unwrap();
    let (out, err) = (Sink::default(), Sink::default());
    let mut screen = Screen::new(Box::new(out.clone()), Box::new(err.clone()), terminal);
    let code = execute(&cli, &mut screen);
    Ran { code, out: out.text(), err: err.text() }
}

fn run(stub: &Stub, words: &[&str]) -> Ran {
    run_on(stub, words, false)
}

fn unit(name: &str, state: &str, sub: &str, pid: &str) -> String {
    format!(
        r#"{{"name":"{name}","description":"The {name}","state":"{state}","sub_state":"{sub}","health":"none","pid":{pid},
        "image":"localhost/{name}:1","restarts":0,"since":"2126-01-31T12:00:00.123456Z","enabled":true,"path":"/etc/containers.d/{name}.container",
        "reason":null,"exit_code":null,"signal":null,"memory_bytes":null,"a_later_field":1}}"#
    )
}

fn web() -> String {
    unit("web", "active", "running", "42")
}

fn db() -> String {
    unit("db", "failed", "failed", "null").replace(r#""reason":null"#, r#""reason":"exited with status 3""#)
}

fn both() -> Stub {
    Stub::new(&[
        ("GET /v1/units", json(&format!("[{},{}]", db(), web()))),
        ("GET /v1/units/web", json(&web())),
        ("GET /v1/units/db", json(&db())),
        ("GET /v1/units/web/logs?tail=10", chunked("")),
        ("GET /v1/units/db/logs?tail=10", chunked("")),
    ])
}

#[test]
fn ps_is_a_table_or_json() {
    let ran = run(&both(), &["ps"]);
    assert_eq!(
        ran.out,
        "NAME  STATE   PID  RESTARTS  SINCE                    IMAGE\n\
         db    failed  -    0         2126-01-31 12:00:00 UTC  localhost/db:1\n\
         web   active  42   0         2126-01-31 12:00:00 UTC  localhost/web:1\n"
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let list: serde_json::Value = serde_json::from_str(&run(&both(), &["--json", "ps"]).out).unwrap();
    assert_eq!((list[1]["name"].as_str(), list[1]["pid"].as_u64()), (Some("web"), Some(42)));
    assert_eq!(run(&both(), &["ps", "-aq", "w*"]).out, "web\n");
    assert_eq!(run(&both(), &["ps", "--failed", "-q"]).out, "db\n");
    let ran = run(&both(), &["ps", "nothing"]);
    assert_eq!((ran.code, ran.err.as_str()), (4, "orlop: no unit nothing; `orlop ps` lists them\n"));
}

#[test]
fn status_says_what_a_unit_has_of_the_machine() {
    let memory = r#""memory_bytes":1048576,"memory_events":{"high":0,"max":7,"oom":1,"oom_kill":2},
        "pressure":{"cpu":0.5,"memory":12.25,"io":0},"tasks":{"current":3,"max":2048,"refused":9}"#;
    let text = web().replace(r#""memory_bytes":null"#, memory);
    let stub = Stub::new(&[("GET /v1/units/web", json(&text)), ("GET /v1/units/web/logs?tail=10", chunked(""))]);
    let ran = run(&stub, &["status", "web"]);
    for line in [
        "Memory: 1.0M, 7 times at memory.max, 2 killed for it",
        "Tasks: 3 of 2048, 9 times one more was refused",
        "Pressure: cpu 0.50 %, memory 12.25 %, io 0.00 % of the last 10 s",
    ] {
        assert!(ran.out.lines().any(|shown| shown.trim_start() == line), "{line}: {}", ran.out);
    }
}

#[test]
fn one_waits_until_units_have_ended() {
    let ended = unit("job", "failed", "failed", "null").replace(r#""exit_code":null"#, r#""exit_code":3"#);
    let stub = Stub::new(&[
        ("GET /v1/events?unit=job", chunked("\n")),
        ("GET /v1/units/job", json(&ended)),
        ("GET /v1/events?unit=nobody", chunked("\n")),
    ]);
    let ran = run(&stub, &["wait", "job.container"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "3\n"), "{}", ran.err);
    assert_eq!(stub.asked(), ["GET /v1/events?unit=job", "GET /v1/units/job"], "first who tells, then how it is");
    assert_eq!(run(&stub, &["wait", "nobody"]).code, 4);
}

#[test]
fn stats_are_a_table_or_json() {
    let text = r#"{"at_us":1000000,"units":[
        {"name":"db","cpu_us":5,"memory_bytes":1536,"memory_limit_bytes":20971520,"tasks":{"current":3,"max":null,"refused":0},
         "read_bytes":0,"written_bytes":4096,"received_bytes":null,"sent_bytes":null,"pressure":{"cpu":1.4,"memory":0.0,"io":99.6}},
        {"name":"web","cpu_us":null,"memory_bytes":null,"memory_limit_bytes":null,"tasks":null,"read_bytes":null,
         "written_bytes":null,"received_bytes":7,"sent_bytes":8,"pressure":null}]}"#;
    let stub = Stub::new(&[("GET /v1/stats", json(text)), ("GET /v1/units", json(&format!("[{}]", db())))]);
    let ran = run(&stub, &["stats", "--no-stream"]);
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(
        ran.out.lines().next(),
        Some("NAME  CPU %  MEM   LIMIT  NET IN  NET OUT  READ  WRITTEN  PIDS  WAITS CPU/MEM/IO")
    );
    assert_eq!(lines[1], ["db", "-", "1.5K", "20.0M", "-", "-", "0B", "4.0K", "3", "1/0/100", "%"]);
    assert_eq!(lines[2], ["web", "-", "-", "-", "7B", "8B", "-", "-", "-", "-"]);
    let shown: serde_json::Value =
        serde_json::from_str(&run(&stub, &["top", "--no-stream", "--json", "d*"]).out).unwrap();
    assert_eq!((shown.as_array().unwrap().len(), &shown[0]["name"]), (1, &"db".into()));
    assert_eq!(run(&stub, &["stats", "--no-stream", "nobody"]).code, 4);
}

#[test]
fn colours_are_for_terminals() {
    let ran = run_on(&both(), &["ps"], true);
    assert!(ran.out.contains("\u{1b}[32mactive\u{1b}[0m  42"), "{:?}", ran.out);
    assert!(!run(&both(), &["ps"]).out.contains('\u{1b}'));
}

#[test]
fn status_shows_units_and_ends_as_systemctl() {
    let ran = run(&both(), &["status", "db", "web.service"]);
    assert_eq!(
        ran.out,
        "× db - The db\n     Loaded: /etc/containers.d/db.container; enabled\n     Active: failed (failed) since 2126-01-31 12:00:00 UTC\n     \
         Reason: exited with status 3\n      Image: localhost/db:1\n\n● web - The web\n     Loaded: /etc/containers.d/web.container; enabled\n     \
         Active: active (running) since 2126-01-31 12:00:00 UTC\n      Image: localhost/web:1\n   Main PID: 42\n"
    );
    assert_eq!(ran.code, 3);
    assert_eq!(run(&both(), &["status", "web"]).code, 0);
    let ran = run(&both(), &["status", "web", "none"]);
    assert_eq!(ran.code, 4);
    assert!(ran.out.contains("The web") && ran.err.contains("no such thing"), "{}", ran.err);
    let list: serde_json::Value = serde_json::from_str(&run(&both(), &["status", "*", "--json"]).out).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[test]
fn status_of_the_machine() {
    let system = r#"{"version":"0.1.0","contract":1,"hostname":"box","machine_id":"abc","kernel":"6.12","state":"degraded","state_store":"volatile",
        "uptime_ms":61000,"supervisor_generation":2,"supervisor_pid":9,"supervisor_rss_kib":4000,"init_rss_kib":600,"addresses":["eth0 10.0.2.15/24"],
        "problems":["/etc/containers.d/x.container:1:1: wrong"]}"#;
    let stub = Stub::new(&[
        ("GET /v1/system", json(system)),
        ("GET /v1/units", json(&format!("[{},{}]", db(), web()))),
        ("POST /v1/system/poweroff", "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}".to_owned()),
    ]);
    let ran = run(&stub, &["status"]);
    assert_eq!(
        ran.out,
        "    Machine: box (abc)\n      State: degraded\n     Uptime: 1min 1s\n    Version: 0.1.0, contract 1, kernel 6.12\n      Store: volatile\n    \
         Address: eth0 10.0.2.15/24\n Supervisor: PID 9, number 2 of this boot, 4000 KiB resident; init 600 KiB\n    \
         Problem: /etc/containers.d/x.container:1:1: wrong\n      Units: 1 active, 1 failed\n             × db failed (failed): exited with status 3\n"
    );
    assert_eq!(ran.code, 0);
    assert!(run(&stub, &["info"]).out.starts_with("    Machine: box"));
    let measured = r#""memory_bytes":20971520,"memory_events":{"high":0,"max":7,"oom":1,"oom_kill":2},
        "pressure":{"cpu":1.5,"memory":0.0,"io":12.25},"kernel_taint":8192,"uptime_ms""#;
    let ran = run(&Stub::new(&[("GET /v1/system", json(&system.replace("\"uptime_ms\"", measured)))]), &["info"]);
    for line in [
        "    Version: 0.1.0, contract 1, kernel 6.12, tainted E (8192): unsigned modules\n",
        "     Memory: containers 20.0M, 7 times at memory.max, 2 killed for it\n",
        "   Pressure: cpu 1.50 %, memory 0.00 %, io 12.25 % of the last 10 s\n",
    ] {
        assert!(ran.out.contains(line), "{}", ran.out);
    }
    let ran = run(&stub, &["poweroff"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    assert_eq!(run(&stub, &["reboot"]).code, 4);
}

#[test]
fn is_active_says_it_in_one_word() {
    let ended = |words: &[&str]| {
        let ran = run(&both(), words);
        (ran.code, ran.out)
    };
    assert_eq!(ended(&["is-active", "web"]), (0, "active\n".into()));
    assert_eq!(ended(&["is-active", "db"]), (3, "failed\n".into()));
    assert_eq!(ended(&["is-active", "db", "web"]), (0, "failed\nactive\n".into()));
    assert_eq!(ended(&["is-active", "none"]), (4, "inactive\n".into()));
    assert_eq!(ended(&["is-active", "-q", "web"]), (0, String::new()));
}

#[test]
fn jobs_ask_for_each_unit_and_tell_what_failed() {
    // A pattern does not mean it: it is not there to be started or stopped.
    let bad = web().replace("\"web\"", "\"bad\"").replace("\"running\"", "\"bad-setting\"");
    assert!(bad.contains("bad-setting"));
    let stub = Stub::new(&[
        ("GET /v1/units", json(&format!("[{},{},{}]", bad, db(), web()))),
        ("POST /v1/units/web/restart", json(&web())),
        ("POST /v1/units/db/restart", problem(409, "db: exited with status 3")),
        ("POST /v1/units/web/stop?no_block=true", json(&web()).replace("200 OK", "202 Accepted")),
        ("POST /v1/units/web/kill?signal=RTMIN%2B3", json(&web())),
        ("POST /v1/units/web/reload", json(&web())),
        ("POST /v1/units/db/reload", problem(409, "db: its file does not say how it is reloaded")),
    ]);
    let ran = run(&stub, &["restart", "*"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", "orlop: db: exited with status 3\n"));
    assert_eq!(stub.asked(), ["GET /v1/units", "POST /v1/units/db/restart", "POST /v1/units/web/restart"]);
    assert_eq!(run(&stub, &["stop", "--no-block", "web.container", "web"]).code, 0);
    assert_eq!(run(&stub, &["kill", "-s", "RTMIN+3", "web"]).code, 0);
    assert_eq!((run(&stub, &["reload", "web"]).code, run(&stub, &["reload", "db"]).code), (0, 1));
    assert_eq!(run(&stub, &["start", "web"]).code, 4);
    assert_eq!(run(&stub, &["start", "x*"]).code, 4);
    // Whatever is typed stays one segment of the target.
    run(&stub, &["start", "../system/poweroff"]);
    assert_eq!(stub.asked().last().unwrap(), "POST /v1/units/..%2Fsystem%2Fpoweroff/start");
    let list: serde_json::Value = serde_json::from_str(&run(&stub, &["restart", "web", "--json"]).out).unwrap();
    assert_eq!(list[0]["name"], "web");
}

fn line(unit: &str, stream: &str, second: u32, message: &str, partial: bool) -> String {
    let time = format!("2026-01-31T12:00:{second:02}.000000Z");
    let line =
        serde_json::json!({"time": time, "unit": unit, "stream": stream, "message": message, "partial": partial});
    format!("{line}\n")
}

#[test]
fn logs_are_what_the_container_wrote() {
    let log = [
        line("web", "stdout", 1, "one", false),
        line("web", "stderr", 2, "bad", false),
        line("web", "stdout", 3, "half a ", true),
        line("web", "stdout", 4, "line \u{1b}[31mred", false),
        "\n".to_owned(),
        line("web", "orlop", 5, "exited with status 0", false),
        line("web", "stdout", 6, "open", true),
    ];
    let db = line("db", "stdout", 2, "hello from db", false);
    let merged = [log[0].as_str(), &log[1], &db].concat();
    let strange =
        line("db", "warning", 7, "?", false).replace("\"partial\":false", "\"partial\":false,\"raw\":[0,255,27]");
    let mut broken = chunked(&merged);
    broken.truncate(broken.len() - "0\r\n\r\n".len());
    let rest = [log[1].as_str(), &db, &strange].concat();
    let stub = Stub::new(&[
        ("GET /v1/logs?unit=web", chunked(&log.concat())),
        ("GET /v1/logs?unit=db", chunked(&db)),
        ("GET /v1/logs?unit=web&unit=db", chunked(&merged)),
        ("GET /v1/logs?unit=web&follow=true&since=2026-01-31T00:00:00Z&tail=1", chunked(&log[0])),
        ("GET /v1/logs?unit=%40kernel&boot=-1&grep=XFS%7Cext4", chunked(&strange)),
        ("GET /v1/logs", chunked(&merged)),
        ("GET /v1/logs?follow=true", broken.clone()),
        ("GET /v1/logs?follow=true&since=2026-01-31T00:00:00Z", broken),
        ("GET /v1/logs?follow=true&since=2026-01-31T12:00:02.000000Z", chunked(&rest)),
        ("GET /v1/logs?unit=db&follow=true&tail=0", chunked("").trim_end_matches("0\r\n\r\n").to_owned()),
    ]);
    let ran = run(&stub, &["logs", "web"]);
    assert_eq!(ran.out, "one\nhalf a line \u{1b}[31mred\n-- exited with status 0 --\nopen\n");
    assert_eq!((ran.code, ran.err.as_str()), (0, "bad\n"));
    let ran = run_on(&stub, &["logs", "web"], true);
    assert!(ran.out.contains("half a line \\x1b[31mred\n"), "{:?}", ran.out);
    let ran = run_on(&stub, &["logs", "--raw", "web"], true);
    assert!(ran.out.contains("half a line \u{1b}[31mred\n"), "{:?}", ran.out);
    let ran = run(&stub, &["logs", "-t", "web", "db"]);
    assert_eq!(ran.err, "2026-01-31T12:00:02.000000Z web | bad\n");
    let expected = "2026-01-31T12:00:01.000000Z web | one\n2026-01-31T12:00:02.000000Z db  | hello from db\n";
    assert_eq!(ran.out, expected);
    assert_eq!(run(&stub, &["logs", "-f", "-n1", "--since", "2026-01-31T00:00:00Z", "web"]).out, "one\n");
    let ran = run_on(&stub, &["logs", "-k", "--boot=-1", "-g", "XFS|ext4"], true);
    assert!(ran.out.contains("\\x00\u{fffd}\\x1b"), "{:?}", ran.out);
    assert_eq!(run(&stub, &["logs"]).out, "web | one\ndb | hello from db\n");
    let record: serde_json::Value = serde_json::from_str(&run(&stub, &["--json", "logs", "db"]).out).unwrap();
    assert_eq!((record["message"].as_str(), record["stream"].as_str()), (Some("hello from db"), Some("stdout")));
    let ran = run(&stub, &["logs", "--until", "soon", "web"]);
    assert!(ran.code == 1 && ran.err.contains("--until soon: write") && ran.err.contains("10min"), "{}", ran.err);
    // The supervisor goes away in the middle, and another one answers: nothing is shown twice.
    for more in [&[][..], &["--since", "2026-01-31T00:00:00Z"]] {
        let ran = run(&stub, &[&["--json", "logs", "-f"], more].concat());
        let seen: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seen: Vec<&str> = seen.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!((seen, ran.code), (vec!["one", "bad", "hello from db", "?"], 0), "{}", ran.err);
    }
    // Where nothing was shown yet, what comes from then on is, and nothing of before.
    run(&stub, &["logs", "-f", "-n0", "db"]);
    let asked = stub.asked().pop().unwrap();
    let since = asked.strip_prefix("GET /v1/logs?unit=db&follow=true&since=").unwrap_or_else(|| panic!("{asked}"));
    assert!(!since.contains("tail"), "{asked}");
}

#[test]
fn a_machine_that_is_not_there_or_talks_nonsense_is_said_so() {
    let broken = |answer: &str| run(&Stub::new(&[("GET /v1/units", answer.to_owned())]), &["ps"]);
    for (answer, words) in [
        ("", "closed the connection"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        ("HTTP/1.1 200 OK\r\n", "no end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "ended inside"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n[]", "not a number"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunks are broken"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ended inside"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answer to /v1/units cannot be read"),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500 and no reason"),
    ] {
        let ran = broken(answer);
        assert!(ran.code == 1 && ran.err.contains(words), "{answer:?}: {}", ran.err);
    }
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(1 << 20));
    assert!(broken(&endless).err.contains("no end"));
    assert_eq!(run(&Stub::new(&[("GET /v1/units", "HTTP/1.1 200 OK\r\n\r\n[]".to_owned())]), &["ps", "-q"]).code, 0);

    let cli = Cli::try_parse_from(["orlop", "-H", "unix:///nonexistent/s", "ps"]).unwrap();
    let err = Sink::default();
    let code = execute(&cli, &mut Screen::new(Box::new(Sink::default()), Box::new(err.clone()), false));
    assert_eq!(code, 1);
    assert!(err.text().starts_with("orlop: no machine answers at /nonexistent/s: "), "{}", err.text());
    let cli = Cli::try_parse_from(["orlop", "-H", "tcp://x", "ps"]).unwrap();
    assert_eq!(execute(&cli, &mut Screen::new(Box::new(Sink::default()), Box::new(Sink::default()), false)), 1);
}

/// A reader that has left.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[test]
fn a_reader_who_leaves_ends_it_quietly() {
    let stub = both();
    let host = format!("unix://{}", stub.path().display());
    let cli = Cli::try_parse_from(["orlop", "-H", &host, "ps"]).unwrap();
    let err = Sink::default();
    assert_eq!(execute(&cli, &mut Screen::new(Box::new(Closed), Box::new(err.clone()), false)), 0);
    assert_eq!(err.text(), "");
}

/// Whoever reads only the first line of `lint` still learns that there are mistakes.
#[test]
fn a_reader_who_leaves_does_not_make_units_good() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.container"), "[Contaner]\n".repeat(2000)).unwrap();
    for json in [&[][..], &["--json"]] {
        let words = ["orlop", "lint", folder.path().to_str().unwrap()].into_iter().chain(json.iter().copied());
        let cli = Cli::try_parse_from(words).unwrap();
        let err = Sink::default();
        assert_eq!(execute(&cli, &mut Screen::new(Box::new(Closed), Box::new(err.clone()), false)), 1);
        assert_eq!(err.text(), "");
    }
}

#[test]
fn markers_are_coloured_on_a_terminal_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.container");
    let text = "[Container]\nImage=localhost/x\nNetwork=none\nMemroy=1G\n[Unit]\nAfter=x.service\n";
    std::fs::write(&path, text).unwrap();
    let shown = |terminal: bool| {
        let cli = Cli::try_parse_from(["orlop", "lint", path.to_str().unwrap()]).unwrap();
        let out = Sink::default();
        let code = execute(&cli, &mut Screen::new(Box::new(out.clone()), Box::new(Sink::default()), terminal));
        assert_eq!(code, 1);
        out.text()
    };
    let (plain, coloured) = (shown(false), shown(true));
    assert!(!plain.contains('\x1b') && plain.contains("\n    ^^^^^^\n"), "{plain}");
    // Red for errors, yellow for warnings.
    assert!(coloured.contains("\n    \x1b[1;31m^^^^^^\x1b[0m\n"), "{coloured:?}");
    assert!(coloured.contains("\n    \x1b[33m      ^^^^^^^^^\x1b[0m\n"), "{coloured:?}");
}

#[test]
fn help_units_is_the_whole_page() {
    let ran = run(&both(), &["help", "units"]);
    assert_eq!((ran.out, ran.code), (crate::unit::reference(), 0));
}

#[test]
fn escape_sequences_are_shown_not_obeyed() {
    assert_eq!(
        harmless("a\u{1b}]0;x\u{7}\tb\r\u{9b}2J\u{7f}\u{202e}c"),
        "a\\x1b]0;x\\x07\tb\\x0d\\x9b2J\\x7f\\u{202e}c"
    );
    assert!(matches!(harmless("plain ä\n"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn lint_needs_no_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.container");
    std::fs::write(&path, "[Container]\nImage=localhost/x\nNetwork=none\n\tMemroy=1G\n").unwrap();
    let file = path.to_str().unwrap();
    let ran = run(&both(), &["lint", file]);
    assert_eq!(
        ran.out,
        format!(
            "{file}:4:2: unknown key Memroy= in [Container]; did you mean Memory=?\n    \tMemroy=1G\n    \t^^^^^^\n1 unit: 1 error, 0 warnings\n"
        )
    );
    assert_eq!(ran.code, 1);
    let list: serde_json::Value = serde_json::from_str(&run(&both(), &["lint", file, "--json"]).out).unwrap();
    let expected = serde_json::json!([{"file": file, "line": 4, "column": 2, "width": 6, "severity": "error",
        "message": "unknown key Memroy= in [Container]; did you mean Memory=?", "suggestion": "Memory="}]);
    assert_eq!(list, expected);
    std::fs::write(&path, "[Container]\nImage=localhost/x\nNetwork=none\n[Unit]\nAfter=x.service\n").unwrap();
    let ran = run(&both(), &["lint", folder.path().to_str().unwrap()]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.ends_with("1 unit: 0 errors, 1 warning\n"), "{}", ran.out);
}

#[test]
fn every_verb_has_an_example_and_unknown_ones_are_answered() {
    let command = Cli::command();
    command.clone().debug_assert();
    for verb in command.get_subcommands() {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(
            help.starts_with("Example") && help.contains(&format!("orlop {}", verb.get_name())),
            "{}",
            verb.get_name()
        );
    }
    let error = Cli::try_parse_from(["orlop", "stauts"]).unwrap_err().to_string();
    assert!(error.contains("'status'"), "{error}");
    assert!(Cli::try_parse_from(["orlop"]).is_err());
}
