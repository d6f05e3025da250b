//! Orders and authorizations (RFC 8555 §7.4, §7.5) with profiles and `replaces`.

use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::endpoint::Endpoint;
use super::jws;
use super::knobs::{Replaces, Validation};
use super::state::{Shared, State, names_of};

#[derive(Clone, Debug)]
pub struct Authorization {
    pub account: String,
    pub name: String,
    pub token: String,
    pub status: &'static str,
    /// A challenge was told to be ready.
    pub begun: bool,
    pub error: Option<Problem>,
    pub gone: bool,
}

#[derive(Clone, Debug)]
pub struct Order {
    pub account: String,
    pub names: Vec<String>,
    pub profile: Option<String>,
    /// As asked for.
    pub replaces: Option<String>,
    pub authorizations: Vec<usize>,
    /// Index of what was issued.
    pub certificate: Option<usize>,
    /// Polls until it is told to be valid.
    pub polls_left: u32,
    pub gone: bool,
    pub at: i64,
}

/// An accepted order, for tests.
#[allow(dead_code, reason = "the rest is shown when a test fails")]
#[derive(Clone, Debug)]
pub struct Ordered {
    pub account: String,
    pub names: Vec<String>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
    pub status: &'static str,
    /// Unix seconds.
    pub at: i64,
}

impl State {
    pub fn ordered(&self) -> Vec<Ordered> {
        let one = |order: &Order| Ordered {
            account: order.account.clone(),
            names: order.names.clone(),
            profile: order.profile.clone(),
            replaces: order.replaces.clone(),
            status: self.status(order),
            at: order.at,
        };
        self.orders.iter().map(one).collect()
    }

    pub fn status(&self, order: &Order) -> &'static str {
        if order.certificate.is_some() {
            return if order.polls_left > 0 { "processing" } else { "valid" };
        }
        let mut statuses = order.authorizations.iter().map(|&i| self.authorizations[i].status);
        if statuses.clone().all(|status| status == "valid") {
            "ready"
        } else if statuses.all(|status| matches!(status, "valid" | "pending")) {
            "pending"
        } else {
            "invalid"
        }
    }

    /// One of this account's orders.
    pub fn order(&self, id: &str, account: &str) -> Result<usize, Problem> {
        let index = id.parse().ok().filter(|&i: &usize| {
            self.orders.get(i).is_some_and(|order| order.account == account && !order.gone)
        });
        index.ok_or_else(Problem::not_found)
    }

    fn authorization(&self, id: &str, account: &str) -> Result<usize, Problem> {
        let index = id.parse().ok().filter(|&i: &usize| {
            self.authorizations.get(i).is_some_and(|one| one.account == account && !one.gone)
        });
        index.ok_or_else(Problem::not_found)
    }
}

pub fn create(
    shared: &Shared,
    state: &mut State,
    account: &str,
    payload: &Value,
) -> Result<Answer, Problem> {
    let names = names_of(payload);
    check_names(state, &names)?;
    let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
    let (profile, replaces) = (text("profile"), text("replaces"));
    if let Some(profile) = profile.as_ref().filter(|p| !state.knobs.profiles.contains_key(*p)) {
        let detail = format!("there is no profile {profile:?}");
        return Err(Problem::new(400, "invalidProfile", detail));
    }
    if let Some(id) = &replaces {
        check_replaces(state, id)?;
    }
    if let Some(index) =
        state.knobs.reuse_orders.then(|| reusable(state, account, &names)).flatten()
    {
        return Ok(show(shared, state, index, 201));
    }
    let authorizations = names.iter().map(|name| authorize(state, account, name)).collect();
    let at = state.now();
    state.orders.push(Order {
        account: account.to_owned(),
        names,
        profile,
        replaces,
        authorizations,
        certificate: None,
        polls_left: 0,
        gone: false,
        at,
    });
    let index = state.orders.len() - 1;
    Ok(show(shared, state, index, 201))
}

fn check_names(state: &State, names: &[String]) -> Result<(), Problem> {
    if names.is_empty() {
        return Err(Problem::malformed("an order without names"));
    }
    let lower = |name: &String| name.bytes().all(|b| !b.is_ascii_uppercase());
    if !names.iter().all(lower) || names.iter().any(|name| name.ends_with('.')) {
        return Err(Problem::malformed("names must be lower case, without a final dot"));
    }
    if let Some(name) = names.iter().find(|name| name.starts_with('*')) {
        let detail = format!("no wildcards here: {name}");
        return Err(Problem::new(400, "rejectedIdentifier", detail));
    }
    let mut refused = names.iter().filter_map(|name| Some((name, state.knobs.rejected.get(name)?)));
    let Some((name, first)) = refused.next() else { return Ok(()) };
    let mut problem = first.clone().subproblem(name, &first.kind, &first.detail);
    for (name, next) in refused {
        problem = problem.subproblem(name, &next.kind, &next.detail);
    }
    Err(problem)
}

fn check_replaces(state: &State, id: &str) -> Result<(), Problem> {
    let replaced =
        || Problem::new(409, "alreadyReplaced", "an order that replaces this certificate exists");
    match state.knobs.replaces {
        Replaces::Ignore => Ok(()),
        Replaces::Refuse => Err(replaced()),
        Replaces::Honour => {
            if !state.issued.iter().any(|issued| issued.cert_id == id) {
                return Err(Problem::malformed("replaces a certificate that is not known"));
            }
            let mut others = state.orders.iter().filter(|o| o.replaces.as_deref() == Some(id));
            let taken = others.any(|order| state.status(order) != "invalid");
            if taken { Err(replaced()) } else { Ok(()) }
        }
    }
}

fn reusable(state: &State, account: &str, names: &[String]) -> Option<usize> {
    state.orders.iter().position(|order| {
        order.account == account
            && order.names == names
            && !order.gone
            && matches!(state.status(order), "pending" | "ready")
    })
}

fn authorize(state: &mut State, account: &str, name: &str) -> usize {
    let reuse = state.knobs.reuse_authorizations.then(|| {
        let same = |a: &Authorization| a.account == account && a.name == name && !a.gone;
        state.authorizations.iter().position(|a| same(a) && a.status == "valid")
    });
    if let Some(index) = reuse.flatten() {
        return index;
    }
    state.authorizations.push(Authorization {
        account: account.to_owned(),
        name: name.to_owned(),
        token: jws::random() + &jws::random(),
        status: "pending",
        begun: false,
        error: None,
        gone: false,
    });
    state.authorizations.len() - 1
}

/// POST-as-GET of an order counts down its polls.
pub fn poll(
    shared: &Shared,
    state: &mut State,
    account: &str,
    id: &str,
) -> Result<Answer, Problem> {
    let index = state.order(id, account)?;
    let answer = show(shared, state, index, 200);
    let order = &mut state.orders[index];
    order.polls_left = order.polls_left.saturating_sub(1);
    Ok(answer)
}

pub fn show(shared: &Shared, state: &State, index: usize, status: u16) -> Answer {
    let order = &state.orders[index];
    let told = state.status(order);
    let identifiers = order.names.iter().map(|name| json!({ "type": "dns", "value": name }));
    let authorizations = order.authorizations.iter();
    let mut body = json!({
        "status": told,
        "identifiers": identifiers.collect::<Value>(),
        "authorizations": authorizations
            .map(|i| Value::from(shared.url(Endpoint::Authorization, i)))
            .collect::<Value>(),
        "finalize": shared.url(Endpoint::Finalize, index),
    });
    if let Some(certificate) = order.certificate.filter(|_| told == "valid") {
        body["certificate"] = shared.url(Endpoint::Certificate, certificate).into();
    }
    if let Some(profile) = &order.profile {
        body["profile"] = profile.as_str().into();
    }
    if let Some(id) = order.replaces.as_ref().filter(|_| state.knobs.replaces == Replaces::Honour) {
        body["replaces"] = id.as_str().into();
    }
    let failed = order.authorizations.iter().find_map(|&i| state.authorizations[i].error.as_ref());
    if let Some(error) = failed.filter(|_| state.knobs.order_error) {
        body["error"] = error.json();
    }
    let answer = Answer::json(status, &body).field("location", shared.url(Endpoint::Order, index));
    slowly(state, answer, matches!(told, "pending" | "processing"))
}

fn slowly(state: &State, answer: Answer, unfinished: bool) -> Answer {
    match state.knobs.poll_retry_after.filter(|_| unfinished) {
        Some(seconds) => answer.field("retry-after", seconds.to_string()),
        None => answer,
    }
}

/// Shows an authorization, or deactivates it first.
pub fn authorization(
    shared: &Shared,
    state: &mut State,
    account: &str,
    id: &str,
    payload: &Value,
) -> Result<Answer, Problem> {
    let index = state.authorization(id, account)?;
    let one = &mut state.authorizations[index];
    if payload["status"] == "deactivated" && matches!(one.status, "pending" | "valid") {
        one.status = "deactivated";
    }
    let one = &state.authorizations[index];
    let challenges =
        ["http-01", "tls-alpn-01", "dns-01"].map(|kind| challenge(shared, one, index, kind));
    let body = json!({
        "status": one.status,
        "identifier": { "type": "dns", "value": one.name },
        "challenges": challenges,
    });
    Ok(slowly(state, Answer::json(200, &body), one.status == "pending"))
}

fn challenge(shared: &Shared, one: &Authorization, index: usize, kind: &str) -> Value {
    let status = match one.status {
        "pending" if one.begun => "processing",
        "deactivated" => "pending",
        status => status,
    };
    let url = shared.url(Endpoint::Challenge, format!("{index}/{kind}"));
    let mut body = json!({ "type": kind, "url": url, "token": one.token, "status": status });
    if let Some(error) = &one.error {
        body["error"] = error.json();
    }
    body
}

/// What is to be fetched for a challenge that was told to be ready.
pub struct Fetch {
    pub authorization: usize,
    pub name: String,
    pub token: String,
    pub key_authorization: String,
    pub at: std::net::SocketAddr,
}

/// The client is ready for a challenge (RFC 8555 §7.5.1).
pub fn begin(
    shared: &Shared,
    state: &mut State,
    account: &str,
    id: &str,
    payload: &Value,
) -> Result<(Answer, Option<Fetch>), Problem> {
    let (id, kind) = id.split_once('/').ok_or_else(Problem::not_found)?;
    let index = state.authorization(id, account)?;
    let validation = state.knobs.validation;
    let told = state.knobs.invalid.get(&state.authorizations[index].name).cloned();
    let one = &mut state.authorizations[index];
    // A null payload only asks how it stands.
    let starts = one.status == "pending" && !one.begun && !payload.is_null();
    one.begun |= starts;
    // The outcome comes after the answer, as with every real CA.
    let body = challenge(shared, one, index, kind);
    let mut fetch = None;
    match (told, validation) {
        _ if !starts => (),
        (Some(problem), _) => fail(one, problem),
        (None, Validation::Trust) => one.status = "valid",
        (None, Validation::Never) => (),
        (None, Validation::Fetch(at)) => {
            let (name, token) = (one.name.clone(), one.token.clone());
            let key_authorization = format!("{token}.{account}");
            fetch = Some(Fetch { authorization: index, name, token, key_authorization, at });
        }
    }
    let up = format!("<{}>;rel=\"up\"", shared.url(Endpoint::Authorization, index));
    Ok((Answer::json(200, &body).field("link", up), fetch))
}

pub fn fail(one: &mut Authorization, problem: Problem) {
    one.status = "invalid";
    one.error = Some(problem);
}
