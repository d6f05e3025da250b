//! `GET /api/v1/certificates`: what serves, until when, what comes next and why.

use std::collections::HashSet;

use acme::ca::{Failure, SubProblem};
use acme::keeper::{Role, Row, View};
use acme::store::Stored;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock;
use crate::control::status::Status;
use crate::downstream::cert_table::CertEntry;
use crate::state::Shared;

/// Ordered certificates first, then those of files and of the internal issuer.
pub(super) fn certificates(shared: &Shared, status: &Status) -> Value {
    let view = status.acme.get().map(|keeper| keeper.view()).unwrap_or_default();
    let ordered: Vec<Value> = view.rows.iter().map(row).collect();
    let labels: HashSet<&str> = view.rows.iter().map(|row| row.label.as_str()).collect();
    // Its own name, or that with a host or number in parentheses.
    let of_keeper = |entry: &CertEntry| {
        let label = entry.name.split(" (").next().unwrap_or(&entry.name);
        labels.contains(label)
    };
    let certs = shared.certs.load();
    let mut others: Vec<_> = certs.entries().filter(|entry| !of_keeper(entry)).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    let all: Vec<Value> =
        ordered.into_iter().chain(others.into_iter().map(|entry| kept(entry))).collect();
    json!({
        "role": view.role.word(),
        "role_reason": role_reason(&view),
        "clock_skew_seconds": view.clock_skew,
        "problems": view.problems,
        "certificates": all,
    })
}

fn role_reason(view: &View) -> Option<&str> {
    match &view.role {
        Role::Broken(why) => Some(why),
        Role::Reader => Some("another process orders certificates in this state directory"),
        Role::Released => Some("this process is on its way out"),
        Role::Idle | Role::Owner => None,
    }
}

fn row(row: &Row) -> Value {
    let leaf = row.leaf();
    let certificate = leaf.map(|leaf| &leaf.certificate);
    json!({
        "name": row.label,
        "source": "acme",
        "state": state(row),
        "names": row.names,
        "missing": row.missing,
        "issuer": row.issuer,
        "issued_by": leaf.map(|leaf| leaf.issuer.as_deref().unwrap_or("imported")),
        "serial": leaf.and_then(|leaf| serial(leaf)),
        "not_before": certificate.and_then(|certificate| time_of(certificate.not_before)),
        "not_after": certificate.and_then(|certificate| time_of(certificate.not_after)),
        "next_at": time_of(row.next_at.max(clock::unix_seconds())),
        "next_reason": row.next_why,
        "ordering": row.ordering,
        "stored": !row.unsaved,
        "failures": row.failures,
        "issued_this_week": row.issued_this_week,
        "last_error": row.last_failure.as_ref().map(|told| failure(told.at, &told.failure)),
    })
}

/// One word for scripts.
pub(super) fn state(row: &Row) -> &'static str {
    let now = clock::unix_seconds();
    match row.leaf() {
        None => "placeholder",
        Some(_) if !row.missing.is_empty() => "partial",
        Some(leaf) if leaf.certificate.not_after < now => "expired",
        Some(_) => "valid",
    }
}

fn kept(entry: &CertEntry) -> Value {
    let valid = (entry.not_before..=entry.not_after).contains(&clock::unix_seconds());
    json!({
        "name": entry.name,
        "source": "kept",
        "state": if valid { "valid" } else { "expired" },
        "names": entry.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "not_before": time_of(entry.not_before),
        "not_after": time_of(entry.not_after),
    })
}

fn failure(at: i64, failure: &Failure) -> Value {
    json!({
        "at": time_of(at),
        "text": failure.to_string(),
        "class": failure.class.as_str(),
        "name": failure.name,
        "problem": failure.problem,
        "detail": failure.detail,
        "status": failure.status,
        "subproblems": failure.subproblems.iter().map(subproblem).collect::<Vec<_>>(),
        "retry_at": failure.retry_at.and_then(time_of),
    })
}

fn subproblem(part: &SubProblem) -> Value {
    json!({ "name": part.name, "problem": part.problem, "detail": part.detail })
}

/// Hexadecimal, as browsers and `openssl x509 -serial` show it.
fn serial(stored: &Stored) -> Option<String> {
    stored.certificate.serial()
}

pub(super) fn time_of(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}
