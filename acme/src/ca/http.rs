//! The HTTP client for a CA: bounded in time and size, and it keeps what an error answer says.
//!
//! `instant-acme` knows no limits and drops status and `Retry-After` of an error answer; here
//! every answer of 400 and above becomes a [`Fault`] that carries them. Only the refusal of a
//! nonce passes, since the library repeats that itself with the nonce that came along.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{AGE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use http::response::Parts;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use instant_acme::{BodyWrapper, BytesResponse};

use super::Limits;
use super::meter::Meter;
use super::problem::Problem;
use super::text::{MAX_DETAIL, clean, quote};
use super::wait;

/// Of every request to a CA; its own words first, the library's after it.
const USER_AGENT_PREFIX: &str = concat!("openclaw-edge/", env!("CARGO_PKG_VERSION"));

/// An idle connection is given up before the servers in front of CAs do so.
const IDLE: Duration = Duration::from_secs(20);

/// No answer has told the time yet.
const UNKNOWN: i64 = i64::MIN;

/// One client for one CA; clones share its connections.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    limits: Limits,
    /// Seconds that the CA's clock is ahead of ours, by its newest answer.
    skew: Arc<AtomicI64>,
    pub meter: Meter,
}

/// Why there is no usable answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// No whole answer came, or the request could not even be sent.
    Network(String),
    /// The answer is an error, or a redirect.
    Answer {
        status: u16,
        /// Unix seconds of our clock.
        retry_at: Option<i64>,
        problem: Option<Problem>,
        /// What to tell when there is no problem document.
        words: String,
    },
}

impl Http {
    pub fn new(tls: rustls::ClientConfig, limits: Limits, meter: Meter) -> Http {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connect));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(4)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Http { client, limits, skew: Arc::new(AtomicI64::new(UNKNOWN)), meter }
    }

    pub fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }

    /// A GET without authentication.
    pub async fn get(&self, url: &str) -> Result<(Parts, Bytes), Fault> {
        let request = Request::get(url)
            .body(BodyWrapper::default())
            .map_err(|e| Fault::Network(format!("the address {url:?} cannot be used: {e}")))?;
        self.exchange(request).await
    }

    /// The whole answer, if it is a good one.
    pub async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<(Parts, Bytes), Fault> {
        let (action, begun) = (self.meter.action(request.uri()), Instant::now());
        let ended = self.ask(request).await;
        self.meter.tell(action, begun, &ended);
        ended
    }

    async fn ask(&self, mut request: Request<BodyWrapper<Bytes>>) -> Result<(Parts, Bytes), Fault> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        check_address(request.uri()).map_err(Fault::Network)?;
        sign(request.headers_mut());
        tracing::debug!(method = %request.method(), uri = %request.uri(), "asking the CA");
        let limit = self.limits.request;
        let (parts, body) = match tokio::time::timeout(limit, self.answer(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(Fault::Network(format!("{host}: {why}"))),
            Err(_) => {
                let seconds = limit.as_secs_f64();
                return Err(Fault::Network(format!("{host}: no answer within {seconds} s")));
            }
        };
        let now = unix_now();
        let ca_now = clock(&parts.headers);
        if let Some(ca_now) = ca_now {
            self.skew.store(ca_now.saturating_sub(now), Ordering::Relaxed);
        }
        tracing::debug!(status = parts.status.as_u16(), bytes = body.len(), "the CA answers");
        match fault(&parts, &body, &host, now, ca_now.unwrap_or(now)) {
            Some(fault) => Err(fault),
            None => Ok((parts, body)),
        }
    }

    async fn answer(&self, request: Request<BodyWrapper<Bytes>>) -> Result<(Parts, Bytes), String> {
        let answer = self.client.request(request).await.map_err(|e| root_cause(&e))?;
        let (parts, body) = answer.into_parts();
        match Limited::new(body, self.limits.body).collect().await {
            Ok(whole) => Ok((parts, whole.to_bytes())),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => {
                Err(format!("the answer is larger than {} bytes", self.limits.body))
            }
            Err(e) => Err(format!("the answer breaks off: {}", root_cause(e.as_ref()))),
        }
    }
}

/// What `instant-acme` asks through. The directory is answered from the copy that was read when
/// the CA was connected, so that restoring an account needs no network.
pub(super) struct Transport {
    pub http: Http,
    pub directory_url: Uri,
    pub directory: Bytes,
}

impl instant_acme::HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        if request.method() == http::Method::GET && *request.uri() == self.directory_url {
            let answer = Response::new(Full::new(self.directory.clone()));
            return Box::pin(std::future::ready(Ok(BytesResponse::from(answer))));
        }
        let http = self.http.clone();
        Box::pin(async move {
            match http.exchange(request).await {
                Ok((parts, body)) => {
                    Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
                }
                Err(fault) => Err(instant_acme::Error::Other(Box::new(fault))),
            }
        })
    }
}

/// Only `https://`, and `http://` to this machine: the account's key signs what goes there, but
/// names, tokens and certificates must come from the CA and nobody else.
pub(super) fn check_address(uri: &Uri) -> Result<(), String> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let ours = bare == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        _ if host.is_empty() => Err(format!("{uri} is not the address of a server")),
        Some("https") => Ok(()),
        Some("http") if ours => Ok(()),
        Some("http") => Err(format!("{uri} is not encrypted: only https:// to another machine")),
        _ => Err(format!("{uri} is not an https:// address")),
    }
}

fn sign(headers: &mut HeaderMap) {
    let library = field(headers, &USER_AGENT).unwrap_or_default();
    let both = format!("{USER_AGENT_PREFIX} {library}");
    if let Ok(value) = HeaderValue::from_str(both.trim_end()) {
        headers.insert(USER_AGENT, value);
    }
}

pub(super) fn fault(
    parts: &Parts,
    body: &Bytes,
    host: &str,
    now: i64,
    ca_now: i64,
) -> Option<Fault> {
    let status = parts.status;
    if status.is_success() {
        return None;
    }
    let problem = Problem::from_json(body);
    let nonce = problem.as_ref().is_some_and(Problem::is_bad_nonce);
    if nonce && status == StatusCode::BAD_REQUEST {
        return None;
    }
    let asked = field(&parts.headers, &RETRY_AFTER).and_then(|at| wait::retry_after(at, ca_now));
    let detail = || problem.as_ref().and_then(|problem| problem.detail.as_deref());
    let asked = asked.or_else(|| wait::retry_after_in_words(detail()?, ca_now));
    let words = match field(&parts.headers, &LOCATION) {
        Some(target) if status.is_redirection() => {
            let target = clean(target, 200);
            format!("{host} answered {status} to {target}: redirects are not followed")
        }
        _ => match quote(body) {
            Some(quoted) => format!("{host} answered {status}: {quoted}"),
            None => format!("{host} answered {status}"),
        },
    };
    let retry_at = asked.map(|seconds| now.saturating_add(seconds));
    Some(Fault::Answer { status: status.as_u16(), retry_at, problem, words })
}

/// The CA's time by this answer; the directory may have lain in a cache for a while.
pub(super) fn clock(headers: &HeaderMap) -> Option<i64> {
    let age = field(headers, &AGE).and_then(|age| age.trim().parse::<u32>().ok());
    Some(wait::http_date(field(headers, &DATE)?)?.saturating_add(i64::from(age.unwrap_or(0))))
}

fn field<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The innermost reason: "client error (Connect)" helps nobody.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    let mut kind = None;
    while let Some(source) = innermost.source() {
        innermost = source;
        if let Some(io) = innermost.downcast_ref::<std::io::Error>() {
            kind = Some(io.to_string());
        }
    }
    // An io::Error made from a TLS error hides it: source() skips the error itself.
    let words = innermost.to_string();
    clean(kind.as_deref().unwrap_or(&words), MAX_DETAIL)
}

/// Of this machine's clock.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Network(why) => f.write_str(why),
            Fault::Answer { words, .. } => f.write_str(words),
        }
    }
}

impl StdError for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_only_within_this_machine() {
        for (uri, allowed) in [
            ("https://acme.openclaw.example/directory", true),
            ("https://192.0.2.1:14000/dir", true),
            ("http://localhost:14000/dir", true),
            ("http://127.0.0.9/dir", true),
            ("http://[::1]:80/dir", true),
            ("http://acme.openclaw.example/dir", false),
            ("http://192.0.2.1/dir", false),
            ("http://localhost.openclaw.example/dir", false),
            ("ftp://localhost/dir", false),
            ("/dir", false),
        ] {
            assert_eq!(check_address(&uri.parse().unwrap()).is_ok(), allowed, "{uri}");
        }
    }

    #[test]
    fn both_names_are_in_the_user_agent() {
        let mut headers = HeaderMap::new();
        sign(&mut headers);
        assert_eq!(headers[USER_AGENT], USER_AGENT_PREFIX);
        headers.insert(USER_AGENT, HeaderValue::from_static("instant-acme/0.8.5"));
        sign(&mut headers);
        let expected = format!("{USER_AGENT_PREFIX} instant-acme/0.8.5");
        assert_eq!(headers[USER_AGENT], expected.as_str());
    }

    fn answer(status: u16, fields: &[(&'static str, &str)], body: &'static [u8]) -> Option<Fault> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        fault(&parts, &Bytes::from_static(body), "ca.example", 1000, 5000)
    }

    #[test]
    fn a_wait_by_date_is_measured_on_the_clock_of_the_ca() {
        // 1970-01-01 01:24:00 is 5040: 40 s after the CA's 5000, thus 1040 here.
        let date = [("retry-after", "Thu, 01 Jan 1970 01:24:00 GMT")];
        let Some(Fault::Answer { retry_at, .. }) = answer(503, &date, b"") else { panic!() };
        assert_eq!(retry_at, Some(1040));
        let words = br#"{"detail":"retry after 1970-01-01 01:24:00 UTC"}"#;
        let Some(Fault::Answer { retry_at, .. }) = answer(429, &[], words) else { panic!() };
        assert_eq!(retry_at, Some(1040));
    }

    #[test]
    fn only_a_refused_nonce_is_left_to_the_library() {
        let nonce = br#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"x"}"#;
        assert!(answer(400, &[], nonce).is_none());
        assert!(answer(403, &[], nonce).is_some());
        assert!(answer(400, &[], br#"{"type":"urn:ietf:params:acme:error:dns"}"#).is_some());
        assert!(answer(201, &[], b"").is_none());
        assert!(answer(304, &[], b"").is_some());
    }
}
