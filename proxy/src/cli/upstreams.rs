//! `openclaw-edge upstreams`: whether each endpoint of a running process is used, and why not.

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
use super::table::{columns, only, printable};

#[derive(Debug, Args)]
pub struct UpstreamsArgs {
    /// Only this upstream
    #[arg(value_parser = Name::new)]
    name: Option<Name>,
    #[command(flatten)]
    place: Place,
    /// Form of the output; json is that of GET /api/v1/upstreams
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One entry of `GET /api/v1/upstreams`, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Upstream {
    pub name: String,
    pub usable: usize,
    pub panic: bool,
    pub endpoints: Vec<Endpoint>,
    pub unresolved: Vec<Unresolved>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    pub address: String,
    pub state: String,
    pub why: String,
    pub weight: u32,
    pub requests: usize,
    pub connections: usize,
    pub latency_ms: Option<f64>,
}

/// A name without an address so far.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Unresolved {
    pub name: String,
    pub why: Option<String>,
}

pub fn main(args: UpstreamsArgs) -> ExitCode {
    finish(run(async { list(&args).await }))
}

async fn list(args: &UpstreamsArgs) -> Result<(), End> {
    let mut value = Socket::of(&args.place)?.get(PATH).await?;
    if let Some(name) = &args.name {
        keep(&mut value, name.as_str())?;
    }
    let all = entries(&value);
    match args.output {
        Output::Json => tell!("{value:#}"),
        Output::Table => {
            out::text(&table(&all));
            for upstream in all.iter().filter(|upstream| upstream.panic) {
                let name = &upstream.name;
                eprintln!("note: no endpoint of {name} is healthy: all but drained ones are used");
            }
        }
    }
    match unusable(&all) {
        None => Ok(()),
        Some(names) => Err(End::No(format!("no usable endpoint: {names}"))),
    }
}

pub fn entries(value: &Value) -> Vec<Upstream> {
    let all = value["upstreams"].as_array().into_iter().flatten();
    all.filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

fn keep(value: &mut Value, name: &str) -> Result<(), End> {
    let none = |known| End::No(format!("there is no upstream {name}; there are: {known}"));
    only(&mut value["upstreams"], "name", name).map_err(none)
}

/// Upstreams without an endpoint that requests would be given to.
fn unusable(all: &[Upstream]) -> Option<String> {
    let names = all.iter().filter(|upstream| upstream.usable == 0);
    let names = names.map(|upstream| upstream.name.as_str()).collect::<Vec<_>>();
    (!names.is_empty()).then(|| names.join(", "))
}

fn table(all: &[Upstream]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for upstream in all {
        rows.extend(upstream.endpoints.iter().map(|endpoint| {
            let latency = endpoint.latency_ms.map(|ms| format!("{ms} ms"));
            [
                upstream.name.clone(),
                endpoint.address.clone(),
                endpoint.state.clone(),
                endpoint.why.clone(),
                endpoint.weight.to_string(),
                endpoint.requests.to_string(),
                endpoint.connections.to_string(),
                latency.unwrap_or_else(|| NOTHING.to_owned()),
            ]
        }));
        rows.extend(upstream.unresolved.iter().map(|name| {
            let why = name.why.clone().unwrap_or_else(|| "never resolved so far".to_owned());
            let nothing = || NOTHING.to_owned();
            let (of, text) = (upstream.name.clone(), name.name.clone());
            [of, text, "unresolved".into(), why, nothing(), nothing(), nothing(), nothing()]
        }));
        if upstream.endpoints.is_empty() && upstream.unresolved.is_empty() {
            let mut row = HEAD.map(|_| NOTHING.to_owned());
            row[0].clone_from(&upstream.name);
            rows.push(row);
        }
    }
    columns(&rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect::<Vec<_>>())
}

pub const PATH: &str = "/api/v1/upstreams";
const NOTHING: &str = "-";
const HEAD: [&str; 8] =
    ["UPSTREAM", "ENDPOINT", "STATE", "WHY", "WEIGHT", "REQUESTS", "CONNECTIONS", "LATENCY"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Value {
        json!({ "upstreams": [
            { "name": "api", "usable": 1, "endpoints": [
                { "address": "192.0.2.1:80", "state": "healthy", "why": "health checks pass",
                  "weight": 2, "requests": 3, "connections": 10, "latency_ms": 1.25 },
                { "address": "192.0.2.2:80", "state": "unhealthy",
                  "why": "health checks fail: refused\u{1b}[2J", "weight": 1 }
            ] },
            { "name": "web", "usable": 0, "panic": false,
              "unresolved": [{ "name": "web.openclaw.example:80", "why": "no such name" }] },
            { "name": "empty", "usable": 0 }
        ] })
    }

    #[test]
    fn the_table() {
        let expected = "\
UPSTREAM  ENDPOINT                 STATE       WHY                              WEIGHT  REQUESTS  CONNECTIONS  LATENCY
api       192.0.2.1:80             healthy     health checks pass               2       3         10           1.25 ms
api       192.0.2.2:80             unhealthy   health checks fail: refused [2J  1       0         0            -
web       web.openclaw.example:80  unresolved  no such name                     -       -         -            -
empty     -                        -           -                                -       -         -            -
";
        assert_eq!(table(&entries(&told())), expected);
    }

    #[test]
    fn upstreams_that_cannot_be_used_are_told() {
        assert_eq!(unusable(&entries(&told())).as_deref(), Some("web, empty"));
        let mut value = told();
        keep(&mut value, "api").unwrap();
        assert_eq!(unusable(&entries(&value)), None);
        let why = keep(&mut told(), "other").unwrap_err();
        assert_eq!(why, End::No("there is no upstream other; there are: api, web, empty".into()));
    }
}
