//! `openclaw-edge shift` and `unshift`: other weights for a route's split, for a while.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use config::value::Name;
use serde_json::{Value, json};

use super::out::tell;
use super::place::{End, Place, finish};
use super::run;
use super::socket::Socket;
use super::table::{distance, printable};
use crate::admin::operate::parse_lasts;
use crate::clock;

#[derive(Debug, Args)]
pub struct ShiftArgs {
    /// The route's name
    #[arg(value_parser = Name::new)]
    route: Name,
    /// Weights of the split's upstreams, as in the configuration; those that are not named share
    /// what is left of the sum as they are configured
    #[arg(required = true, value_name = "UPSTREAM=WEIGHT", value_parser = weight)]
    weights: Vec<(Name, u32)>,
    /// How long: up to 7d, or `forever`: until the split changes or the process ends
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = lasts)]
    lasts: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct UnshiftArgs {
    /// The route's name
    #[arg(value_parser = Name::new)]
    route: Name,
    #[command(flatten)]
    place: Place,
}

pub fn shift(args: ShiftArgs) -> ExitCode {
    finish(run(async {
        let mut weights = BTreeMap::new();
        for (upstream, weight) in &args.weights {
            if weights.insert(upstream.as_str(), *weight).is_some() {
                return Err(End::No(format!("{upstream} is named twice")));
            }
        }
        let body = json!({ "weights": weights, "for": args.lasts });
        let answer = Socket::of(&args.place)?.post(&path(&args.route, "shift"), &body).await?;
        tell!("{}", printable(&told(&answer, clock::unix_seconds())));
        Ok(())
    }))
}

pub fn unshift(args: UnshiftArgs) -> ExitCode {
    finish(run(async {
        let path = path(&args.route, "unshift");
        let answer = Socket::of(&args.place)?.post(&path, &json!({})).await?;
        tell!("{}: {} again, as configured", args.route, list(&answer["configured"]));
        Ok(())
    }))
}

fn told(answer: &Value, now: i64) -> String {
    let until = match answer["until"].as_str() {
        Some(at) => format!("until {at} ({})", distance(at, now)),
        None => "until the split changes or the process ends".to_owned(),
    };
    let route = answer["route"].as_str().unwrap_or_default();
    let (weights, configured) = (list(&answer["weights"]), list(&answer["configured"]));
    format!("{route}: {weights} {until}; configured: {configured}")
}

fn list(weights: &Value) -> String {
    let all = weights.as_object().into_iter().flatten();
    all.map(|(name, weight)| format!("{name} {weight}")).collect::<Vec<_>>().join(", ")
}

fn path(route: &Name, verb: &str) -> String {
    format!("/api/v1/routes/{route}/{verb}")
}

fn weight(text: &str) -> Result<(Name, u32), String> {
    let (name, weight) = text.split_once('=').ok_or("write UPSTREAM=WEIGHT")?;
    let name = Name::new(name).map_err(|why| why.to_string())?;
    let weight = weight.parse().map_err(|_| format!("{weight:?} is no whole number from 0"))?;
    Ok((name, weight))
}

fn lasts(text: &str) -> Result<String, String> {
    parse_lasts(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let (name, twenty) = weight("web-canary=20").unwrap();
        assert_eq!((name.as_str(), twenty), ("web-canary", 20));
        for bad in ["web", "web=", "web=-1", "web=20%", "=20", "a b=1"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
        for good in ["2s", "30m", "7d", "forever"] {
            assert_eq!(lasts(good).as_deref(), Ok(good));
        }
        for bad in ["0s", "30", "8d", "ever", ""] {
            assert!(lasts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_told() {
        let answer = json!({
            "route": "app", "until": "2027-01-15T08:30:00Z",
            "weights": { "web": 80, "web-canary": 20 },
            "configured": { "web": 95, "web-canary": 5 }
        });
        assert_eq!(
            told(&answer, 1_800_000_000),
            "app: web 80, web-canary 20 until 2027-01-15T08:30:00Z (in 30 minutes); \
             configured: web 95, web-canary 5"
        );
        let forever = json!({ "route": "app", "until": null });
        assert!(told(&forever, 0).contains("until the split changes or the process ends"));
    }
}
