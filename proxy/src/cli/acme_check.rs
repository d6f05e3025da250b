//! `openclaw-edge acme check`: one sentence per host on whether HTTP-01 will work, or why not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use acme::ca::{Ca, ChallengeKind};
use acme::doctor::{Budget, Context, Diagnosis, Planted, Probe, Verdict, examine};
use acme::keeper::{Issuer, Wanted, WantedCertificate};
use acme::ledger::{Left, Request, Usage};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::certs::{Output, entries};
use super::orders::{Held, orders};
use super::out::tell;
use super::place::{End, Place, finish};
use super::run;
use super::socket::{Silence, Socket};
use super::table::{Entry, Told, distance, printable, span};
use crate::clock;
use crate::control::certs::wanted;

#[derive(Debug, Args)]
pub struct AcmeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell for each host why HTTP-01 would fail, or that it will work; orders nothing
    ///
    /// Looks at DNS, at port 80 of every address, at redirects and other servers, at CAA, at the
    /// clock and at the budget that is left. Exit code 1: one host at least will fail.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Hosts; all that the configuration orders certificates for where none is given
    hosts: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Also everything that was seen
    #[arg(short, long)]
    verbose: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Ask this DNS server instead of those of /etc/resolv.conf; may be repeated
    #[arg(long, value_name = "IP:PORT")]
    dns: Vec<SocketAddr>,
    /// Where the CA connects for HTTP-01; another one only for test CAs
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    http_port: u16,
    /// Where redirects to https lead; another one only for test CAs
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    https_port: u16,
}

pub fn main(args: AcmeArgs) -> ExitCode {
    let Command::Check(args) = args.command;
    finish(run(check(&args)))
}

async fn check(args: &CheckArgs) -> Result<(), End> {
    let accepted = args.place.accepted().map_err(End::No)?;
    let held = Held::of(&accepted.global.state_dir);
    let default = wanted(&accepted).default.map(|default| default.name);
    let orders = orders(&accepted);
    for problem in &orders.problems {
        eprintln!("note: {}: {}", problem.certificate, problem.message);
    }
    let subjects = subjects(args, &orders.wanted, default.as_deref())?;
    let socket = living(&args.place).await?;
    let issuers = ask_issuers(&subjects, &orders.wanted, args, &accepted.global.state_dir).await;

    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (number, subject) in subjects.iter().enumerate() {
        let Some(context) = issuers.get(&subject.issuer) else { continue };
        let budget = budget(subject, &orders.wanted, &held);
        let failed = socket.failed(&subject.host);
        let context = Context { budget: Some(budget), failed, ..context.clone() };
        let (host, probe, turns) = (subject.host.clone(), socket.clone(), turns.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            (number, examine(&host, &context, &probe).await)
        });
    }
    let mut told = tasks.join_all().await;
    told.sort_by_key(|(number, _)| *number);
    let told: Vec<Diagnosis> = told.into_iter().map(|(_, diagnosis)| diagnosis).collect();
    print(args, &told)?;
    let bad = told.iter().filter(|one| one.verdict == Verdict::Fails).count();
    match bad {
        0 => Ok(()),
        _ => Err(End::No(String::new())),
    }
}

fn print(args: &CheckArgs, told: &[Diagnosis]) -> Result<(), End> {
    if args.output == Output::Json {
        let text = serde_json::to_string_pretty(told).map_err(|why| End::No(why.to_string()))?;
        tell!("{text}");
        return Ok(());
    }
    for one in told {
        let text = if args.verbose { one.details() } else { format!("{one}\n") };
        text.lines().for_each(|line| tell!("{}", printable(line)));
    }
    Ok(())
}

/// One host and who is to certify it.
struct Subject {
    host: String,
    issuer: String,
    /// Names of the certificate that it is a part of.
    names: Vec<String>,
}

/// The hosts of the arguments, else all that are ordered.
fn subjects(args: &CheckArgs, wanted: &Wanted, default: Option<&str>) -> Result<Vec<Subject>, End> {
    let of = |host: &str, certificate: &WantedCertificate| Subject {
        host: host.to_owned(),
        issuer: certificate.issuer.clone(),
        names: certificate.names.clone(),
    };
    let all = wanted.certificates.iter();
    if args.hosts.is_empty() {
        let all: Vec<Subject> =
            all.flat_map(|entry| entry.names.iter().map(move |host| of(host, entry))).collect();
        let file = args.place.config.display();
        let none = || End::No(format!("{file} orders no certificate from an ACME issuer"));
        return if all.is_empty() { Err(none()) } else { Ok(all) };
    }
    let default = default.or_else(|| wanted.issuers.keys().next().map(String::as_str));
    let one = |host: &String| {
        let name = acme::name::canonical(host).unwrap_or_else(|_| host.clone());
        let entry = wanted.certificates.iter().find(|entry| entry.names.contains(&name));
        match (entry, default) {
            (Some(entry), _) => Ok(of(&name, entry)),
            (None, Some(issuer)) => {
                let shown = printable(&name);
                eprintln!("note: {shown}: the configuration orders no certificate for it");
                let names = vec![name.clone()];
                Ok(Subject { host: name, issuer: issuer.to_owned(), names })
            }
            (None, None) => Err(End::No("the configuration has no ACME issuer".to_owned())),
        }
    };
    args.hosts.iter().map(one).collect()
}

/// What each CA says of itself, as far as it can be asked.
async fn ask_issuers(
    subjects: &[Subject],
    wanted: &Wanted,
    args: &CheckArgs,
    state_dir: &std::path::Path,
) -> BTreeMap<String, Context> {
    let store = acme::store::Store::look(state_dir);
    let mut contexts = BTreeMap::new();
    for subject in subjects {
        if contexts.contains_key(&subject.issuer) {
            continue;
        }
        let Some(issuer) = wanted.issuers.get(&subject.issuer) else { continue };
        if issuer.challenge == ChallengeKind::TlsAlpn01 {
            eprintln!(
                "note: {} uses TLS-ALPN-01; what is said here is about HTTP-01",
                subject.issuer
            );
        }
        let account = store.as_ref().and_then(|store| store.account(&issuer.ca.directory).ok()?);
        let account = account.and_then(|account| account.url().map(str::to_owned));
        contexts.insert(subject.issuer.clone(), ask(issuer, account, args).await);
    }
    contexts
}

async fn ask(issuer: &Issuer, account: Option<String>, args: &CheckArgs) -> Context {
    let known = Context {
        nameservers: args.dns.clone(),
        http_port: args.http_port,
        https_port: args.https_port,
        public_ca: is_public(&issuer.ca.directory).await,
        account,
        ..Context::default()
    };
    match Ca::connect(&issuer.ca).await {
        Ok(ca) => Context {
            ca_identities: ca.directory().caa_identities.clone(),
            clock_skew: ca.clock_skew(),
            ..known
        },
        Err(why) => Context { ca_silent: Some(why.to_string()), ..known },
    }
}

/// A CA that is inside looks from inside.
pub(super) async fn is_public(directory: &str) -> bool {
    let Ok(uri) = directory.parse::<http::Uri>() else { return true };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let Ok(found) = tokio::net::lookup_host((host, 443)).await else { return true };
    found.map(|address| address.ip()).all(|address| match address {
        IpAddr::V4(v4) => !(v4.is_private() || v4.is_loopback() || v4.is_link_local()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    })
}

/// What the ledger says of the next order for the host's certificate.
fn budget(subject: &Subject, wanted: &Wanted, held: &Held) -> Budget {
    let Some(issuer) = wanted.issuers.get(&subject.issuer) else {
        return Budget { text: "not known".to_owned(), spent: false };
    };
    let now = clock::unix_seconds();
    let set = subject.names.as_slice();
    let renewal = held.certificates.iter().any(|one| one.issuer.is_some() && one.names == set);
    let request = Request { account: &issuer.ca.directory, set, renewal, forced: false };
    let allowed = held.ledger.allowed_at(now, &issuer.limits, &request);
    match (allowed.at.saturating_sub(now), allowed.why) {
        (1.., why) => {
            let why = why.unwrap_or_default();
            let wait = span(allowed.at.saturating_sub(now));
            Budget { text: format!("the next order may be placed in {wait} ({why})"), spent: true }
        }
        _ => {
            let left = Usage::of(&held.ledger, now).left(&issuer.limits, &request);
            let left: Vec<String> = left.iter().map(Left::to_string).collect();
            let text = format!("the next order may be placed now; left: {}", left.join(", "));
            Budget { text, spent: false }
        }
    }
}

/// The running process, or the reason why it cannot answer tokens.
#[derive(Clone)]
struct Living {
    socket: Result<Socket, String>,
    /// What it says of its certificates.
    told: Arc<Vec<Entry>>,
}

impl Living {
    fn without(why: &str) -> Living {
        Living { socket: Err(why.to_owned()), told: Arc::default() }
    }

    /// How the last attempt for this host failed: what is right here and now may not be all.
    fn failed(&self, host: &str) -> Option<String> {
        let entry = Entry::find(&self.told, host)?;
        // In a group another name may be the reason.
        let of_host = |told: &&Told| told.name.as_deref().is_none_or(|name| name == host);
        let last = entry.last_error.as_ref().filter(of_host)?;
        let next = entry.next_at.as_deref().map(|at| distance(at, clock::unix_seconds()));
        let (text, next) = (&last.text, next.unwrap_or_default());
        Some(format!(
            "the last attempt failed: {text}; the next one is {next}, or with `certs renew`"
        ))
    }
}

/// Whether a process runs is found out once, not per host.
async fn living(place: &Place) -> Result<Living, End> {
    let path = place.socket().map_err(End::No)?;
    let Some(socket) = path.map(Socket::new) else {
        eprintln!(
            "note: the configuration has no admin.socket: whether the running process is the \
                   one that answers cannot be told"
        );
        return Ok(Living::without("the configuration has no admin.socket"));
    };
    match socket.ask(http::Method::GET, "/api/v1/certificates", None).await {
        Ok((_, told)) => Ok(Living { socket: Ok(socket), told: Arc::new(entries(&told)) }),
        Err(Silence::TimedOut) => Ok(Living { socket: Ok(socket), told: Arc::default() }),
        Err(silence) => {
            let (End::Unreachable(why) | End::No(why) | End::TimedOut(why)) = socket.told(silence);
            if place.socket.is_some() {
                return Err(End::Unreachable(why));
            }
            eprintln!("note: {why}; what would answer a CA is not looked at");
            Ok(Living::without("no process of this configuration is running"))
        }
    }
}

impl Probe for Living {
    fn plant<'a>(&'a self, host: &'a str, token: &'a str) -> Planted<'a> {
        Box::pin(async move {
            let socket = self.socket.as_ref().map_err(Clone::clone)?;
            let body = json!({ "host": host, "token": token });
            match socket.post("/api/v1/challenges/probe", &body).await {
                Ok(answer) => Ok(answer["answer"].as_str().unwrap_or_default().to_owned()),
                Err(End::Unreachable(why) | End::No(why) | End::TimedOut(why)) => Err(why),
            }
        })
    }
}

/// Hosts that are looked at together.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ca_inside_is_none_of_the_public() {
        for (directory, public) in [
            ("https://localhost:14000/dir", false),
            ("https://10.0.0.1/dir", false),
            ("https://[fd00::1]/dir", false),
            ("https://192.0.2.1/dir", true),
            ("https://[2001:db8::1]/dir", true),
        ] {
            assert_eq!(is_public(directory).await, public, "{directory}");
        }
    }
}
