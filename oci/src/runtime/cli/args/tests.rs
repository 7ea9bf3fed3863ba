use super::*;

fn parse_words(line: &str) -> Result<Command> {
    let words = std::iter::once("orlop-oci").chain(line.split_ascii_whitespace()).map(OsString::from);
    parse(words).map(|both| both.unwrap().1.command)
}

#[test]
fn options_before_and_after_the_id() {
    for line in [
        "create --bundle /b --pid-file /p web",
        "create web -b /b --pid-file=/p",
        "--root /r create -b /b web --pid-file /p --log /l",
    ] {
        let Ok(Command::Create { id, options }) = parse_words(line) else { panic!("{line}") };
        let pid_file = options.pid_file.unwrap();
        assert_eq!((id.as_str(), options.bundle.to_str(), pid_file.to_str()), ("web", Some("/b"), Some("/p")));
    }
    assert!(matches!(parse_words("kill web KILL --all"), Ok(Command::Kill { signal: 9, all: true, .. })));
    assert!(matches!(parse_words("kill web"), Ok(Command::Kill { signal: 15, all: false, .. })));
    assert!(matches!(parse_words("delete web --force"), Ok(Command::Delete { force: true, .. })));
    assert!(matches!(parse_words("--systemd-cgroup=false state web"), Ok(Command::State { .. })));
}

#[test]
fn behind_execs_id_everything_is_the_commands() {
    let Ok(Command::Exec { options, .. }) = parse_words("exec -d --env A=B web ls --root -x") else { panic!() };
    assert_eq!(options.args, ["ls", "--root", "-x"]);
    let Ok(Command::Exec { options, .. }) = parse_words("exec --process /p web --pid-file /f -d") else { panic!() };
    assert!(options.detach && options.pid_file.is_some());
}

#[test]
fn what_is_wrong_is_refused() {
    for line in [
        "",
        "create",
        "create a b",
        "frob a",
        "start a --force",
        "exec web",
        "kill web NOPE",
        "create ../x",
        "create --no-such a",
        "update --cpu-quota x a",
        "update --bundle x a",
        "events --interval x a",
        "list a",
        "run --preserve-fds x a",
        "exec --cap",
        "--log-format xml state a",
        "exec --env A web ls",
    ] {
        assert!(parse_words(line).is_err(), "{line}");
    }
}

#[test]
fn users_are_exact_numbers() {
    assert_eq!(user("1").unwrap(), (1, None));
    assert_eq!(user("1:2").unwrap(), (1, Some(2)));
    for bad in ["", "1:", ":2", "abc", "-1", "4294967296", "4294967295", " 1", "0x1", "1.5", "1:2:3", "+1"] {
        assert!(user(bad).is_err(), "{bad}");
    }
}
