//! Who asks: checks of a signed request (RFC 8555 §6) and new accounts (§7.3).

use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::endpoint::Endpoint;
use super::jws::{self, Jws};
use super::state::{Shared, State};

#[derive(Clone, Debug)]
pub struct Account {
    pub jwk: Value,
    pub contact: Vec<String>,
}

/// The signature is good, the nonce fresh, the URL this one. Gives the account's id; "" for a
/// request that brought its key instead.
pub fn admit(
    shared: &Shared,
    state: &mut State,
    endpoint: Endpoint,
    path: &str,
    jws: &Jws,
) -> Result<String, Problem> {
    if jws.header("alg") != Some("ES256") {
        return Err(Problem::new(400, "badSignatureAlgorithm", "only ES256 is accepted"));
    }
    let known = jws.header("nonce").is_some_and(|nonce| state.nonces.remove(nonce));
    if !known {
        return Err(Problem::new(400, "badNonce", "this nonce is not known"));
    }
    if jws.header("url") != Some(&format!("{}{path}", shared.base)) {
        return Err(Problem::new(401, "unauthorized", "the JWS is for another URL"));
    }
    let unsigned = || Problem::malformed("the signature does not fit");
    match (jws.header("kid"), jws.protected.get("jwk")) {
        (Some(kid), None) if endpoint != Endpoint::NewAccount => {
            let id = kid.strip_prefix(&shared.url(Endpoint::Account, "")).unwrap_or_default();
            let gone = || Problem::new(400, "accountDoesNotExist", "there is no such account");
            let account = state.accounts.get(id).ok_or_else(gone)?;
            jws.is_signed_by(&account.jwk).then(|| id.to_owned()).ok_or_else(unsigned)
        }
        (None, Some(jwk)) if endpoint == Endpoint::NewAccount => {
            jws.is_signed_by(jwk).then(String::new).ok_or_else(unsigned)
        }
        _ => Err(Problem::malformed("either kid or jwk, as the resource demands")),
    }
}

pub fn create(
    shared: &Shared,
    state: &mut State,
    path: &str,
    jws: &Jws,
) -> Result<Answer, Problem> {
    let (jwk, wish) = (&jws.protected["jwk"], &jws.payload);
    let id = jws::thumbprint(jwk);
    if state.accounts.contains_key(&id) {
        return Ok(show(shared, state, &id, 200));
    }
    if wish["onlyReturnExisting"] == true {
        return Err(Problem::new(400, "accountDoesNotExist", "there is no such account"));
    }
    if wish["termsOfServiceAgreed"] != true {
        return Err(Problem::new(403, "userActionRequired", "the terms must be agreed to"));
    }
    let contacts = wish["contact"].as_array().into_iter().flatten();
    let contact: Vec<String> = contacts.filter_map(Value::as_str).map(str::to_owned).collect();
    if state.knobs.refuse_contact && !contact.is_empty() {
        return Err(Problem::new(400, "invalidContact", "this contact's domain is forbidden"));
    }
    if let Some((kid, key)) = state.knobs.eab.clone() {
        bind(shared, state, path, jws, &kid, &key)?;
    }
    state.accounts.insert(id.clone(), Account { jwk: jwk.clone(), contact });
    Ok(show(shared, state, &id, 201))
}

/// RFC 8555 §7.3.4: the binding is this account's key, sealed with the known HMAC key.
fn bind(
    shared: &Shared,
    state: &mut State,
    path: &str,
    jws: &Jws,
    kid: &str,
    key: &[u8],
) -> Result<(), Problem> {
    let missing = || Problem::new(401, "externalAccountRequired", "a binding is needed");
    let binding = jws.payload.get("externalAccountBinding").ok_or_else(missing)?;
    let refuse = |why: &str| Err(Problem::new(401, "unauthorized", format!("binding: {why}")));
    let Some(binding) = Jws::from_json(binding) else { return refuse("not a JWS") };
    if binding.header("alg") != Some("HS256") || binding.header("kid") != Some(kid) {
        return refuse("unknown key id or algorithm");
    }
    if binding.header("url") != Some(&format!("{}{path}", shared.base)) {
        return refuse("for another URL");
    }
    if binding.payload != jws.protected["jwk"] || !binding.is_sealed_by(key) {
        return refuse("the seal does not fit");
    }
    if !state.eab_used.insert(kid.to_owned()) && state.knobs.eab_once {
        return refuse("the key id has been used");
    }
    Ok(())
}

/// Shows an account, or changes its contact first.
pub fn update(shared: &Shared, state: &mut State, id: &str, payload: &Value) -> Answer {
    if let Some(contacts) = payload["contact"].as_array() {
        let contact = contacts.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if let Some(account) = state.accounts.get_mut(id) {
            account.contact = contact;
        }
    }
    show(shared, state, id, 200)
}

fn show(shared: &Shared, state: &State, id: &str, status: u16) -> Answer {
    let contact = state.accounts.get(id).map(|account| account.contact.clone());
    let body = json!({ "status": "valid", "contact": contact.unwrap_or_default() });
    Answer::json(status, &body).field("location", shared.url(Endpoint::Account, id))
}
