use super::*;

fn parse_words(line: &str) -> Result<Command> {
    let words = std::iter::once("orlop-oci").chain(line.split_ascii_whitespace()).map(OsString::from);
    Words::new(words).read().map(|asked| asked.unwrap().command)
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
fn options_as_gos_flag_package_takes_them() {
    for line in [
        "-root /r -log=/l -debug create -bundle /b web",
        "create web -bundle=/b --root /r -debug=T",
        "--debug=1 create -b /b web -root=/r",
    ] {
        let words = std::iter::once("orlop-oci").chain(line.split(' ')).map(OsString::from);
        let mut words = Words::new(words);
        let Invocation { root, command, .. } = words.read().unwrap().unwrap();
        assert!(words.log.debug && root.unwrap().to_str() == Some("/r"), "{line}");
        let Command::Create { id, options } = command else { panic!("{line}") };
        assert_eq!((id.as_str(), options.bundle.to_str()), ("web", Some("/b")), "{line}");
    }
    for (value, want) in [("1", true), ("t", true), ("True", true), ("0", false), ("F", false), ("FALSE", false)] {
        assert!(
            matches!(parse_words(&format!("delete --force={value} a")), Ok(Command::Delete { force, .. }) if force == want)
        );
    }
    assert!(parse_words("delete --force=yes a").is_err());
    // Two dashes end the options, and what is another program's is left alone.
    assert!(matches!(parse_words("state -- -root"), Ok(Command::State { id }) if id.as_str() == "-root"));
    assert!(
        matches!(parse_words("exec a ls -root"), Ok(Command::Exec { options, .. }) if options.args == ["ls", "-root"])
    );
}

#[test]
fn help_of_one_command() {
    for line in [
        "run --help",
        "create -h",
        "exec -help web",
        "create --bundle /b -h",
        "help kill",
        "help",
        "-h",
        "--log /l --help",
    ] {
        let words = std::iter::once("orlop-oci").chain(line.split(' ')).map(OsString::from);
        assert!(Words::new(words).read().unwrap().is_none(), "{line}");
    }
    assert!(help_of("run").contains("[--keep]") && help_of("run").contains("--pidfd-socket"));
    assert!(help_of("kill").contains("[SIGNAL]") && !help_of("kill").contains("--bundle"));
    assert!(
        matches!(parse_words("exec a ls --help"), Ok(Command::Exec { options, .. }) if options.args == ["ls", "--help"])
    );
    assert!(parse_words("frob --help").is_err() && parse_words("help frob").is_err());
}

#[test]
fn behind_the_id_of_ps_stand_its_options() {
    let ps = |line: &str| match parse_words(line) {
        Ok(Command::Ps { json, options, .. }) => (json, options.join(" ")),
        _ => panic!("{line}"),
    };
    assert_eq!(ps("ps a"), (false, String::new()));
    assert_eq!(ps("ps a -ef"), (false, "-ef".to_owned()));
    assert_eq!(ps("ps -f table a aux --sort -pid"), (false, "aux --sort -pid".to_owned()));
    assert_eq!(ps("ps a --format json"), (true, String::new()));
    assert!(parse_words("ps --format json a -ef").is_err());
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

#[test]
fn rootless_of_spec_is_its_own() {
    assert!(matches!(parse_words("spec --rootless"), Ok(Command::Spec { rootless: true, .. })));
    assert!(
        matches!(parse_words("spec --rootless -b /b"), Ok(Command::Spec { rootless: true, bundle }) if bundle.ends_with("b"))
    );
    assert!(matches!(parse_words("--rootless false spec"), Ok(Command::Spec { rootless: false, .. })));
}
