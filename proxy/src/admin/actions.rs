//! What changes state: `POST` over the unix socket only, JSON in and out.

use std::time::Duration;

use acme::ca::Revocation;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::certificates::time_of;
use super::operate::{Asked, operate};
use super::pages::{error, json_reply};
use super::{Body, Sources};

const RENEW: &str = "/api/v1/certificates/renew";
const REVOKE: &str = "/api/v1/certificates/revoke";
const IMPORT: &str = "/api/v1/certificates/import";
const PROBE: &str = "/api/v1/challenges/probe";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    /// The certificate's name, or a host.
    name: String,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    name: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    /// PEM, leaf first.
    chain: String,
    /// PEM.
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    host: String,
    token: String,
}

/// Whether this is a request for an action, over whichever entrance.
pub(super) fn is_action(method: &Method, path: &str) -> bool {
    let known = || [RENEW, REVOKE, IMPORT, PROBE].contains(&path) || Asked::of(path).is_some();
    *method == Method::POST && known()
}

/// Does it. Errors: 400 what cannot be read, 404 what is not there, 409 what cannot be done, with a
/// sentence.
pub(super) async fn act(sources: &Sources, request: Request<Incoming>) -> Response<Body> {
    let uri = request.uri().clone();
    let path = uri.path();
    let read = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(why)) if why.is::<LengthLimitError>() => {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB");
        }
        Ok(Err(why)) => return error(StatusCode::BAD_REQUEST, &format!("the body: {why}")),
        Err(_) => return error(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s"),
    };
    let done = match (path, Asked::of(path)) {
        (_, Some(asked)) => operate(sources, asked, uri.query().unwrap_or_default(), &body).await,
        (RENEW, _) => renew(sources, &body).await,
        (REVOKE, _) => revoke(sources, &body).await,
        (IMPORT, _) => import(sources, &body).await,
        (_, None) => probe(sources, &body),
    };
    match done {
        Ok(value) => json_reply(StatusCode::OK, &value),
        Err((status, why)) => error(status, &why),
    }
}

type Done = Result<serde_json::Value, (StatusCode, String)>;

async fn renew(sources: &Sources, body: &Bytes) -> Done {
    let Renew { name, force } = read(body)?;
    let renewal = keeper(sources)?.renew(name, force).await.map_err(conflict)?;
    let (until, why) = renewal.waits.unzip();
    Ok(json!({ "name": renewal.label, "waits_until": until.and_then(time_of), "why": why }))
}

async fn revoke(sources: &Sources, body: &Bytes) -> Done {
    let Revoke { name, reason } = read(body)?;
    let reason = reason.as_deref().unwrap_or("unspecified");
    let reason = Revocation::parse(reason).ok_or_else(|| {
        let known = "unspecified, keyCompromise, superseded or cessationOfOperation";
        (StatusCode::BAD_REQUEST, format!("the reason is one of {known}"))
    })?;
    let revoked = keeper(sources)?.revoke(name, reason).await.map_err(conflict)?;
    Ok(json!({ "name": revoked.label, "issued_by": revoked.issuer }))
}

async fn import(sources: &Sources, body: &Bytes) -> Done {
    let Import { chain, key } = read(body)?;
    let names = keeper(sources)?.import(chain, key).await.map_err(conflict)?;
    Ok(json!({ "names": names }))
}

/// Answers one token of the doctor's on a host, for as long as tokens of finished challenges are
/// answered. What is answered is no key authorization: no CA could be misled by it.
fn probe(sources: &Sources, body: &Bytes) -> Done {
    let Probe { host, token } = read(body)?;
    let answer = format!("{token}.openclaw-edge-probe");
    let challenges = &sources.shared.challenges;
    challenges.offer(&host, &token, &answer).map_err(|why| conflict(why.to_string()))?;
    challenges.done(&host, &token);
    Ok(json!({ "answer": answer }))
}

fn keeper(sources: &Sources) -> Result<&acme::keeper::Keeper, (StatusCode, String)> {
    let keeper = sources.status.acme.get();
    keeper.map(|keeper| &**keeper).ok_or_else(|| conflict("the process is starting".to_owned()))
}

pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, (StatusCode, String)> {
    // The error names the field and the place, never the value: it may be a key.
    serde_json::from_slice(body).map_err(|why| {
        let place = format!("line {}, column {}", why.line(), why.column());
        (StatusCode::BAD_REQUEST, format!("the body is not what is asked for here ({place})"))
    })
}

fn conflict(why: String) -> (StatusCode, String) {
    (StatusCode::CONFLICT, why)
}

/// Bytes: a chain with its key is about 10 KiB.
const MAX_BODY: usize = 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
