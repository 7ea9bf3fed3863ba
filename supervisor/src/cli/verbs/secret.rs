//! `secret`: values go from a file or standard input to the machine, and none comes back.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use super::date;
use crate::{
    api::types::Secret,
    cli::{
        args::{SecretValue, SecretVerb},
        client::Client,
        error::CliError,
        names,
        screen::Screen,
    },
};

pub(in crate::cli) fn secret(
    client: &Client,
    verb: &SecretVerb,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    let target = |name: &str| format!("/v1/secrets/{}", names::encode(name));
    match verb {
        SecretVerb::Create(args) => give(client, "POST", &target(&args.name), args, json, screen),
        SecretVerb::Set(args) => give(client, "PUT", &target(&args.name), args, json, screen),
        SecretVerb::Ls => {
            let all: Vec<Secret> = client.get("/v1/secrets")?;
            if json {
                screen.print_json(&all)?;
                return Ok(0);
            }
            for secret in &all {
                screen.print(&format!("{}  {}\n", date(&secret.changed), secret.name))?;
            }
            Ok(0)
        }
        SecretVerb::Inspect { names } => {
            let all = names.iter().map(|name| client.get(&target(name))).collect::<Result<Vec<Secret>, _>>()?;
            screen.print_json(&all)?;
            Ok(0)
        }
        SecretVerb::Rm { names } => {
            for name in names {
                let _: Secret = client.call("DELETE", &target(name))?.json(&target(name))?;
            }
            Ok(0)
        }
    }
}

fn give(
    client: &Client,
    method: &str,
    target: &str,
    args: &SecretValue,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    let mut value = Vec::new();
    let read = if args.file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut value).map(drop)
    } else {
        fs::read(&args.file).map(|bytes| value = bytes)
    };
    read.map_err(|source| CliError::File { path: args.file.clone(), source })?;
    let secret: Secret = client.send(method, target, &value)?.json(target)?;
    if json {
        screen.print_json(&secret)?;
    }
    Ok(0)
}
