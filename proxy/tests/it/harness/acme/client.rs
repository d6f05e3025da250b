//! A plain ACME client, to try the authorities themselves: instant-acme over the harness' own
//! connections. No part of the product.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, BodyWrapper, BytesResponse, ChallengeType, Error, ExternalAccountKey, HttpClient,
    Identifier, NewAccount, NewOrder, Order, RetryPolicy,
};

use crate::harness::backend::ok;
use crate::harness::{Backend, Client, Response, Tls};

/// One connection per request; `roots` are trusted for https.
pub struct Http {
    pub roots: Option<PathBuf>,
}

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let roots = self.roots.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|e| Error::Other(e.into()))?.to_bytes();
            let sent =
                tokio::task::spawn_blocking(move || exchange(roots.as_deref(), &parts, &body));
            let response = sent.await.map_err(|e| Error::Other(e.into()))?;
            let mut builder = http::Response::builder().status(response.status);
            for (name, value) in &response.head.fields {
                builder = builder.header(name, value);
            }
            Ok(builder.body(Full::new(Bytes::from(response.body.bytes)))?.into())
        })
    }
}

fn exchange(roots: Option<&Path>, parts: &http::request::Parts, body: &[u8]) -> Response {
    let authority = parts.uri.authority().unwrap();
    let addr = resolve(authority.as_str());
    let mut client = match parts.uri.scheme_str() {
        Some("https") => Tls::new(addr, roots.unwrap()).connect(authority.host()),
        _ => Client::plain(addr),
    };
    let target = parts.uri.path_and_query().unwrap();
    let mut bytes = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", parts.method);
    for (name, value) in &parts.headers {
        bytes += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    client.send(format!("{bytes}Content-Length: {}\r\n\r\n", body.len()));
    client.send(body);
    client.response_to(parts.method.as_str()).unwrap()
}

fn resolve(authority: &str) -> SocketAddr {
    authority.to_socket_addrs().unwrap().find(SocketAddr::is_ipv4).unwrap()
}

/// An HTTP-01 responder in the edge's place.
pub struct Responder {
    pub backend: Backend,
    answers: Arc<Mutex<HashMap<String, String>>>,
}

impl Responder {
    pub fn start() -> Responder {
        Responder::on("127.0.0.1:0")
    }

    pub fn on(bind: &str) -> Responder {
        let answers: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let known = answers.clone();
        let backend = Backend::on(bind, move |peer| {
            while let Some(request) = peer.request() {
                let token = request.target().rsplit('/').next().unwrap_or_default();
                let answer = known.lock().unwrap().get(token).cloned();
                peer.send(ok(&answer.unwrap_or_default()));
            }
        });
        Responder { backend, answers }
    }

    pub fn offer(&self, token: &str, answer: &str) {
        self.answers.lock().unwrap().insert(token.to_owned(), answer.to_owned());
    }
}

pub async fn register(
    directory: &str,
    roots: Option<&Path>,
    eab: Option<&ExternalAccountKey>,
) -> Result<Account, Error> {
    let http = Http { roots: roots.map(Path::to_owned) };
    let new = NewAccount {
        contact: &["mailto:test@openclaw.example"],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(http));
    Ok(builder.create(&new, directory.to_owned(), eab).await?.0)
}

/// An order whose challenges are told to be ready.
pub async fn order(
    account: &Account,
    names: &[&str],
    responder: Option<&Responder>,
) -> Result<Order, Error> {
    let names: Vec<Identifier> =
        names.iter().map(|name| Identifier::Dns((*name).to_owned())).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next?;
        let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        if let Some(responder) = responder {
            responder.offer(&challenge.token, challenge.key_authorization().as_str());
        }
        // Its error is one of the challenge, which the order's state tells too.
        let _ = challenge.set_ready().await;
    }
    Ok(order)
}

/// The whole way to a PEM chain.
pub async fn issue(
    account: &Account,
    names: &[&str],
    responder: Option<&Responder>,
) -> Result<String, Error> {
    let mut order = order(account, names, responder).await?;
    order.poll_ready(&RetryPolicy::default()).await?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    // Caddy refuses rcgen's common name.
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&key).unwrap();
    order.finalize_csr(csr.der()).await?;
    order.poll_certificate(&RetryPolicy::default()).await
}
