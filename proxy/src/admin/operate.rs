//! `POST` of the operator's commands: endpoints are taken out and put back, splits shifted. They
//! are carried out by the control thread.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use config::value::Name;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sources;
use super::pages::timestamp;
use super::query::pairs;
use super::upstreams::{shifted_weights, split_weights};
use crate::control::command::{Command, Commands, Drained, EndpointOf, Lasts, Refusal};
use crate::control::shifts::Shown;

/// A command by its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Drain(&'a str),
    Undrain(&'a str),
    Shift(&'a str),
    Unshift(&'a str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shift {
    /// By upstream; those that are not named share the rest.
    weights: BTreeMap<String, u32>,
    /// `30m`, or `forever`: until the split changes or the process ends.
    #[serde(rename = "for")]
    lasts: Option<String>,
}

type Done = Result<Value, (StatusCode, String)>;

impl<'a> Asked<'a> {
    /// `/api/v1/upstreams/NAME/drain` and its like.
    pub(super) fn of(path: &'a str) -> Option<Asked<'a>> {
        let (kind, rest) = path.strip_prefix("/api/v1/")?.split_once('/')?;
        let (name, verb) = rest.split_once('/')?;
        match (kind, verb) {
            ("upstreams", "drain") => Some(Asked::Drain(name)),
            ("upstreams", "undrain") => Some(Asked::Undrain(name)),
            ("routes", "shift") => Some(Asked::Shift(name)),
            ("routes", "unshift") => Some(Asked::Unshift(name)),
            _ => None,
        }
    }
}

/// Has it done. Errors: 400 what cannot be read, 404 what is not there, 409 what cannot be done,
/// 503 while the process starts, ends or has too much to do.
pub(super) async fn operate(
    sources: &Sources,
    asked: Asked<'_>,
    query: &str,
    body: &Bytes,
) -> Done {
    let commands = commands(sources)?;
    match asked {
        Asked::Drain(upstream) => {
            let (of, force) = endpoint(upstream, query)?;
            let make = |tell| Command::Drain { of: of.clone(), force, tell };
            Ok(drained(&of, &commands.ask(make).await.map_err(refused)?))
        }
        Asked::Undrain(upstream) => {
            let (of, _) = endpoint(upstream, query)?;
            let make = |tell| Command::Undrain { of: of.clone(), tell };
            Ok(drained(&of, &commands.ask(make).await.map_err(refused)?))
        }
        Asked::Shift(route) => {
            let (weights, lasts) = shift(body)?;
            let name = route.to_owned();
            let make = |tell| Command::Shift { route: name, weights, lasts, tell };
            Ok(shifted(route, &commands.ask(make).await.map_err(refused)?))
        }
        Asked::Unshift(route) => {
            let name = route.to_owned();
            let make = |tell| Command::Unshift { route: name, tell };
            Ok(shifted(route, &commands.ask(make).await.map_err(refused)?))
        }
    }
}

fn commands(sources: &Sources) -> Result<&Commands, (StatusCode, String)> {
    let unavailable = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, why.to_owned());
    if sources.shared.drain.draining() {
        return Err(unavailable("the process ends"));
    }
    sources.status.commands.get().ok_or_else(|| unavailable("the process is starting"))
}

fn endpoint(upstream: &str, query: &str) -> Result<(EndpointOf, bool), (StatusCode, String)> {
    let (mut endpoint, mut force) = (None, false);
    for (name, value) in pairs(query).map_err(malformed)? {
        match (name.as_str(), value.as_str()) {
            ("endpoint", _) if endpoint.is_none() && !value.is_empty() => endpoint = Some(value),
            ("force", "true" | "") => force = true,
            ("force", "false") => force = false,
            _ => return Err(malformed(format!("{name}={value} is not for here"))),
        }
    }
    let endpoint = endpoint.ok_or_else(|| {
        malformed("name the endpoint: ?endpoint=ADDRESS, as /api/v1/upstreams shows it".to_owned())
    })?;
    Ok((EndpointOf { upstream: upstream.to_owned(), endpoint }, force))
}

fn shift(body: &Bytes) -> Result<(BTreeMap<Name, u32>, Lasts), (StatusCode, String)> {
    let Shift { weights, lasts } = super::actions::read(body)?;
    let named = |(name, weight): (String, u32)| match Name::new(&name) {
        Ok(name) => Ok((name, weight)),
        Err(why) => Err(malformed(why.to_string())),
    };
    let weights = weights.into_iter().map(named).collect::<Result<_, _>>()?;
    let lasts = match lasts {
        Some(text) => parse_lasts(&text).map_err(malformed)?,
        None => Some(DEFAULT),
    };
    Ok((weights, lasts))
}

/// `forever`, or a time of more than nothing and at most seven days.
///
/// # Errors
/// A sentence.
pub fn parse_lasts(text: &str) -> Result<Lasts, String> {
    if text == "forever" {
        return Ok(None);
    }
    let lasts = config::value::duration(text).map_err(|why| why.to_string())?;
    if lasts.is_zero() || lasts > LONGEST {
        return Err(format!("{text}: a shift lasts up to 7d, or `forever`"));
    }
    Ok(Some(lasts))
}

fn shifted(route: &str, shown: &Shown) -> Value {
    json!({
        "route": route,
        "configured": split_weights(&shown.configured),
        "weights": shifted_weights(&shown.weights),
        "until": shown.until.and_then(timestamp),
    })
}

fn drained(of: &EndpointOf, drained: &Drained) -> Value {
    json!({
        "upstream": of.upstream,
        "endpoint": of.endpoint,
        "changed": drained.changed,
        "requests": drained.requests,
    })
}

fn malformed(why: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why)
}

fn refused(why: Refusal) -> (StatusCode, String) {
    match why {
        Refusal::Unknown(why) => (StatusCode::NOT_FOUND, why),
        Refusal::Conflict(why) => (StatusCode::CONFLICT, why),
        Refusal::Busy(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Without `for`.
const DEFAULT: Duration = Duration::from_secs(3600);
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_commands() {
        for (path, asked) in [
            ("/api/v1/upstreams/web/drain", Some(Asked::Drain("web"))),
            ("/api/v1/upstreams/drain/undrain", Some(Asked::Undrain("drain"))),
            ("/api/v1/routes/a.b/shift", Some(Asked::Shift("a.b"))),
            ("/api/v1/routes/a/unshift", Some(Asked::Unshift("a"))),
            ("/api/v1/routes/a/drain", None),
            ("/api/v1/upstreams/a/b/drain", None),
            ("/api/v1/upstreams/drain", None),
            ("/api/v1/upstreams/web/drain/", None),
            ("/upstreams/web/drain", None),
        ] {
            assert_eq!(Asked::of(path), asked, "{path}");
        }
    }

    #[test]
    fn endpoints_in_queries() {
        let read = |query: &str| endpoint("u", query).map(|(of, force)| (of.endpoint, force));
        let address = |text: &str, force| Ok((text.to_owned(), force));
        assert_eq!(read("endpoint=192.0.2.1:80"), address("192.0.2.1:80", false));
        assert_eq!(read("force=true&endpoint=%5B::1%5D:80"), address("[::1]:80", true));
        assert_eq!(read("endpoint=unix:/run/a%20b&force"), address("unix:/run/a b", true));
        assert_eq!(read("endpoint=x&force=false"), address("x", false));
        for bad in
            ["", "endpoint=", "endpoint=a&endpoint=b", "force=true", "endpoint=a&force=1", "a=b"]
        {
            assert_eq!(read(bad).unwrap_err().0, StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    #[test]
    fn shifts_in_bodies() {
        let read = |body: &'static str| shift(&Bytes::from(body)).map(|(_, lasts)| lasts);
        assert_eq!(read(r#"{"weights":{"a":1}}"#), Ok(Some(DEFAULT)));
        assert_eq!(read(r#"{"weights":{},"for":"7d"}"#), Ok(Some(LONGEST)));
        assert_eq!(read(r#"{"weights":{"a":0},"for":"forever"}"#), Ok(None));
        for bad in [
            r#"{"weights":{"a":1},"for":"604801s"}"#,
            r#"{"weights":{"a":1},"for":"0s"}"#,
            r#"{"weights":{"a b":1}}"#,
            r#"{"weights":{"a":0.5}}"#,
            r#"{"weights":{"a":1},"fro":"1h"}"#,
            r#"{"for":"1h"}"#,
            "",
        ] {
            assert_eq!(read(bad).unwrap_err().0, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
