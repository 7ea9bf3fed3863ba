//! From a request to a call: the table of `/v1`. Pure.

use handoff::ShutdownKind;

use super::{
    frame::PROTOCOL,
    http::{Answer, Body, Head, MAX_COMMAND_BYTES},
    types::ExecRequest,
};
use crate::{daemon::Owner, unit::UnitName};

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Ping,
    Units,
    Unit(UnitName),
    Job {
        unit: UnitName,
        verb: Verb,
        no_block: bool,
    },
    Kill {
        unit: UnitName,
        signal: i32,
    },
    /// `ReloadSignal=`, `ReloadCmd=`
    Reload(UnitName),
    /// Another program in a unit's container.
    Exec {
        unit: UnitName,
        request: ExecRequest,
    },
    Logs(LogQuery),
    Stats,
    /// Of these units; of all without.
    Events(Vec<UnitName>),
    System,
    Settled,
    Timing,
    Shutdown(ShutdownKind),
    Secrets(SecretCall),
    /// Another supervisor in place of this one.
    Reexec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretCall {
    List,
    Show(String),
    Put {
        name: String,
        value: Body,
        /// There has to be one, or none.
        replace: bool,
    },
    Remove(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogQuery {
    /// Whose logs, merged in the order of time; all without.
    pub(crate) owners: Vec<Owner>,
    /// The last so many records; all without.
    pub(crate) tail: Option<usize>,
    pub(crate) follow: bool,
    /// µs since 1970, both included.
    pub(crate) since_us: Option<i64>,
    pub(crate) until_us: Option<i64>,
    /// As journalctl takes it: 0, -1, an id.
    pub(crate) boot: Option<String>,
    /// A regular expression.
    pub(crate) grep: Option<String>,
}

/// Finds the call, or the problem to answer with.
pub(crate) fn route(head: &Head) -> Result<Call, Answer> {
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let query = Query::parse(query)?;
    let segments: Vec<String> = path
        .strip_prefix("/v1/")
        .ok_or_else(|| Answer::problem(404, format!("{path}: the interface lies below /v1/")))?
        .split('/')
        .map(decode)
        .collect::<Result<_, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = head.method.as_str();
    let call = match (method, segments.as_slice()) {
        ("GET", ["ping"]) => Call::Ping,
        ("GET", ["units"]) => Call::Units,
        ("GET", ["units", name]) => Call::Unit(unit(name)?),
        ("POST", ["units", name, "kill"]) => {
            let signal = crate::unit::signal(query.get("signal").unwrap_or("TERM"))
                .map_err(|_| Answer::problem(400, "signal: no such signal; write TERM, SIGTERM, 15 or RTMIN+1"))?;
            Call::Kill { unit: unit(name)?, signal }
        }
        ("POST", ["units", name, "exec"]) => Call::Exec { unit: unit(name)?, request: exec(head)? },
        ("POST", ["units", name, "reload"]) => Call::Reload(unit(name)?),
        ("POST", ["units", name, verb @ ("start" | "stop" | "restart")]) => {
            let verb = match *verb {
                "start" => Verb::Start,
                "stop" => Verb::Stop,
                _ => Verb::Restart,
            };
            Call::Job { unit: unit(name)?, verb, no_block: query.flag("no_block")? }
        }
        ("GET", ["units", name, "logs"]) => Call::Logs(LogQuery { owners: vec![owner(name)?], ..query.logs()? }),
        ("GET", ["logs"]) => {
            let owners = query.all("unit").map(owner).collect::<Result<_, _>>()?;
            Call::Logs(LogQuery { owners, ..query.logs()? })
        }
        ("GET", ["stats"]) => Call::Stats,
        ("GET", ["events"]) => Call::Events(query.all("unit").map(unit).collect::<Result<_, _>>()?),
        ("GET", ["secrets"]) => Call::Secrets(SecretCall::List),
        ("GET", ["secrets", name]) => Call::Secrets(SecretCall::Show((*name).to_owned())),
        ("DELETE", ["secrets", name]) => Call::Secrets(SecretCall::Remove((*name).to_owned())),
        ("POST" | "PUT", ["secrets", name]) => {
            if !head.keeps_body() {
                return Err(Answer::problem(413, "a secret has at most 512000 bytes"));
            }
            let (name, value) = ((*name).to_owned(), head.body.clone());
            Call::Secrets(SecretCall::Put { name, value, replace: method == "PUT" })
        }
        ("GET", ["system"]) => Call::System,
        ("GET", ["system", "settled"]) => Call::Settled,
        ("GET", ["system", "timing"]) => Call::Timing,
        ("POST", ["system", "poweroff"]) => Call::Shutdown(ShutdownKind::PowerOff),
        ("POST", ["system", "reboot"]) => Call::Shutdown(ShutdownKind::Reboot),
        ("POST", ["system", "halt"]) => Call::Shutdown(ShutdownKind::Halt),
        ("POST", ["system", "reexec"]) => Call::Reexec,
        ("POST", ["system", "kexec"]) => Call::Shutdown(ShutdownKind::Kexec),
        (
            _,
            ["ping" | "units" | "logs" | "stats" | "events" | "secrets"]
            | ["secrets", _]
            | ["units", _]
            | ["units", _, "kill" | "exec" | "reload" | "start" | "stop" | "restart" | "logs"]
            | ["system"]
            | ["system", "settled" | "timing" | "poweroff" | "reboot" | "halt" | "kexec" | "reexec"],
        ) => return Err(Answer::problem(405, format!("{path} is not for {method}"))),
        _ => return Err(Answer::problem(404, format!("{path}: there is no such thing in version 1"))),
    };
    Ok(call)
}

fn unit(name: &str) -> Result<UnitName, Answer> {
    UnitName::parse(name).map_err(|error| Answer::problem(404, format!("{name}: {error}")))
}

fn exec(head: &Head) -> Result<ExecRequest, Answer> {
    if !head.keeps_body() {
        return Err(Answer::problem(413, format!("a command has at most {MAX_COMMAND_BYTES} bytes")));
    }
    let wrong = |text: String| Answer::problem(400, text);
    let request: ExecRequest = serde_json::from_slice(&head.body.0)
        .map_err(|error| wrong(format!("the body is not an ExecRequest: {error}")))?;
    let mut words =
        request.command.iter().chain(&request.environment).chain(&request.user).chain(&request.working_directory);
    if words.any(|word| word.contains('\0')) {
        return Err(wrong("a NUL ends a word of the kernel's; leave it out".to_owned()));
    }
    if request.command.first().is_none_or(String::is_empty) {
        return Err(wrong("command: the program is missing".to_owned()));
    }
    if let Some(word) =
        request.environment.iter().find(|word| word.split_once('=').is_none_or(|(name, _)| name.is_empty()))
    {
        return Err(wrong(format!("environment: {word:?} is not of the form NAME=VALUE")));
    }
    if let Some(path) = request.working_directory.as_ref().filter(|path| !path.starts_with('/')) {
        return Err(wrong(format!("working_directory: {path} does not begin with /")));
    }
    if request.detach && (request.tty || request.stdin) {
        return Err(wrong("detach: nobody is there for tty or stdin".to_owned()));
    }
    if !request.detach && !head.upgrade {
        let text = format!("write Connection: Upgrade and Upgrade: {PROTOCOL}, or \"detach\": true");
        return Err(Answer::problem(426, text));
    }
    Ok(request)
}

fn owner(name: &str) -> Result<Owner, Answer> {
    Owner::parse(name).map_err(|text| Answer::problem(404, text))
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Answer> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            // Not '+' for a space: times with an offset have a plus, and nothing here has spaces.
            pairs.push((decode(key)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn logs(&self) -> Result<LogQuery, Answer> {
        let tail = self.get("tail").map(|text| {
            text.parse().map_err(|_| Answer::problem(400, format!("tail={text}: a number of lines is meant")))
        });
        Ok(LogQuery {
            owners: Vec::new(),
            tail: tail.transpose()?,
            follow: self.flag("follow")?,
            since_us: self.time("since")?,
            until_us: self.time("until")?,
            boot: self.get("boot").map(str::to_owned),
            grep: self.get("grep").map(str::to_owned),
        })
    }

    /// µs since 1970.
    fn time(&self, key: &str) -> Result<Option<i64>, Answer> {
        let time = self.get(key).map(|text| {
            text.parse::<jiff::Timestamp>()
                .map(|at| at.as_microsecond())
                .map_err(|_| Answer::problem(400, format!("{key}={text}: a time as 2026-01-31T12:00:00Z is meant")))
        });
        time.transpose()
    }

    fn flag(&self, key: &str) -> Result<bool, Answer> {
        match self.get(key) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => Err(Answer::problem(400, format!("{key}={other}: true or false is meant"))),
        }
    }
}

fn decode(text: &str) -> Result<String, Answer> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?')),
            _ => return Err(Answer::problem(400, format!("{text}: % is followed by two hexadecimal digits"))),
        }
    }
    String::from_utf8(bytes).map_err(|_| Answer::problem(400, format!("{text}: not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, target: &str) -> Result<Call, u16> {
        let head = Head {
            method: method.into(),
            target: target.into(),
            keep_alive: true,
            chunks: true,
            body_bytes: 0,
            body: Body::default(),
            expects_continue: false,
            upgrade: false,
        };
        route(&head).map_err(|answer| answer.status)
    }

    fn name(text: &str) -> UnitName {
        UnitName::parse(text).unwrap()
    }

    #[test]
    fn every_endpoint_has_its_call() {
        assert_eq!(call("GET", "/v1/ping"), Ok(Call::Ping));
        assert_eq!(call("GET", "/v1/events"), Ok(Call::Events(Vec::new())));
        assert_eq!(call("GET", "/v1/events?unit=web&unit=a%40b"), Ok(Call::Events(vec![name("web"), name("a@b")])));
        assert_eq!((call("GET", "/v1/stats"), call("POST", "/v1/stats")), (Ok(Call::Stats), Err(405)));
        assert_eq!(call("GET", "/v1/units/web.container"), Ok(Call::Unit(name("web"))));
        let start = Call::Job { unit: name("web"), verb: Verb::Start, no_block: true };
        assert_eq!(call("POST", "/v1/units/web/start?no_block=true"), Ok(start));
        assert_eq!(call("POST", "/v1/units/web/reload"), Ok(Call::Reload(name("web"))));
        assert_eq!(call("GET", "/v1/units/web/reload"), Err(405));
        assert_eq!(call("POST", "/v1/units/web/kill"), Ok(Call::Kill { unit: name("web"), signal: 15 }));
        let owner = |text: &str| Owner::parse(text).unwrap();
        let query = LogQuery { tail: Some(5), follow: true, since_us: Some(1_000_000), ..LogQuery::default() };
        let of_web = LogQuery { owners: vec![owner("web")], ..query.clone() };
        let target = "tail=5&follow&since=1970-01-01T00%3A00%3A01Z";
        assert_eq!(call("GET", &format!("/v1/units/web/logs?{target}")), Ok(Call::Logs(of_web)));
        assert_eq!(call("GET", &format!("/v1/logs?{target}")), Ok(Call::Logs(query)));
        let query = LogQuery {
            owners: vec![owner("web"), owner("@kernel")],
            boot: Some("-1".into()),
            grep: Some("a b".into()),
            until_us: Some(0),
            ..LogQuery::default()
        };
        let target = "/v1/logs?unit=web&unit=%40kernel&boot=-1&grep=a%20b&until=1970-01-01T00:00:00Z";
        assert_eq!(call("GET", target), Ok(Call::Logs(query)));
        assert_eq!(call("POST", "/v1/system/reboot"), Ok(Call::Shutdown(ShutdownKind::Reboot)));
    }

    #[test]
    fn a_command_comes_as_json_and_with_an_upgrade() {
        let exec = |upgrade: bool, body: &str| {
            let (method, target) = ("POST".into(), "/v1/units/web/exec".into());
            let body_bytes = body.len();
            let body = Body(body.into());
            let (keep_alive, chunks, expects_continue) = (true, true, false);
            let head = Head { method, target, keep_alive, chunks, body_bytes, body, expects_continue, upgrade };
            route(&head).map_err(|answer| answer.status)
        };
        let request = ExecRequest { command: vec!["sh".into()], tty: true, ..ExecRequest::default() };
        let text = r#"{"command":["sh"],"tty":true}"#;
        assert_eq!(exec(true, text), Ok(Call::Exec { unit: name("web"), request }));
        assert_eq!(exec(false, text), Err(426));
        assert!(exec(false, r#"{"command":["sh"],"detach":true}"#).is_ok());
        for wrong in [
            "",
            "{}",
            r#"{"command":[]}"#,
            r#"{"command":[""]}"#,
            r#"{"command":["a\u0000b"]}"#,
            r#"{"command":["a"],"environment":["x"]}"#,
            r#"{"command":["a"],"working_directory":"tmp"}"#,
            r#"{"command":["a"],"detach":true,"tty":true}"#,
            r#"{"command":["a"],"colour":"red"}"#,
        ] {
            assert_eq!(exec(true, wrong), Err(400), "{wrong}");
        }
        assert_eq!(call("GET", "/v1/units/web/exec"), Err(405));
    }

    #[test]
    fn what_is_not_there_and_what_is_not_so_are_told_apart() {
        assert_eq!(call("GET", "/"), Err(404));
        assert_eq!(call("GET", "/v1/nothing"), Err(404));
        assert_eq!(call("GET", "/v1/units/..%2fetc"), Err(404));
        assert_eq!(call("GET", "/v1/units/web/start"), Err(405));
        assert_eq!(call("DELETE", "/v1/units/web"), Err(405));
        assert_eq!(call("POST", "/v1/units/web/kill?signal=NOPE"), Err(400));
        assert_eq!(call("GET", "/v1/units/web/logs?tail=-1"), Err(400));
        assert_eq!(call("GET", "/v1/units/web/logs?since=yesterday"), Err(400));
        assert_eq!(call("GET", "/v1/units/%zz"), Err(400));
        assert_eq!(call("GET", "/v1/logs?unit=@nobody"), Err(404));
    }
}
