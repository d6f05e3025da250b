//! The CA's problem documents (RFC 8555 §6.7, RFC 9457) and what each of them means for us.

use serde::Deserialize;
use serde_json::Value;

use super::failure::{Class, Step, SubProblem};
use super::text::{MAX_DETAIL, clean};

const ACME: &str = "urn:ietf:params:acme:error:";
const MAX_TYPE: usize = 120;
/// As many as one certificate can have names.
const MAX_SUBPROBLEMS: usize = 100;

/// A problem document, cleaned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub kind: Option<String>,
    pub detail: Option<String>,
    pub status: Option<u16>,
    pub subproblems: Vec<SubProblem>,
}

impl Problem {
    /// None when the body is not a problem document: JSON alone is not enough.
    pub fn from_json(body: &[u8]) -> Option<Problem> {
        let wire: Wire = serde_json::from_slice(body).ok()?;
        if wire.kind.is_none() && wire.detail.is_none() && wire.title.is_none() {
            return None;
        }
        let subproblems = wire.subproblems.into_iter().take(MAX_SUBPROBLEMS);
        Some(Problem {
            kind: wire.kind.map(|kind| clean(&kind, MAX_TYPE)),
            detail: wire.detail.or(wire.title).map(|detail| clean(&detail, MAX_DETAIL)),
            status: wire.status,
            subproblems: subproblems.map(WirePart::into_part).collect(),
        })
    }

    pub fn is_bad_nonce(&self) -> bool {
        self.kind.as_deref().and_then(of_acme) == Some("badNonce")
    }

    /// What to tell when the CA said nothing but a type.
    pub fn explanation(&self) -> String {
        match &self.detail {
            Some(detail) if !detail.is_empty() => detail.clone(),
            _ => "the CA gave no explanation".to_owned(),
        }
    }
}

impl From<instant_acme::Problem> for Problem {
    fn from(problem: instant_acme::Problem) -> Problem {
        let part = |part: instant_acme::Subproblem| SubProblem {
            name: part.identifier.map(|id| clean(&id.authorized(false).to_string(), 253)),
            problem: part.r#type.map(|kind| clean(&kind, MAX_TYPE)),
            detail: clean(&part.detail.unwrap_or_default(), MAX_DETAIL),
        };
        Problem {
            kind: problem.r#type.map(|kind| clean(&kind, MAX_TYPE)),
            detail: problem.detail.map(|detail| clean(&detail, MAX_DETAIL)),
            status: problem.status,
            subproblems: problem.subproblems.into_iter().take(MAX_SUBPROBLEMS).map(part).collect(),
        }
    }
}

/// As sent. Lenient: a field of a wrong kind must not hide the rest of the explanation.
#[derive(Deserialize)]
struct Wire {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    detail: Option<String>,
    #[serde(default, deserialize_with = "text")]
    title: Option<String>,
    #[serde(default, deserialize_with = "status")]
    status: Option<u16>,
    #[serde(default, deserialize_with = "parts")]
    subproblems: Vec<WirePart>,
}

#[derive(Deserialize)]
struct WirePart {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    detail: Option<String>,
    #[serde(default)]
    identifier: Value,
}

impl WirePart {
    fn into_part(self) -> SubProblem {
        SubProblem {
            name: self.identifier["value"].as_str().map(|name| clean(name, 253)),
            problem: self.kind.map(|kind| clean(&kind, MAX_TYPE)),
            detail: clean(&self.detail.unwrap_or_default(), MAX_DETAIL),
        }
    }
}

fn text<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(source)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn status<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<u16>, D::Error> {
    Ok(Value::deserialize(source)?.as_u64().and_then(|status| u16::try_from(status).ok()))
}

fn parts<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<WirePart>, D::Error> {
    let Value::Array(parts) = Value::deserialize(source)? else { return Ok(Vec::new()) };
    Ok(parts.into_iter().filter_map(|part| serde_json::from_value(part).ok()).collect())
}

/// The name of an ACME error type, without its namespace.
pub(super) fn of_acme(kind: &str) -> Option<&str> {
    kind.strip_prefix(ACME)
}

/// For people: the last part of the type.
pub(super) fn short(kind: &str) -> &str {
    of_acme(kind).unwrap_or(kind)
}

pub(super) fn classify(step: Step, problem: &Problem, status: Option<u16>) -> Class {
    match problem.kind.as_deref().and_then(of_acme) {
        Some("compound") => compound(step, problem, status),
        Some(kind) => class_of_kind(step, kind, status),
        None => class_of_answer(step, status),
    }
}

/// All types of the IANA registry "ACME Error Types", and those of CAs that are not in it.
fn class_of_kind(step: Step, kind: &str, status: Option<u16>) -> Class {
    match kind {
        "caa" | "connection" | "dns" | "incorrectResponse" | "onionCAARequired" | "tls" => {
            Class::Validation
        }
        "rateLimited" => Class::RateLimited,
        "badNonce" | "orderNotReady" | "serverInternal" => Class::Unavailable,
        "accountDoesNotExist" => Class::AccountGone,
        "unauthorized" => match step {
            Step::Validate => Class::Validation,
            // Authorizations that have expired, or an order of a former account. A new order
            // tells: if it is the account that may not, that one is refused.
            Step::Resume | Step::Authorize | Step::Finalize | Step::Download => Class::OrderGone,
            _ => Class::Refused,
        },
        "malformed" if status == Some(404) => class_of_answer(step, status),
        "malformed" if step == Step::Authorize || step == Step::Validate => Class::OrderGone,
        "alreadyReplaced" | "alreadyRevoked" | "badCSR" | "badPublicKey" => Class::Refused,
        "badRevocationReason" | "badSignatureAlgorithm" | "malformed" => Class::Refused,
        "externalAccountRequired" | "invalidContact" | "invalidProfile" => Class::Refused,
        "rejectedIdentifier" | "unsupportedContact" | "unsupportedIdentifier" => Class::Refused,
        "userActionRequired" | "unknownDelegation" | "autoRenewalCanceled" => Class::Refused,
        "autoRenewalExpired" | "autoRenewalCancellationInvalid" => Class::Refused,
        "autoRenewalRevocationNotSupported" => Class::Refused,
        _ => class_of_answer(step, status),
    }
}

/// Several causes: as grave as the gravest part, since all of them must go away.
fn compound(step: Step, problem: &Problem, status: Option<u16>) -> Class {
    let gravity = |class: &Class| match class {
        Class::Local => 0,
        Class::Unavailable => 1,
        Class::RateLimited => 2,
        Class::Validation => 3,
        Class::OrderGone => 4,
        Class::AccountGone => 5,
        Class::Refused => 6,
    };
    problem
        .subproblems
        .iter()
        .filter_map(|part| part.problem.as_deref().and_then(of_acme))
        .filter(|kind| *kind != "compound")
        .map(|kind| class_of_kind(step, kind, status))
        .max_by_key(gravity)
        .unwrap_or(class_of_answer(step, status))
}

/// A problem document whose type says nothing.
fn class_of_answer(step: Step, status: Option<u16>) -> Class {
    match (status, step) {
        (Some(429), _) => Class::RateLimited,
        (Some(408 | 425 | 500..), _) => Class::Unavailable,
        (Some(404 | 410), Step::Resume | Step::Authorize | Step::Validate) => Class::OrderGone,
        (Some(404 | 410), Step::Finalize | Step::Download) => Class::OrderGone,
        // Only validation errors are embedded in objects, without a status of their own.
        (None, Step::Validate) => Class::Validation,
        _ => Class::Refused,
    }
}

/// An answer that is not ACME at all: something before the CA, or none.
pub(super) fn class_of_status(step: Step, status: u16) -> Class {
    match (status, step) {
        (429, _) => Class::RateLimited,
        (404 | 410, Step::RenewalInfo) => Class::Refused,
        (404 | 410, Step::Resume | Step::Authorize | Step::Validate) => Class::OrderGone,
        (404 | 410, Step::Finalize | Step::Download) => Class::OrderGone,
        _ => Class::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str) -> Problem {
        Problem {
            kind: Some(format!("{ACME}{kind}")),
            detail: None,
            status: None,
            subproblems: Vec::new(),
        }
    }

    /// The registry at https://www.iana.org/assignments/acme (types of RFC 8555, 8739, 9115,
    /// 9773 and 9799), and the draft for profiles.
    const ALL: [(&str, Class); 33] = [
        ("accountDoesNotExist", Class::AccountGone),
        ("alreadyReplaced", Class::Refused),
        ("alreadyRevoked", Class::Refused),
        ("autoRenewalCanceled", Class::Refused),
        ("autoRenewalCancellationInvalid", Class::Refused),
        ("autoRenewalExpired", Class::Refused),
        ("autoRenewalRevocationNotSupported", Class::Refused),
        ("badCSR", Class::Refused),
        ("badNonce", Class::Unavailable),
        ("badPublicKey", Class::Refused),
        ("badRevocationReason", Class::Refused),
        ("badSignatureAlgorithm", Class::Refused),
        ("caa", Class::Validation),
        ("compound", Class::Refused),
        ("connection", Class::Validation),
        ("dns", Class::Validation),
        ("externalAccountRequired", Class::Refused),
        ("incorrectResponse", Class::Validation),
        ("invalidContact", Class::Refused),
        ("invalidProfile", Class::Refused),
        ("malformed", Class::Refused),
        ("onionCAARequired", Class::Validation),
        ("orderNotReady", Class::Unavailable),
        ("rateLimited", Class::RateLimited),
        ("rejectedIdentifier", Class::Refused),
        ("serverInternal", Class::Unavailable),
        ("tls", Class::Validation),
        ("unauthorized", Class::Refused),
        ("unknownDelegation", Class::Refused),
        ("unsupportedContact", Class::Refused),
        ("unsupportedIdentifier", Class::Refused),
        ("userActionRequired", Class::Refused),
        ("neverHeardOf", Class::Refused),
    ];

    #[test]
    fn every_type_has_its_class() {
        for (kind, class) in ALL {
            assert_eq!(classify(Step::NewOrder, &problem(kind), Some(403)), class, "{kind}");
        }
    }

    #[test]
    fn unauthorized_depends_on_the_step() {
        for (step, class) in [
            (Step::Register, Class::Refused),
            (Step::NewOrder, Class::Refused),
            (Step::Validate, Class::Validation),
            (Step::Resume, Class::OrderGone),
            (Step::Finalize, Class::OrderGone),
            (Step::Revoke, Class::Refused),
        ] {
            assert_eq!(classify(step, &problem("unauthorized"), Some(403)), class, "{step:?}");
        }
    }

    #[test]
    fn without_a_known_type_the_status_decides() {
        for (status, step, class) in [
            (429, Step::NewOrder, Class::RateLimited),
            (500, Step::NewOrder, Class::Unavailable),
            (503, Step::Finalize, Class::Unavailable),
            (404, Step::Resume, Class::OrderGone),
            (404, Step::NewOrder, Class::Refused),
            (400, Step::NewOrder, Class::Refused),
        ] {
            let mut unknown = problem("unheardOf");
            assert_eq!(classify(step, &unknown, Some(status)), class, "{status} {step:?}");
            unknown.kind = Some("about:blank".to_owned());
            assert_eq!(classify(step, &unknown, Some(status)), class, "{status} {step:?}");
            let missing = problem("malformed");
            if status == 404 {
                assert_eq!(classify(step, &missing, Some(status)), class);
            }
        }
        assert_eq!(class_of_status(Step::NewOrder, 403), Class::Unavailable);
        assert_eq!(class_of_status(Step::RenewalInfo, 404), Class::Refused);
        assert_eq!(class_of_status(Step::Resume, 404), Class::OrderGone);
    }

    #[test]
    fn a_compound_is_as_grave_as_its_gravest_part() {
        let part = |kind: &str| SubProblem {
            name: None,
            problem: Some(format!("{ACME}{kind}")),
            detail: String::new(),
        };
        let mut compound = problem("compound");
        compound.subproblems = vec![part("dns"), part("connection")];
        assert_eq!(classify(Step::NewOrder, &compound, Some(403)), Class::Validation);
        compound.subproblems.push(part("rejectedIdentifier"));
        assert_eq!(classify(Step::NewOrder, &compound, Some(403)), Class::Refused);
        compound.subproblems.clear();
        assert_eq!(classify(Step::Validate, &compound, None), Class::Validation);
    }

    #[test]
    fn a_document_with_odd_parts_still_speaks() {
        let odd = br#"{"type":"urn:ietf:params:acme:error:dns","detail":"why\u0007","status":"400",
            "subproblems":[{"identifier":{"type":"new","value":"a.openclaw.example"}},7]}"#;
        let parsed = Problem::from_json(odd).unwrap();
        assert_eq!(parsed.detail.as_deref(), Some("why"));
        assert_eq!(parsed.status, None);
        assert_eq!(parsed.subproblems.len(), 1);
        assert_eq!(parsed.subproblems[0].name.as_deref(), Some("a.openclaw.example"));
        assert_eq!(Problem::from_json(br#"{"error":"no"}"#), None);
        assert_eq!(Problem::from_json(b"[]"), None);
        assert_eq!(Problem::from_json(b"<html>"), None);
    }
}
