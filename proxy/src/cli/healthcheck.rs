//! `openclaw-edge healthcheck`: whether a running process is ready, or whether a URL answers, with
//! the patience of a deploy step or the haste of a probe.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use config::model::UpstreamTls;
use config::value::duration;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::out::tell;
use super::place::{End, Place, finish};
use super::run;
use super::socket::{Silence, Socket};
use super::table::printable;
use crate::control::health::failure::Reason;
use crate::control::health::url::{Question, Url, ask};
use crate::upstream::transport::tls_client;

#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Ask this URL instead of the running process; redirects are not followed
    #[arg(value_name = "URL", group = "asked")]
    at: Option<Url>,
    /// The same as an option
    #[arg(long, value_name = "URL", group = "asked")]
    url: Option<Url>,
    /// How often it is asked until it answers well
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    attempts: u32,
    /// Between two attempts
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// For each attempt, name lookup and TLS included
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = patience)]
    timeout: Duration,
    /// Good statuses: one, or from..to
    #[arg(long, value_name = "STATUS", default_value = "200..399", requires = "asked")]
    expect: Statuses,
    /// Connect to this address (IPv6 in brackets) instead of asking DNS for the URL's host; TLS and
    /// the Host field keep its name
    #[arg(long, value_name = "HOST[:PORT]:ADDRESS", requires = "asked")]
    resolve: Option<Resolve>,
    /// Trust the CAs in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", requires = "asked", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long, requires = "asked")]
    insecure: bool,
    #[command(flatten)]
    place: Place,
}

/// `200` or `200..399`, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statuses(u16, u16);

/// As curl's `--resolve`; the port is that of the URL, where it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolve {
    host: String,
    port: Option<u16>,
    address: IpAddr,
}

pub fn main(args: HealthcheckArgs) -> ExitCode {
    let subject = match args.subject() {
        Ok(subject) => subject,
        Err(Mistake::Usage(why)) => {
            let mistake = clap::Error::raw(ErrorKind::ValueValidation, format!("{why}\n"));
            let _ = mistake.print();
            return ExitCode::from(USAGE);
        }
        Err(Mistake::Other(end)) => return finish(Err(end)),
    };
    finish(run(async { check(&subject, &args).await }))
}

/// Who is asked.
enum Subject {
    /// The running process, whether it is ready.
    Process(Socket),
    Url(Box<Question>),
}

enum Mistake {
    Usage(String),
    Other(End),
}

impl HealthcheckArgs {
    fn subject(&self) -> Result<Subject, Mistake> {
        let Some(url) = self.at.as_ref().or(self.url.as_ref()) else {
            return Socket::of(&self.place).map(Subject::Process).map_err(Mistake::Other);
        };
        let address = match &self.resolve {
            Some(resolve) => Some(resolve.of(url).map_err(Mistake::Usage)?),
            None => None,
        };
        let tls = match url.is_https() {
            true => Some(tls_client(&self.trust()).map_err(|why| Mistake::Other(End::No(why)))?),
            false => None,
        };
        let Statuses(least, most) = self.expect;
        let status = (least, most);
        Ok(Subject::Url(Box::new(Question { url: url.clone(), address, tls, status })))
    }

    fn trust(&self) -> UpstreamTls {
        let (ca, insecure) = (self.ca.clone(), self.insecure);
        UpstreamTls { ca, certificate: None, server_name: None, insecure }
    }
}

/// Asks until it is well or nobody wants to wait any more. The last result counts.
async fn check(subject: &Subject, args: &HealthcheckArgs) -> Result<(), End> {
    let mut attempt = 1;
    loop {
        let end = match subject.ask(args.timeout).await {
            Ok(well) => {
                tell!("ok: {well}");
                return Ok(());
            }
            Err(end) => end,
        };
        let (End::No(why) | End::Unreachable(why) | End::TimedOut(why)) = &end;
        let why = printable(why);
        if attempt >= args.attempts {
            tell!("failed: {why}");
            return Err(end.silent());
        }
        let (all, pause) = (args.attempts, args.interval.as_secs_f32());
        eprintln!("attempt {attempt} of {all}: {why}; again in {pause} s");
        sleep(args.interval).await;
        attempt += 1;
    }
}

impl End {
    /// What it says is on stdout already.
    fn silent(self) -> End {
        match self {
            End::No(_) => End::No(String::new()),
            End::Unreachable(_) => End::Unreachable(String::new()),
            End::TimedOut(_) => End::TimedOut(String::new()),
        }
    }
}

impl Subject {
    /// One attempt: what is well, or what is not.
    async fn ask(&self, patience: Duration) -> Result<String, End> {
        let asked = Instant::now();
        match self {
            Subject::Process(socket) => {
                let answer = socket.ask(Method::GET, "/readyz", None);
                let late = || Err(Silence::TimedOut);
                match timeout(patience, answer).await.unwrap_or_else(|_| late()) {
                    Ok((StatusCode::OK, _)) => Ok("ready".to_owned()),
                    Ok((_, told)) => Err(End::No(format!("not ready: {}", reasons(&told)))),
                    Err(Silence::TimedOut) => Err(End::TimedOut(format!(
                        "the process on {} has not answered within {} s",
                        socket.path().display(),
                        patience.as_secs_f32()
                    ))),
                    Err(silence) => Err(socket.told(silence)),
                }
            }
            Subject::Url(question) => {
                let url = &question.url;
                match ask(question, patience).await {
                    Ok(status) => {
                        Ok(format!("{url}: status {status} in {} ms", asked.elapsed().as_millis()))
                    }
                    Err(why) => {
                        let text = format!("{url}: {why}");
                        Err(match why.reason {
                            Reason::ConnectFailed | Reason::Local => End::Unreachable(text),
                            Reason::Timeout => End::TimedOut(text),
                            _ => End::No(text),
                        })
                    }
                }
            }
        }
    }
}

/// What `/readyz` misses.
fn reasons(told: &Value) -> String {
    let reasons = told["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: Vec<&str> = reasons.collect();
    match reasons.is_empty() {
        true => told.to_string(),
        false => reasons.join(", "),
    }
}

impl Resolve {
    /// The address for this URL.
    fn of(&self, url: &Url) -> Result<IpAddr, String> {
        let same = self.host.eq_ignore_ascii_case(url.host());
        if same && self.port.is_none_or(|port| port == url.port()) {
            return Ok(self.address);
        }
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let (host, is, of) = (&self.host, url.host(), url.port());
        Err(format!("--resolve names {host}{port}, and the URL leads to {is}:{of}"))
    }
}

impl FromStr for Resolve {
    type Err = String;

    fn from_str(text: &str) -> Result<Resolve, String> {
        let whole = || "write HOST:ADDRESS or HOST:PORT:ADDRESS".to_owned();
        let (host, rest) =
            text.split_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(whole)?;
        let (port, address) = match rest.split_once(':') {
            Some((port, address)) if !rest.starts_with('[') => (Some(port), address),
            _ => (None, rest),
        };
        let port = match port {
            Some(port) => Some(port.parse().map_err(|_| format!("{port} is no port"))?),
            None => None,
        };
        let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => {
                v6.parse().map(IpAddr::V6).map_err(|_| format!("{v6} is no IPv6 address"))?
            }
            None => address.parse().map(IpAddr::V4).map_err(|_| {
                format!("{address} is no IPv4 address; IPv6 is written in brackets")
            })?,
        };
        Ok(Resolve { host: host.to_owned(), port, address })
    }
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Statuses, String> {
        let (least, most) =
            text.split_once("..").or_else(|| text.split_once('-')).unwrap_or((text, text));
        let status = |text: &str| text.parse().ok().filter(|status| (200..600).contains(status));
        match (status(least), status(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Statuses(least, most)),
            _ => Err("write `200` or `200..399`; statuses are 200 to 599".to_owned()),
        }
    }
}

/// A time that is not nothing.
fn patience(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(time) if time.is_zero() => Err("nothing answers within no time".to_owned()),
        Ok(time) => Ok(time),
        Err(why) => Err(why.to_string()),
    }
}

/// As clap's own.
const USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!("204".parse(), Ok(Statuses(204, 204)));
        assert_eq!("200..399".parse(), Ok(Statuses(200, 399)));
        assert_eq!("200-399".parse(), Ok(Statuses(200, 399)));
        for bad in ["", "..", "2xx", "399..200", "100", "200..600", "200..", "-1"] {
            assert!(bad.parse::<Statuses>().is_err(), "{bad}");
        }
    }

    #[test]
    fn resolve_as_curl_has_it() {
        let of = |text: &str, url: &str| {
            text.parse::<Resolve>().and_then(|one| one.of(&url.parse().unwrap()))
        };
        let url = "https://a.openclaw.example/h";
        for (text, address) in [
            ("a.openclaw.example:127.0.0.1", "127.0.0.1"),
            ("A.openclaw.example:443:127.0.0.1", "127.0.0.1"),
            ("a.openclaw.example:[::1]", "::1"),
            ("a.openclaw.example:443:[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(of(text, url).unwrap(), address.parse::<IpAddr>().unwrap(), "{text}");
        }
        for bad in [
            "a.openclaw.example",
            ":127.0.0.1",
            "a.openclaw.example:80:127.0.0.1",
            "b.openclaw.example:127.0.0.1",
            "a.openclaw.example:443:1::2",
            "a.openclaw.example:[1::2",
            "a.openclaw.example:443:localhost",
        ] {
            assert!(of(bad, url).is_err(), "{bad}");
        }
    }

    #[test]
    fn reasons_are_told_whatever_answers() {
        let told = serde_json::json!({ "reasons": ["draining", "listeners are not open"] });
        assert_eq!(reasons(&told), "draining, listeners are not open");
        assert_eq!(reasons(&serde_json::json!({ "error": "x" })), "{\"error\":\"x\"}");
    }
}
