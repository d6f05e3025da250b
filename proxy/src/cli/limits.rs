//! `openclaw-edge limits`: what the rate limits of a running process have decided, and who is
//! busiest.

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
pub struct LimitsArgs {
    /// Only the limits of this route, with their busiest keys
    #[arg(value_parser = Name::new)]
    route: Option<Name>,
    #[command(flatten)]
    place: Place,
    /// Form of the output; json is that of GET /api/v1/limits
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One entry of `routes` of `GET /api/v1/limits`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Route {
    route: String,
    limits: Vec<Limit>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Limit {
    name: String,
    key: Vec<String>,
    rate: Option<String>,
    burst: Option<u64>,
    concurrent: Option<u64>,
    dry_run: bool,
    decisions: Decisions,
    keys: u64,
    overflow: u64,
    streams: u64,
    hottest: Vec<Hot>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Decisions {
    passed: u64,
    refused: u64,
    dry_run: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Hot {
    key: String,
    recent_requests: u64,
    idle_seconds: u64,
}

pub fn main(args: LimitsArgs) -> ExitCode {
    finish(run(async { list(&args).await }))
}

async fn list(args: &LimitsArgs) -> Result<(), End> {
    let mut value = Socket::of(&args.place)?.get(PATH).await?;
    if let Some(route) = &args.route {
        keep(&mut value, route.as_str())?;
    }
    if let Output::Json = args.output {
        tell!("{value:#}");
        return Ok(());
    }
    let routes = entries(&value);
    if routes.is_empty() {
        eprintln!("note: no route has `rate_limits`");
        return Ok(());
    }
    out::text(&table(&routes));
    if args.route.is_some() {
        out::text("\n");
        out::text(&hottest(&routes));
    }
    Ok(())
}

fn entries(value: &Value) -> Vec<Route> {
    let all = value["routes"].as_array().into_iter().flatten();
    all.filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

fn keep(value: &mut Value, route: &str) -> Result<(), End> {
    let none = |known| End::No(format!("no route {route} has limits; these have: {known}"));
    only(&mut value["routes"], "route", route).map_err(none)
}

fn table(routes: &[Route]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for Route { route, limits } in routes {
        rows.extend(limits.iter().map(|limit| {
            let Decisions { passed, refused, dry_run } = &limit.decisions;
            let refused = if limit.dry_run { format!("({dry_run})") } else { refused.to_string() };
            [
                route.clone(),
                limit.name.clone(),
                limit.key.join(", "),
                allowed(limit),
                passed.to_string(),
                refused,
                limit.keys.to_string(),
                limit.overflow.to_string(),
                limit.streams.to_string(),
            ]
        }));
    }
    columns(&rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect::<Vec<_>>())
}

/// `10/s burst 20, 8 at once`
fn allowed(limit: &Limit) -> String {
    let rate = limit.rate.as_ref().zip(limit.burst);
    let rate = rate.map(|(rate, burst)| format!("{rate} burst {burst}"));
    let streams = limit.concurrent.map(|most| format!("{most} at once"));
    rate.into_iter().chain(streams).collect::<Vec<_>>().join(", ")
}

fn hottest(routes: &[Route]) -> String {
    let mut rows = vec![HOT_HEAD.map(str::to_owned)];
    for limit in routes.iter().flat_map(|route| &route.limits) {
        rows.extend(limit.hottest.iter().map(|hot| {
            [
                limit.name.clone(),
                hot.key.clone(),
                hot.recent_requests.to_string(),
                format!("{} s ago", hot.idle_seconds),
            ]
        }));
    }
    columns(&rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect::<Vec<_>>())
}

pub const PATH: &str = "/api/v1/limits";
const HEAD: [&str; 9] =
    ["ROUTE", "LIMIT", "KEY", "ALLOWED", "PASSED", "REFUSED", "KEYS", "OVERFLOW", "STREAMS"];
const HOT_HEAD: [&str; 4] = ["LIMIT", "HASHED KEY", "RECENT REQUESTS", "LAST"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Value {
        json!({ "routes": [
            { "route": "proxy", "limits": [
                { "name": "client_ip", "key": ["client_ip"], "rate": "50/s", "burst": 100,
                  "decisions": { "passed": 7, "refused": 2 }, "keys": 1 },
                { "name": "credential", "key": ["header:authorization", "header:x-api-key"],
                  "rate": "10/s", "burst": 20, "concurrent": 8, "dry_run": true,
                  "decisions": { "passed": 5, "dry_run": 2 }, "keys": 3, "overflow": 4,
                  "streams": 1, "hottest": [
                    { "key": "00ff00ff00ff00ff", "recent_requests": 6, "idle_seconds": 2 } ] }
            ] },
            { "route": "api", "limits": [{ "name": "a", "key": ["route"], "concurrent": 1 }] }
        ] })
    }

    #[test]
    fn the_tables() {
        let expected = "\
ROUTE  LIMIT       KEY                                     ALLOWED                   PASSED  REFUSED  KEYS  OVERFLOW  STREAMS
proxy  client_ip   client_ip                               50/s burst 100            7       2        1     0         0
proxy  credential  header:authorization, header:x-api-key  10/s burst 20, 8 at once  5       (2)      3     4         1
api    a           route                                   1 at once                 0       0        0     0         0
";
        assert_eq!(table(&entries(&told())), expected);
        let expected = "\
LIMIT       HASHED KEY        RECENT REQUESTS  LAST
credential  00ff00ff00ff00ff  6                2 s ago
";
        assert_eq!(hottest(&entries(&told())), expected);
    }

    #[test]
    fn one_route() {
        let mut value = told();
        keep(&mut value, "api").unwrap();
        assert_eq!(entries(&value).len(), 1);
        let why = keep(&mut told(), "web").unwrap_err();
        assert_eq!(why, End::No("no route web has limits; these have: proxy, api".into()));
    }
}
