//! `GET /api/v1/certificates`: what serves, until when, what comes next and why.

use std::collections::HashSet;

use acme::ca::{Failure, SubProblem};
use acme::keeper::{Role, Row, View};
use acme::ledger::Left;
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
        "renews_at": row.renews_at.and_then(time_of),
        "next_at": time_of(row.next_at.max(clock::unix_seconds())),
        "next_reason": row.next_why,
        "ordering": row.ordering,
        "stored": !row.unsaved,
        "failures": row.failures,
        "issued_this_week": row.issued_this_week,
        "limit_per_week": row.per_week,
        "budget": row.budget.iter().map(left).collect::<Vec<_>>(),
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

/// Of files and of the internal issuer, which renews by itself.
fn kept(entry: &CertEntry) -> Value {
    let chain = &entry.key.cert;
    json!({
        "name": entry.name,
        "source": entry.source,
        "state": kept_state(entry, clock::unix_seconds()),
        "names": entry.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "issued_by": chain.first().and_then(|leaf| issuer_of(leaf)),
        "serial": acme::certificate::serial(chain),
        "not_before": time_of(entry.not_before),
        "not_after": time_of(entry.not_after),
    })
}

fn kept_state(entry: &CertEntry, now: i64) -> &'static str {
    match entry {
        _ if entry.placeholder => "placeholder",
        _ if now < entry.not_before => "not_yet_valid",
        _ if now > entry.not_after => "expired",
        _ => "valid",
    }
}

/// The issuer's distinguished name.
fn issuer_of(leaf: &[u8]) -> Option<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Some(leaf.issuer().to_string())
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

fn left(of: &Left) -> Value {
    json!({ "limit": of.limit, "left": of.left })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use acme::ca::{Class, Step};
    use acme::keeper::Told;

    use super::*;

    fn bare() -> Row {
        Row {
            label: "web".to_owned(),
            names: vec!["a.openclaw.example".to_owned(), "b.openclaw.example".to_owned()],
            issuer: "ca".to_owned(),
            serving: Vec::new(),
            made_by: Vec::new(),
            missing: vec!["a.openclaw.example".to_owned(), "b.openclaw.example".to_owned()],
            ordering: false,
            unsaved: false,
            renews_at: None,
            next_at: 4_102_444_800,
            next_why: "the last attempt failed".to_owned(),
            failures: 2,
            last_failure: None,
            issued_this_week: 1,
            per_week: Some(4),
            budget: vec![Left { limit: "300 orders in 3 hours".to_owned(), left: 299 }],
        }
    }

    fn stored(name: &str, at: i64) -> Arc<Stored> {
        let made = acme::placeholder::self_signed(name, at).unwrap();
        let text =
            acme::store::bundle(None, &made.chain_pem(), &made.key_pem().unwrap()).into_bytes();
        Arc::new(Stored::parse("test", text, "stem").unwrap())
    }

    #[test]
    fn states() {
        let now = clock::unix_seconds();
        assert_eq!(state(&bare()), "placeholder");
        let part = Row { serving: vec![stored("a.openclaw.example", now)], ..bare() };
        assert_eq!(state(&part), "partial");
        assert_eq!(state(&Row { missing: vec![], ..part }), "valid");
        let old = vec![stored("a.openclaw.example", now - 366 * 86_400)];
        assert_eq!(state(&Row { missing: vec![], serving: old, ..bare() }), "expired");
    }

    #[test]
    fn everything_the_ca_said_is_told() {
        let said = Failure {
            class: Class::Validation,
            step: Step::Validate,
            name: Some("a.openclaw.example".to_owned()),
            problem: Some("urn:ietf:params:acme:error:dns".to_owned()),
            detail: "NXDOMAIN".to_owned(),
            status: Some(400),
            subproblems: vec![SubProblem {
                name: Some("b.openclaw.example".to_owned()),
                problem: Some("urn:ietf:params:acme:error:caa".to_owned()),
                detail: "not allowed".to_owned(),
            }],
            retry_at: Some(1_800_000_000),
        };
        let told = Told { at: 1_700_000_000, failure: said };
        let value = row(&Row { last_failure: Some(told), ..bare() });
        let error = &value["last_error"];
        assert_eq!(error["at"], "2023-11-14T22:13:20Z");
        assert_eq!(error["problem"], "urn:ietf:params:acme:error:dns");
        assert_eq!(error["detail"], "NXDOMAIN");
        assert_eq!(error["status"], 400);
        assert_eq!(error["retry_at"], "2027-01-15T08:00:00Z");
        assert_eq!(error["subproblems"][0]["problem"], "urn:ietf:params:acme:error:caa");
        assert_eq!(value["failures"], 2);
        assert_eq!((&value["issued_this_week"], &value["limit_per_week"]), (&1.into(), &4.into()));
        assert_eq!(value["budget"], json!([{ "limit": "300 orders in 3 hours", "left": 299 }]));
        assert_eq!(value["next_at"], "2100-01-01T00:00:00Z");
        assert_eq!(value["renews_at"], Value::Null);
    }

    #[test]
    fn no_key_is_told() {
        let now = clock::unix_seconds();
        let leaf = stored("a.openclaw.example", now);
        let value = row(&Row { serving: vec![leaf.clone()], missing: vec![], ..bare() });
        let text = value.to_string();
        assert!(!text.contains("PRIVATE") && !text.contains("BEGIN"), "{text}");
        assert_eq!(value["serial"], json!(leaf.certificate.serial()));
        assert_eq!(value["issued_by"], "imported");
    }
}
