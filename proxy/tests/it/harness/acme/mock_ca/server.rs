//! The HTTP side: reads a request, logs it, lets a fault or the resource answer.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::{Answer, Problem};
use super::endpoint::Endpoint;
use super::fault::{Fault, http_date};
use super::jws::Jws;
use super::orders::Fetch;
use super::state::{Entry, Shared, State, now};
use super::{accounts, certs, orders, validate};

/// A thread that serves; ends with its handle, together with all connections.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(listener: TcpListener, shared: Arc<Shared>) -> Server {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => (),
                    _ = stopped => (),
                }
            });
        });
        Server { stop: Some(stop), thread: Some(thread) }
    }

    /// Returns when the port is closed.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((tcp, _)): Result<(_, SocketAddr), _> = listener.accept().await else { continue };
        let shared = shared.clone();
        let service = service_fn(move |request| answer(shared.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(false)
            .serve_connection(TokioIo::new(tcp), service);
        tokio::spawn(connection);
    }
}

/// A request read to its end.
struct Asked {
    method: String,
    path: String,
    content_type: String,
    user_agent: String,
    body: Bytes,
}

impl Asked {
    async fn read(request: hyper::Request<Incoming>) -> Result<Asked, hyper::Error> {
        let (parts, body) = request.into_parts();
        let field = |name: &str| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Ok(Asked {
            content_type: field("content-type"),
            user_agent: field("user-agent"),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            body: body.collect().await?.to_bytes(),
        })
    }
}

/// An error ends the connection.
async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let asked = Asked::read(request).await?;
    let (entry, fault) = log(&shared, &asked);
    let answer = match &fault {
        Some(Fault::Hang) => return hang(&shared, entry).await,
        Some(Fault::Close) => return Err("closed as told".into()),
        Some(Fault::Answer(answer)) => faulty(&shared, &asked, answer),
        None | Some(Fault::DoneThenHang) => work(&shared, &asked),
    };
    if let Some(Fault::DoneThenHang) = fault {
        return hang(&shared, entry).await;
    }
    let mut state = shared.state();
    state.log[entry].status = Some(answer.status);
    state.log[entry].problem.clone_from(&answer.problem);
    let date = http_date(now() + state.knobs.date_ahead);
    let mut builder = hyper::Response::builder().status(answer.status).header("date", date);
    for (name, value) in answer.fields {
        builder = builder.header(name, value);
    }
    Ok(builder.body(Full::new(answer.body))?)
}

async fn hang<T>(shared: &Shared, entry: usize) -> T {
    shared.state().log[entry].hung = true;
    std::future::pending().await
}

/// Writes the request into the log and says what fault meets it.
fn log(shared: &Shared, asked: &Asked) -> (usize, Option<Fault>) {
    let mut state = shared.state();
    let target = Endpoint::of(&asked.path);
    let jws = Jws::parse(&asked.body);
    let kid = jws.as_ref().and_then(|jws| jws.header("kid")).unwrap_or_default();
    let account = kid.rsplit('/').next().unwrap_or_default().to_owned();
    let payload = jws.map_or(Value::Null, |jws| jws.payload);
    let names = target.map(|(endpoint, id)| state.names(endpoint, id, &payload));
    let fault = target.and_then(|(endpoint, _)| state.fault(endpoint));
    let unix = state.now();
    state.log.push(Entry {
        at: Instant::now(),
        unix,
        method: asked.method.clone(),
        path: asked.path.clone(),
        endpoint: target.map(|(endpoint, _)| endpoint),
        account,
        names: names.unwrap_or_default(),
        payload,
        user_agent: asked.user_agent.clone(),
        faulty: fault.is_some(),
        hung: false,
        status: None,
        problem: None,
    });
    (state.log.len() - 1, fault)
}

/// A fault's answer. The nonce is used up all the same, and a problem brings a new one.
fn faulty(shared: &Shared, asked: &Asked, answer: &Answer) -> Answer {
    let mut state = shared.state();
    if let Some(nonce) = Jws::parse(&asked.body).as_ref().and_then(|jws| jws.header("nonce")) {
        state.nonces.remove(nonce);
    }
    let answer = answer.clone();
    if answer.problem.is_some() { answer.field("replay-nonce", state.nonce()) } else { answer }
}

/// What a CA in good health answers.
fn work(shared: &Arc<Shared>, asked: &Asked) -> Answer {
    let mut state = shared.state();
    let mut fetch = None;
    let result = match form(asked) {
        Ok((endpoint, id, None)) => unsigned(shared, &state, asked, endpoint, id),
        Ok((endpoint, id, Some(jws))) => {
            signed(shared, &mut state, asked, endpoint, id, &jws, &mut fetch)
        }
        Err(problem) => Err(problem),
    };
    if let Some(fetch) = fetch {
        let shared = shared.clone();
        std::thread::spawn(move || validate::run(&shared, &fetch));
    }
    let answer = result.unwrap_or_else(|problem| {
        if ["malformed", "badSignatureAlgorithm", "badCSR"].contains(&problem.kind.as_str()) {
            let complaint = format!("{} {}: {}", asked.method, asked.path, problem.detail);
            state.complaints.push(complaint);
        }
        problem.into()
    });
    if asked.method == "POST" || asked.path == Endpoint::NewNonce.path() {
        let nonce = state.nonce();
        return answer.field("replay-nonce", nonce).field("cache-control", "no-store");
    }
    answer
}

/// Method, type and agent are right for the resource.
fn form(asked: &Asked) -> Result<(Endpoint, &str, Option<Jws>), Problem> {
    let (endpoint, id) = Endpoint::of(&asked.path).ok_or_else(Problem::not_found)?;
    if asked.user_agent.is_empty() {
        return Err(Problem::malformed("no User-Agent (RFC 8555 §6.1)"));
    }
    let method = asked.method.as_str();
    if !endpoint.is_signed() {
        let fits = method == "GET" || method == "HEAD";
        return fits
            .then_some((endpoint, id, None))
            .ok_or_else(|| Problem::new(405, "malformed", "GET or HEAD"));
    }
    if method != "POST" {
        return Err(Problem::new(405, "malformed", "POST, or POST-as-GET"));
    }
    if asked.content_type != "application/jose+json" {
        return Err(Problem::new(415, "malformed", "application/jose+json"));
    }
    let jws = Jws::parse(&asked.body).ok_or_else(|| Problem::malformed("not a JWS"))?;
    Ok((endpoint, id, Some(jws)))
}

fn unsigned(
    shared: &Shared,
    state: &State,
    asked: &Asked,
    endpoint: Endpoint,
    id: &str,
) -> Result<Answer, Problem> {
    match endpoint {
        Endpoint::Directory => Ok(Answer::json(200, &directory(shared, state))),
        Endpoint::NewNonce if asked.method == "HEAD" => Ok(Answer::empty(200)),
        Endpoint::NewNonce => Ok(Answer::empty(204)),
        _ => certs::renewal_info(state, id),
    }
}

fn directory(shared: &Shared, state: &State) -> Value {
    let url = |endpoint: Endpoint| format!("{}{}", shared.base, endpoint.path());
    let profiles = state.knobs.profiles.keys();
    let mut directory = json!({
        "newNonce": url(Endpoint::NewNonce),
        "newAccount": url(Endpoint::NewAccount),
        "newOrder": url(Endpoint::NewOrder),
        "revokeCert": url(Endpoint::Revoke),
        "meta": {
            "termsOfService": format!("{}/terms/1", shared.base),
            "externalAccountRequired": state.knobs.eab.is_some(),
            "caaIdentities": state.knobs.caa_identities,
        },
    });
    if state.knobs.renewal_info {
        directory["renewalInfo"] = url(Endpoint::RenewalInfo).into();
    }
    if !state.knobs.profiles.is_empty() {
        directory["meta"]["profiles"] =
            profiles.map(|name| (name.clone(), Value::from(format!("profile {name}")))).collect();
    }
    directory
}

fn signed(
    shared: &Shared,
    state: &mut State,
    asked: &Asked,
    endpoint: Endpoint,
    id: &str,
    jws: &Jws,
    fetch: &mut Option<Fetch>,
) -> Result<Answer, Problem> {
    let account = accounts::admit(shared, state, endpoint, &asked.path, jws)?;
    let (account, payload) = (account.as_str(), &jws.payload);
    match endpoint {
        Endpoint::NewAccount => accounts::create(shared, state, &asked.path, jws),
        Endpoint::Account if id == account => Ok(accounts::update(shared, state, id, payload)),
        Endpoint::NewOrder => orders::create(shared, state, account, payload),
        Endpoint::Order => orders::poll(shared, state, account, id),
        Endpoint::Authorization => orders::authorization(shared, state, account, id, payload),
        Endpoint::Challenge => {
            let (answer, begun) = orders::begin(shared, state, account, id, payload)?;
            *fetch = begun;
            Ok(answer)
        }
        Endpoint::Finalize => certs::finalize(shared, state, account, id, payload),
        Endpoint::Certificate => certs::download(state, account, id),
        Endpoint::Revoke => certs::revoke(state, account, payload),
        _ => Err(Problem::not_found()),
    }
}
