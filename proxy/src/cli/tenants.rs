//! `openclaw-edge tenants`: what a running process has made of the registry.

use std::process::ExitCode;

use clap::Args;
use config::value::Name;
use serde::Deserialize;
use serde_json::Value;

use super::certs::Output;
use super::out::{self, tell};
use super::place::{End, Place, finish};
use super::run;
use super::socket::Socket;
use super::table::{columns, printable};
use crate::wording::counted;

#[derive(Debug, Args)]
pub struct TenantsArgs {
    /// Only this tenant
    #[arg(value_parser = Name::new)]
    name: Option<Name>,
    /// Only tenants whose entry was refused
    #[arg(long)]
    refused: bool,
    #[command(flatten)]
    place: Place,
    /// Form of the output; json is that of GET /api/v1/tenants
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One entry of `GET /api/v1/tenants`, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Tenant {
    name: String,
    state: String,
    routes: Vec<Route>,
    reasons: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Route {
    endpoint: Option<String>,
    hosts: Vec<Host>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Host {
    host: String,
    certificate: Option<Certificate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Certificate {
    placeholder: bool,
    not_after: Option<String>,
}

pub fn main(args: TenantsArgs) -> ExitCode {
    finish(run(async { list(&args).await }))
}

async fn list(args: &TenantsArgs) -> Result<(), End> {
    let mut value = Socket::of(&args.place)?.get(PATH).await?;
    keep(&mut value, args)?;
    let all = entries(&value);
    match args.output {
        Output::Json => tell!("{value:#}"),
        Output::Table => out::text(&table(&all)),
    }
    let registry = value["registry"]["reasons"].as_array().into_iter().flatten();
    for why in registry.filter_map(Value::as_str) {
        eprintln!(
            "note: the registry is refused, its tenants go on as they were: {}",
            printable(why)
        );
    }
    match all.iter().filter(|tenant| tenant.state != GOOD).count() {
        0 => Ok(()),
        count => {
            let tenants = counted(count, "tenant is", "tenants are");
            Err(End::No(format!("{tenants} not as the registry says")))
        }
    }
}

fn entries(value: &Value) -> Vec<Tenant> {
    let all = value["tenants"].as_array().into_iter().flatten();
    all.filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

fn keep(value: &mut Value, args: &TenantsArgs) -> Result<(), End> {
    let Some(all) = value["tenants"].as_array_mut() else { return Ok(()) };
    if args.refused {
        all.retain(|tenant| tenant["state"] != GOOD);
    }
    let Some(name) = &args.name else { return Ok(()) };
    all.retain(|tenant| tenant["name"] == name.as_str());
    // The names of ten thousand would help nobody.
    match all.is_empty() {
        true => Err(End::No(format!("there is no tenant {name}"))),
        false => Ok(()),
    }
}

fn table(all: &[Tenant]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for tenant in all {
        let why = tenant.reasons.first().cloned().unwrap_or_else(|| NOTHING.to_owned());
        let row = |host: String, endpoint: String, certificate: String| {
            [tenant.name.clone(), tenant.state.clone(), host, endpoint, certificate, why.clone()]
        };
        let before = rows.len();
        for route in &tenant.routes {
            let endpoint = route.endpoint.clone().unwrap_or_else(|| NOTHING.to_owned());
            rows.extend(
                route
                    .hosts
                    .iter()
                    .map(|host| row(host.host.clone(), endpoint.clone(), certificate(host))),
            );
        }
        if rows.len() == before {
            let nothing = || NOTHING.to_owned();
            rows.push(row(nothing(), nothing(), nothing()));
        }
    }
    columns(&rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect::<Vec<_>>())
}

fn certificate(host: &Host) -> String {
    match &host.certificate {
        None => NOTHING.to_owned(),
        Some(shown) if shown.placeholder => "ordered".to_owned(),
        Some(shown) => {
            let until = shown.not_after.as_deref().unwrap_or_default();
            format!("until {}", until.split('T').next().unwrap_or_default())
        }
    }
}

const PATH: &str = "/api/v1/tenants";
const GOOD: &str = "good";
const NOTHING: &str = "-";
const HEAD: [&str; 6] = ["TENANT", "STATE", "HOST", "ENDPOINT", "CERTIFICATE", "WHY"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table() {
        let told = json!({ "tenants": [
            { "name": "acme-corp", "state": "good", "routes": [
                { "endpoint": "192.0.2.10:18790", "hosts": [{ "host": "a-bridge.gw.example" }] },
                { "endpoint": "192.0.2.10:18789", "hosts": [{ "host": "a.gw.example",
                  "certificate": { "placeholder": false, "not_after": "2027-02-14T08:00:00Z" } }] }
            ] },
            { "name": "new", "state": "good", "routes": [{ "endpoint": "192.0.2.11:1",
              "hosts": [{ "host": "n.gw.example", "certificate": { "placeholder": true } }] }] },
            { "name": "other", "state": "refused", "reasons": ["servers[3].host: \u{1b}[2J"] }
        ] });
        let expected = "\
TENANT     STATE    HOST                 ENDPOINT          CERTIFICATE       WHY
acme-corp  good     a-bridge.gw.example  192.0.2.10:18790  -                 -
acme-corp  good     a.gw.example         192.0.2.10:18789  until 2027-02-14  -
new        good     n.gw.example         192.0.2.11:1      ordered           -
other      refused  -                    -                 -                 servers[3].host:  [2J
";
        assert_eq!(table(&entries(&told)), expected);
    }
}
