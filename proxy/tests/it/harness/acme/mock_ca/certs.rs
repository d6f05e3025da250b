//! Certificates: finalize, download, revoke (RFC 8555 §7.4 to §7.6) and renewal information
//! (RFC 9773).

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::ParsedExtension;

use super::answer::{Answer, Problem};
use super::jws;
use super::orders;
use super::sign::Request;
use super::state::{Shared, State};

#[derive(Clone, Debug)]
pub struct Issued {
    /// Index of its order.
    pub order: usize,
    pub account: String,
    pub names: Vec<String>,
    pub profile: Option<String>,
    /// Unix seconds, as in the certificate.
    pub not_before: i64,
    pub not_after: i64,
    /// RFC 9773 §4.1.
    pub cert_id: String,
    pub leaf: CertificateDer<'static>,
    pub chain: String,
    /// How often the chain was given away.
    pub downloads: usize,
    /// The reason's code.
    pub revoked: Option<u64>,
    /// Unix seconds.
    pub at: i64,
}

pub fn finalize(
    shared: &Shared,
    state: &mut State,
    account: &str,
    id: &str,
    payload: &Value,
) -> Result<Answer, Problem> {
    let index = state.order(id, account)?;
    let status = state.status(&state.orders[index]);
    if status != "ready" {
        let detail = format!("the order is {status}");
        return Err(Problem::new(403, "orderNotReady", detail));
    }
    let csr = payload["csr"].as_str().and_then(jws::unbase64);
    let csr = csr.ok_or_else(|| Problem::malformed("finalize without a csr"))?;
    let request = Request::parse(&csr)?;
    check(state, &state.orders[index].names, account, &request)?;

    let order = &state.orders[index];
    let lifetime = order.profile.as_ref().and_then(|profile| state.knobs.profiles.get(profile));
    let lifetime = lifetime.copied().unwrap_or(state.knobs.lifetime);
    let now = state.now();
    let (not_before, not_after) = (now - state.knobs.backdate, now + lifetime);
    let signed = shared.authority.sign(&request, not_before, not_after);
    let issued = Issued {
        order: index,
        account: account.to_owned(),
        names: order.names.clone(),
        profile: order.profile.clone(),
        not_before,
        not_after,
        cert_id: cert_id(&signed.leaf),
        leaf: signed.leaf,
        chain: signed.chain,
        downloads: 0,
        revoked: None,
        at: now,
    };
    state.issued.push(issued);
    state.orders[index].certificate = Some(state.issued.len() - 1);
    state.orders[index].polls_left = state.knobs.processing_polls;
    Ok(orders::show(shared, state, index, 200))
}

/// The request has exactly the order's names and a key that is not an account's.
fn check(state: &State, names: &[String], account: &str, request: &Request) -> Result<(), Problem> {
    let bad = |why: String| Err(Problem::new(400, "badCSR", why));
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    if sorted(&request.names) != sorted(names) {
        return bad(format!("the CSR has {:?}, the order {names:?}", request.names));
    }
    let jwk = state.accounts.get(account).map(|account| account.jwk.clone()).unwrap_or_default();
    let coordinate = |name: &str| jwk[name].as_str().and_then(jws::unbase64).unwrap_or_default();
    if request.key() == [&[4], coordinate("x").as_slice(), &coordinate("y")].concat() {
        return bad("the key is the account's".to_owned());
    }
    Ok(())
}

pub fn download(state: &mut State, account: &str, id: &str) -> Result<Answer, Problem> {
    let issued = id.parse().ok().and_then(|index: usize| state.issued.get_mut(index));
    let issued = issued.filter(|one| one.account == account).ok_or_else(Problem::not_found)?;
    issued.downloads += 1;
    Ok(Answer::new(200, "application/pem-certificate-chain", issued.chain.clone()))
}

pub fn revoke(state: &mut State, account: &str, payload: &Value) -> Result<Answer, Problem> {
    let der = payload["certificate"].as_str().and_then(jws::unbase64).unwrap_or_default();
    let issued = state.issued.iter_mut().find(|one| one.leaf.as_ref() == der);
    let issued = issued.ok_or_else(Problem::not_found)?;
    if issued.account != account {
        return Err(Problem::new(403, "unauthorized", "another account's certificate"));
    }
    if issued.revoked.is_some() {
        return Err(Problem::new(400, "alreadyRevoked", "it is revoked"));
    }
    let reason = payload["reason"].as_u64().unwrap_or(0);
    if ![0, 1, 4, 5].contains(&reason) {
        return Err(Problem::new(400, "badRevocationReason", "0, 1, 4 or 5"));
    }
    issued.revoked = Some(reason);
    Ok(Answer::empty(200))
}

pub fn renewal_info(state: &State, id: &str) -> Result<Answer, Problem> {
    let issued = state.issued.iter().find(|issued| issued.cert_id == id);
    let issued = issued.filter(|_| state.knobs.renewal_info).ok_or_else(Problem::not_found)?;
    let life = issued.not_after - issued.not_before;
    let usual = (issued.not_before + life * 6 / 10, issued.not_before + life * 7 / 10);
    let window = state.knobs.windows.get(id).copied().or(state.knobs.window).unwrap_or(usual);
    let text = |at| OffsetDateTime::from_unix_timestamp(at).unwrap().format(&Rfc3339).unwrap();
    let mut body = json!({ "suggestedWindow": { "start": text(window.0), "end": text(window.1) } });
    if let Some(url) = &state.knobs.explanation {
        body["explanationURL"] = url.as_str().into();
    }
    let answer = Answer::json(200, &body);
    Ok(match &state.knobs.renewal_retry_after {
        Some(value) => answer.field("retry-after", value.as_str()),
        None => answer,
    })
}

/// RFC 9773 §4.1: the issuer's key id and the serial number.
fn cert_id(leaf: &CertificateDer<'_>) -> String {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    let key_id =
        leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(aki) => aki.key_identifier.as_ref(),
            _ => None,
        });
    format!("{}.{}", jws::base64(key_id.unwrap().0), jws::base64(leaf.raw_serial()))
}
