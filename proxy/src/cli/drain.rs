//! `openclaw-edge drain` and `undrain`: an endpoint is taken out of a running process, its
//! requests end by themselves, and is put back.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use config::value::Name;
use serde_json::json;
use tokio::time::Instant;

use super::out::tell;
use super::place::{End, Place, finish};
use super::run;
use super::socket::Socket;
use super::upstreams::{PATH, entries};
use crate::admin::query::encoded;

#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    of: Of,
    /// Wait until no request is under way at it, at most this long (`30s`, `5m`)
    #[arg(long, value_name = "TIME", value_parser = config::value::duration)]
    wait: Option<Duration>,
    /// Also the last endpoint of its upstream that can be used
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub struct UndrainArgs {
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Args)]
struct Of {
    /// The upstream's name
    #[arg(value_parser = Name::new)]
    upstream: Name,
    /// The endpoint's address, as `openclaw-edge upstreams` shows it
    endpoint: String,
    #[command(flatten)]
    place: Place,
}

pub fn drain(args: DrainArgs) -> ExitCode {
    finish(run(async {
        let (socket, of) = (Socket::of(&args.of.place)?, &args.of);
        let force = if args.force { "&force=true" } else { "" };
        let answer = socket.post(&(of.path("drain") + force), &json!({})).await?;
        let requests = answer["requests"].as_u64().unwrap_or_default();
        let Of { upstream, endpoint, .. } = of;
        match args.wait {
            Some(wait) => emptied(&socket, of, wait).await,
            None => {
                tell!("{upstream}: {endpoint} is drained; requests under way: {requests}");
                Ok(())
            }
        }
    }))
}

pub fn undrain(args: UndrainArgs) -> ExitCode {
    finish(run(async {
        let Of { upstream, endpoint, place } = &args.of;
        let answer = Socket::of(place)?.post(&args.of.path("undrain"), &json!({})).await?;
        match answer["changed"].as_bool() {
            Some(false) => tell!("{upstream}: {endpoint} was not drained"),
            _ => tell!("{upstream}: {endpoint} gets requests again"),
        }
        Ok(())
    }))
}

impl Of {
    fn path(&self, verb: &str) -> String {
        format!("{PATH}/{}/{verb}?endpoint={}", self.upstream, encoded(&self.endpoint))
    }
}

/// Looks until nothing is under way at the endpoint, or it is none any more.
async fn emptied(socket: &Socket, of: &Of, wait: Duration) -> Result<(), End> {
    let deadline = Instant::now() + wait;
    let Of { upstream, endpoint, .. } = of;
    let mut told = None;
    loop {
        let all = entries(&socket.get(PATH).await?);
        let one = all.iter().find(|one| one.name == upstream.as_str());
        let found = one.and_then(|one| one.endpoints.iter().find(|one| one.address == *endpoint));
        let Some(found) = found else {
            tell!("{upstream}: {endpoint} is no endpoint any more");
            return Ok(());
        };
        match found.requests {
            0 => {
                tell!("{upstream}: {endpoint} is drained; no request is under way");
                return Ok(());
            }
            under_way if told.replace(under_way) != Some(under_way) => {
                eprintln!("{upstream}: {endpoint} is drained; requests under way: {under_way}");
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            return Err(End::TimedOut(format!(
                "{upstream}: {endpoint} is drained, and after {} s requests are still under way: \
                 {}",
                wait.as_secs_f32(),
                found.requests
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(200);
