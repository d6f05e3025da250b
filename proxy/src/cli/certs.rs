//! `openclaw-edge certs`: what serves, and what an operator may ask of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::out::{self, tell};
use super::place::{End, Place, finish};
use super::socket::Socket;
use super::table::{self, Entry, distance};
use super::{export, import, run};
use crate::clock;

#[derive(Debug, Args)]
pub struct CertsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the certificates of a running process: state, expiry, what comes next, last error
    List {
        #[command(flatten)]
        place: Place,
        /// Form of the output; json is that of GET /api/v1/certificates
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show everything about one certificate, the CA's own words included
    Show {
        /// The certificate's name, or a host
        name: String,
        #[command(flatten)]
        place: Place,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Renew a certificate now, whatever its age, and wait for the outcome
    Renew {
        /// The certificate's name, or a host
        name: String,
        /// Also where openclaw-edge's own budget for these names is used up
        #[arg(long)]
        force: bool,
        /// Wait for the outcome this many seconds; 0: do not
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        wait: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Revoke the certificate that serves; a new one is ordered at once
    Revoke {
        /// The certificate's name, or a host
        name: String,
        /// Why, as the CA publishes it (RFC 5280)
        #[arg(long, default_value = "unspecified", value_parser = PossibleValuesParser::new(REASONS))]
        reason: String,
        #[command(flatten)]
        place: Place,
    },
    /// Import certificates of other programs, so that a cut-over needs no issuance
    ///
    /// SOURCE is a PEM bundle or a directory of pairs, a Kubernetes Secret as YAML or JSON, a
    /// directory of certbot or Caddy, or Traefik's acme.json. It is only read. A running process
    /// takes the certificates over at once; without one they are written to the state directory.
    Import(import::ImportArgs),
    /// Write the stored certificate as NAME.crt and NAME.key (0600)
    Export {
        /// The certificate's name, or a host
        name: String,
        /// Directory to write to; made where missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
}

pub fn main(args: CertsArgs) -> ExitCode {
    finish(run(async {
        match args.command {
            Command::List { place, output } => list(&place, output).await,
            Command::Show { name, place, output } => show(&place, &name, output).await,
            Command::Renew { name, force, wait, place } => {
                let socket = Socket::of(&place)?;
                renew(&socket, &name, force, Duration::from_secs(wait)).await
            }
            Command::Revoke { name, reason, place } => revoke(&place, &name, &reason).await,
            Command::Import(args) => import::import(&args).await,
            Command::Export { name, out, place } => export::export(&place, &name, &out),
        }
    }))
}

async fn list(place: &Place, output: Output) -> Result<(), End> {
    let value = Socket::of(place)?.get(PATH).await?;
    if output == Output::Json {
        tell!("{value:#}");
        return Ok(());
    }
    out::text(&table::table(&entries(&value), clock::unix_seconds()));
    for note in notes(&value) {
        eprintln!("note: {}", table::printable(&note));
    }
    Ok(())
}

/// What is said of all certificates.
fn notes(value: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(value["role_reason"].as_str().map(str::to_owned));
    if let Some(skew) = value["clock_skew_seconds"].as_i64() {
        let side = if skew > 0 { "behind" } else { "ahead of" };
        notes.push(format!("this machine's clock is {} s {side} the CA's", skew.unsigned_abs()));
    }
    let problems = value["problems"].as_array().into_iter().flatten();
    notes.extend(problems.filter_map(Value::as_str).map(str::to_owned));
    notes
}

async fn show(place: &Place, name: &str, output: Output) -> Result<(), End> {
    let value = Socket::of(place)?.get(PATH).await?;
    let all = entries(&value);
    let found = Entry::find(&all, name).ok_or_else(|| unknown(name))?;
    match output {
        Output::Table => out::text(&table::details(found, clock::unix_seconds())),
        Output::Json => {
            let same = |one: &&Value| one["name"] == found.name.as_str();
            let one = value["certificates"].as_array().and_then(|all| all.iter().find(same));
            tell!("{:#}", one.unwrap_or(&Value::Null));
        }
    }
    Ok(())
}

async fn renew(socket: &Socket, name: &str, force: bool, wait: Duration) -> Result<(), End> {
    let all = entries(&socket.get(PATH).await?);
    let before = Entry::find(&all, name).cloned().unwrap_or_default();
    let answer =
        socket.post("/api/v1/certificates/renew", &json!({ "name": name, "force": force })).await?;
    let label = answer["name"].as_str().unwrap_or(name).to_owned();
    if let Some(at) = answer["waits_until"].as_str() {
        let why = answer["why"].as_str().unwrap_or_default();
        let hint = if force { "" } else { "; --force passes the budget for these names" };
        let when = distance(at, clock::unix_seconds());
        let text = format!("{label} is renewed at {at} ({when}) and not before: {why}{hint}");
        return Err(End::No(text));
    }
    if wait.is_zero() {
        tell!("{label}: renewal begins; `openclaw-edge certs show {label}` tells how it ends");
        return Ok(());
    }
    outcome(socket, &label, &before, wait).await
}

/// Looks until there is another certificate, or another failure.
async fn outcome(socket: &Socket, label: &str, before: &Entry, wait: Duration) -> Result<(), End> {
    let deadline = Instant::now() + wait;
    let failed = |entry: &Entry| {
        let at = entry.last_error.as_ref().map(|told| (told.at.clone(), told.text.clone()));
        (entry.failures, at)
    };
    loop {
        let all = entries(&socket.get(PATH).await?);
        let now = clock::unix_seconds();
        let Some(entry) = Entry::find(&all, label) else { return Err(unknown(label)) };
        if entry.serial.is_some() && entry.serial != before.serial {
            let until = entry.not_after.as_deref().unwrap_or_default();
            let (serial, when) =
                (entry.serial.as_deref().unwrap_or_default(), distance(until, now));
            tell!("{label}: renewed, serial {serial}, expires at {until} ({when})");
            return Ok(());
        }
        if let Some(told) = entry.last_error.as_ref().filter(|_| failed(entry) != failed(before)) {
            let next = entry.next_at.as_deref().map(|at| distance(at, now)).unwrap_or_default();
            let served = if before.serial.is_some() { "; what serves is unchanged" } else { "" };
            let text = table::printable(&told.text);
            return Err(End::No(format!("{label}: {text}{served}; next attempt {next}")));
        }
        if Instant::now() >= deadline {
            let seconds = wait.as_secs();
            return Err(End::TimedOut(format!(
                "{label}: no outcome within {seconds} s; the order goes on, \
                 `openclaw-edge certs show {label}` tells how it ends"
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn revoke(place: &Place, name: &str, reason: &str) -> Result<(), End> {
    let body = json!({ "name": name, "reason": reason });
    let answer = Socket::of(place)?.post("/api/v1/certificates/revoke", &body).await?;
    let label = answer["name"].as_str().unwrap_or(name);
    let issuer = answer["issued_by"].as_str().unwrap_or("the CA");
    tell!(
        "{label}: revoked at {issuer} ({reason}). It serves until a new one is there, which is \
         ordered now; `openclaw-edge certs show {label}` tells how it goes"
    );
    Ok(())
}

pub(super) fn entries(value: &Value) -> Vec<Entry> {
    let all = value["certificates"].as_array().into_iter().flatten();
    all.filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

fn unknown(name: &str) -> End {
    End::No(format!("there is no certificate for {name:?}; `certs list` shows those there are"))
}

const PATH: &str = "/api/v1/certificates";
const REASONS: [&str; 4] = ["unspecified", "keyCompromise", "superseded", "cessationOfOperation"];
const LOOK_AGAIN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_known_to_the_server() {
        for reason in REASONS {
            assert!(acme::ca::Revocation::parse(reason).is_some(), "{reason}");
        }
    }

    #[test]
    fn what_is_said_of_all() {
        let value = json!({
            "role_reason": "another process orders", "clock_skew_seconds": -700,
            "problems": ["skipped: x"], "certificates": [{ "name": "a" }, 7]
        });
        assert_eq!(
            notes(&value),
            [
                "another process orders",
                "this machine's clock is 700 s ahead of the CA's",
                "skipped: x"
            ]
        );
        assert_eq!(entries(&value).len(), 1);
        assert!(notes(&json!({ "role_reason": null })).is_empty());
    }
}
