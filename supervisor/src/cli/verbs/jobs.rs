//! `start`, `stop`, `restart`, `reload`, `kill`: as systemctl, nothing is said when all went well.

use crate::{
    api::types::UnitStatus,
    cli::{
        args::{JobArgs, KillArgs, ReloadArgs},
        client::Client,
        error::CliError,
        names,
        screen::Screen,
    },
};

pub(in crate::cli) fn job(
    client: &Client,
    verb: &str,
    args: &JobArgs,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    let query = if args.no_block { "?no_block=true" } else { "" };
    each(client, &args.units, json, screen, |name| format!("/v1/units/{}/{verb}{query}", names::encode(name)))
}

pub(in crate::cli) fn kill(client: &Client, args: &KillArgs, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let signal = names::encode(&args.signal);
    each(client, &args.units, json, screen, |name| format!("/v1/units/{}/kill?signal={signal}", names::encode(name)))
}

pub(in crate::cli) fn reload(
    client: &Client,
    args: &ReloadArgs,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    each(client, &args.units, json, screen, |name| format!("/v1/units/{}/reload", names::encode(name)))
}

/// Posts to every unit; one that fails does not keep the others from their turn. The last failure's status is the exit status.
fn each(
    client: &Client,
    words: &[String],
    json: bool,
    screen: &mut Screen,
    target: impl Fn(&str) -> String,
) -> Result<u8, CliError> {
    let mut done: Vec<UnitStatus> = Vec::new();
    let mut code = 0;
    for name in names::expand_loaded(client, words)? {
        match client.post(&target(&name)) {
            Ok(unit) => done.push(unit),
            Err(CliError::Refused(problem)) => {
                let error = CliError::Refused(problem);
                screen.complain(&error.to_string());
                code = error.exit_code();
            }
            Err(error) => return Err(error),
        }
    }
    if json {
        screen.print_json(&done)?;
    }
    Ok(code)
}
