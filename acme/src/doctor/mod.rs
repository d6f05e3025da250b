//! Why HTTP-01 would fail for a host, in one sentence, or that it will work.
//!
//! Advisory only: nothing here ever holds back an order. What can be seen from inside is not what
//! a CA sees: a router may refuse to bring a machine back to itself (NAT hairpin), and that is
//! said as what it is, never as a failure.

mod address;
mod caa;
mod dns;
mod fetch;
mod reach;
mod target;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;

pub use self::address::{is_own, reserved, source_towards};
use crate::name;

/// The process that would answer the CA.
pub trait Probe: Send + Sync {
    /// Makes it answer `token` on `host` as it would a challenge; returns the answer's body, or
    /// for people why that cannot be done (it does not run, say).
    fn plant<'a>(&'a self, host: &'a str, token: &'a str) -> Planted<'a>;

    /// The token is not needed any more. Best effort: tokens end by themselves.
    fn lift(&self, _host: &str, _token: &str) {}
}

/// What [`Probe::plant`] returns.
pub type Planted<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// What is known before looking, and how to look.
#[derive(Clone, Debug)]
pub struct Context {
    /// DNS servers to ask; none: those of `/etc/resolv.conf`. Never `/etc/hosts`, which no CA sees.
    pub nameservers: Vec<SocketAddr>,
    /// Where port 80 and port 443 are; others only in tests.
    pub http_port: u16,
    pub https_port: u16,
    /// For one address with all its redirects, and for one DNS question.
    pub patience: Duration,
    /// This machine's addresses; `None`: the kernel is asked.
    pub own: Option<Vec<IpAddr>>,
    /// The CA is on the internet: private addresses cannot be what it connects to.
    pub public_ca: bool,
    /// `caaIdentities` of the CA's directory (RFC 8555 §7.1.1); empty where it has none.
    pub ca_identities: Vec<String>,
    /// Why the CA itself cannot be asked: nothing can be ordered, whatever else is right.
    pub ca_silent: Option<String>,
    /// URL of our account there, for CAA's `accounturi` (RFC 8657).
    pub account: Option<String>,
    /// The CA's clock minus ours, seconds.
    pub clock_skew: Option<i64>,
    pub budget: Option<Budget>,
    /// How the last attempt failed and when the next one is, where one failed.
    pub failed: Option<String>,
}

/// What the ledger says of the next order for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub text: String,
    /// The order would have to wait.
    pub spent: bool,
}

impl Default for Context {
    fn default() -> Context {
        Context {
            nameservers: Vec::new(),
            http_port: 80,
            https_port: 443,
            patience: Duration::from_secs(3),
            own: None,
            public_ca: true,
            ca_identities: Vec::new(),
            ca_silent: None,
            account: None,
            clock_skew: None,
            budget: None,
            failed: None,
        }
    }
}

/// All that was seen of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub host: String,
    pub verdict: Verdict,
    /// The cause, without host and verdict.
    pub sentence: String,
    /// In the order of looking.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// This process was reached as a CA would reach it.
    Works,
    /// Nothing speaks against it, and it could not be seen from here.
    Unknown,
    Fails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Should be looked at; issuing may work all the same.
    Hint,
    Problem,
}

/// Looks at everything HTTP-01 depends on. Takes a few times [`Context::patience`] at most.
pub async fn examine(host: &str, context: &Context, probe: &dyn Probe) -> Diagnosis {
    let mut report = Report::default();
    let canonical = match name::canonical(host) {
        Ok(canonical) => canonical,
        Err(e) => {
            report.problem(e.to_string());
            return report.conclude(host);
        }
    };
    if canonical.starts_with("*.") {
        report.problem("HTTP-01 cannot prove a wildcard name: list the hosts one by one");
        return report.conclude(&canonical);
    }
    if let Some(why) = &context.ca_silent {
        report.problem(format!("the CA cannot be asked: {why}"));
    }
    look(&canonical, context, probe, &mut report).await;
    report.conclude(&canonical)
}

async fn look(host: &str, context: &Context, probe: &dyn Probe, report: &mut Report) {
    let dns = match dns::Dns::new(context) {
        Ok(dns) => dns,
        Err(why) => return report.problem(format!("DNS cannot be asked: {why}")),
    };
    let addresses = dns.addresses(host, report).await;
    if !addresses.is_empty() {
        let token = token();
        match probe.plant(host, &token).await {
            Ok(expected) => {
                let request = reach::Request { host, token: &token, expected: &expected };
                Box::pin(reach::examine(&request, &addresses, context, &dns, report)).await;
                probe.lift(host, &token);
            }
            Err(why) => report.hint(format!("whether this process answers is not known: {why}")),
        }
    }
    if host.parse::<IpAddr>().is_err() {
        caa::examine(host, context, &dns, report).await;
    }
    examine_clock(context.clock_skew, report);
    if let Some(failed) = &context.failed {
        report.hint(failed.clone());
    }
    match &context.budget {
        Some(budget) if budget.spent => report.hint(format!("budget: {}", budget.text)),
        Some(budget) => report.ok(format!("budget: {}", budget.text)),
        None => {}
    }
}

/// A CA refuses nothing for our clock, and the keeper goes by the CA's: never a failure. But
/// lifetimes are judged by it wherever the CA's is not known.
fn examine_clock(skew: Option<i64>, report: &mut Report) {
    let Some(skew) = skew else { return };
    let side = if skew > 0 { "behind" } else { "ahead of" };
    let text = format!("this machine's clock is {} s {side} the CA's", skew.unsigned_abs());
    match skew.unsigned_abs() {
        0..=60 => report.ok("this machine's clock agrees with the CA's"),
        61..=600 => report.hint(text),
        _ => report.hint(format!("{text}: orders go by the CA's, and this one should be set")),
    }
}

/// As a CA's own: 43 characters of base64url (RFC 8555 §8.3).
fn token() -> String {
    let mut bytes = [0; 32];
    // Without randomness the token is a known one: harmless, it proves nothing to a CA.
    let _ = rand::fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Findings while they come in.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    /// Addresses at which this process was reached.
    reached: Vec<IpAddr>,
}

impl Report {
    fn ok(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { level: Level::Ok, text: text.into() });
    }

    fn hint(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { level: Level::Hint, text: text.into() });
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { level: Level::Problem, text: text.into() });
    }

    /// The first problem is the cause; a hint is a cause only where nothing was reached.
    fn conclude(self, host: &str) -> Diagnosis {
        let first = |level| self.findings.iter().find(|f| f.level == level).map(|f| &*f.text);
        let (verdict, sentence) = if let Some(problem) = first(Level::Problem) {
            (Verdict::Fails, problem.to_owned())
        } else if self.reached.is_empty() {
            (Verdict::Unknown, first(Level::Hint).unwrap_or("nothing was reached").to_owned())
        } else {
            let at: Vec<String> = self.reached.iter().map(IpAddr::to_string).collect();
            let mut sentence = format!("this process answers at {}", at.join(" and "));
            if let Some(hint) = first(Level::Hint) {
                sentence = format!("{sentence}; but {hint}");
            }
            (Verdict::Works, sentence)
        };
        Diagnosis { host: host.to_owned(), verdict, sentence, findings: self.findings }
    }
}

/// The one sentence: `app.openclaw.example: will work: this process answers at 192.0.2.1`.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.host, self.verdict, self.sentence)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Works => "will work",
            Verdict::Unknown => "cannot be told from here",
            Verdict::Fails => "will fail",
        })
    }
}

impl Diagnosis {
    /// The sentence, then one indented line per finding.
    pub fn details(&self) -> String {
        let mut text = format!("{self}\n");
        for finding in &self.findings {
            let mark = match finding.level {
                Level::Ok => "ok     ",
                Level::Hint => "hint   ",
                Level::Problem => "problem",
            };
            text += &format!("  {mark} {}\n", finding.text);
        }
        text
    }
}

#[cfg(test)]
mod tests;
