//! The client side of RFC 8555: directory, account, order, over an HTTP client of our own.
//!
//! [`Ca::connect`] reads the directory; [`Ca::register`] or [`Ca::restore`] gives an [`Account`];
//! [`Account::order`] an [`Order`], which is led step by step: authorizations, challenges,
//! validation, CSR, certificate. Nothing here decides *when* or *whether*: that is the keeper's.
//! The wire format is `instant-acme`'s; what it lacks (limits of time and size, `Retry-After`,
//! what an error answer said, patience with nonces) is here. Every future is `Send` and may be
//! dropped at any point: the next call asks the CA for the truth.

mod account;
pub mod answer;
mod ari;
mod directory;
mod failure;
mod http;
mod meter;
mod order;
mod problem;
mod request;
mod roots;
mod text;
mod validate;
mod wait;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use bytes::Bytes;

pub use account::{Account, Eab, Revocation, StoredAccount};
pub use ari::{CertId, RenewalInfo};
pub use directory::Directory;
pub use failure::{Class, Failure, Step, SubProblem};
pub(crate) use http::unix_now;
pub use instant_acme::{AuthorizationStatus as AuthStatus, OrderStatus};
pub use meter::{Action, Asked, Listener};
pub use order::{Authorization, ChallengeKind, Offer, Order};
pub use request::OrderRequest;

use self::http::{Http, Transport};
use self::meter::Meter;

/// How often a step is repeated because the CA did not take its nonce. The library itself
/// tries three times in each.
const NONCE_TRIES: u32 = 8;

/// Which CA, and how patiently.
#[derive(Clone, Debug)]
pub struct CaConfig {
    /// `https://…`; `http://` only to this machine.
    pub directory: String,
    /// PEM file of roots that are trusted *instead* of the system's for the CA's API.
    pub roots: Option<PathBuf>,
    pub limits: Limits,
}

/// Limits of one request to a CA, and of its patience with us and ours with it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until TCP is connected.
    pub connect: Duration,
    /// The whole request, from the name's resolution to the last byte of the answer.
    pub request: Duration,
    /// Bytes of an answer.
    pub body: usize,
    /// Between two looks at an order, at first; grows to five times that.
    pub poll: Duration,
    /// Until it has looked at all names of an order.
    pub validation: Duration,
    /// Until it has issued what was asked for.
    pub issuance: Duration,
}

/// One CA: its directory as of [`Ca::connect`], and a client with its connections. Connect anew
/// daily, the directory may change.
#[derive(Clone)]
pub struct Ca {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    url: String,
    uri: Uri,
    limits: Limits,
    directory: Directory,
    renewal_info: Option<String>,
    addresses: Bytes,
}

impl Ca {
    /// Reads the directory.
    pub async fn connect(config: &CaConfig) -> Result<Ca, Failure> {
        Ca::connect_heard(config, None).await
    }

    /// The same; of this and every later request somebody hears.
    pub async fn connect_heard(
        config: &CaConfig,
        listener: Option<Listener>,
    ) -> Result<Ca, Failure> {
        let local = |why: String| Failure::new(Class::Local, Step::Directory, why);
        let uri = config.directory.parse::<Uri>();
        let uri = uri.map_err(|e| local(format!("directory {:?}: {e}", config.directory)))?;
        http::check_address(&uri).map_err(local)?;
        let roots = config.roots.clone();
        // Reading the system's roots takes milliseconds of file access.
        let tls = tokio::task::spawn_blocking(move || roots::tls_client(roots.as_deref())).await;
        let tls = tls.map_err(|e| local(e.to_string()))?.map_err(local)?;
        let http = Http::new(tls, config.limits.clone(), Meter::new(listener));
        let answer = http.get(&config.directory).await;
        let (_, body) = answer.map_err(|fault| Failure::from_fault(Step::Directory, fault))?;
        let read = directory::read(&body)
            .map_err(|why| Failure::new(Class::Unavailable, Step::Directory, why))?;
        http.meter.learn(&read.addresses);
        Ok(Ca {
            inner: Arc::new(Inner {
                http,
                url: config.directory.clone(),
                uri,
                limits: config.limits.clone(),
                directory: read.directory,
                renewal_info: read.renewal_info,
                addresses: read.addresses,
            }),
        })
    }

    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The address of the directory, as configured.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The CA's clock minus ours, in seconds, by its newest answer. More than minutes: ours is
    /// wrong, or the answer was cached on its way.
    pub fn clock_skew(&self) -> Option<i64> {
        self.inner.http.skew()
    }

    fn http(&self) -> &Http {
        &self.inner.http
    }

    fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn renewal_info_url(&self) -> Option<&str> {
        self.inner.renewal_info.as_deref()
    }

    fn builder(&self) -> instant_acme::AccountBuilder {
        instant_acme::Account::builder_with_http(Box::new(Transport {
            http: self.inner.http.clone(),
            directory_url: self.inner.uri.clone(),
            directory: self.inner.addresses.clone(),
        }))
    }
}

impl CaConfig {
    /// With the roots of the system and the usual limits.
    pub fn new(directory: impl Into<String>) -> CaConfig {
        CaConfig { directory: directory.into(), roots: None, limits: Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            body: 1024 * 1024,
            poll: Duration::from_secs(1),
            validation: Duration::from_secs(180),
            issuance: Duration::from_secs(180),
        }
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

/// Runs one step until the CA takes its nonce, at most [`NONCE_TRIES`] times: a refused nonce
/// means that nothing was done (RFC 8555 §6.5). A macro, since a generic function cannot say
/// that the future of a borrowing closure is `Send`.
macro_rules! patiently {
    ($step:expr, $call:expr) => {{
        let mut tries = 0;
        loop {
            match $call.await {
                Ok(value) => break Ok(value),
                Err(error) => {
                    let failure = $crate::ca::Failure::from_acme($step, error);
                    tries += 1;
                    if !failure.is("badNonce") || tries >= $crate::ca::NONCE_TRIES {
                        break Err(failure);
                    }
                }
            }
        }
    }};
}
use patiently;

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_send<T: Send>(_: T) {}

    /// The keeper spawns them.
    #[test]
    fn every_future_is_send() {
        fn check(
            ca: &Ca,
            account: &Account,
            order: &mut Order,
            stored: &StoredAccount,
            id: &CertId,
        ) {
            assert_send(Ca::connect(&CaConfig::new("")));
            assert_send(ca.register(None, None));
            assert_send(ca.restore(stored));
            assert_send(ca.renewal_info(id));
            assert_send(account.order(&OrderRequest::default()));
            assert_send(account.resume(""));
            assert_send(account.revoke(b"", Revocation::Unspecified));
            assert_send(order.refresh());
            assert_send(order.authorizations());
            assert_send(order.begin("", ChallengeKind::Http01));
            assert_send(order.validated(Duration::ZERO));
            assert_send(order.finalize(b""));
            assert_send(order.certificate(Duration::ZERO));
            assert_send(order.abandon());
        }
        let _ = check;
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_our_mistake() {
        for directory in ["", "acme.openclaw.example", "http://192.0.2.1/dir", "ht tp://x/"] {
            let failure = Ca::connect(&CaConfig::new(directory)).await.unwrap_err();
            assert_eq!((failure.class, failure.step), (Class::Local, Step::Directory));
        }
        let mut config = CaConfig::new("https://127.0.0.1:1/dir");
        config.roots = Some("/nowhere.pem".into());
        let failure = Ca::connect(&config).await.unwrap_err();
        assert_eq!(failure.class, Class::Local);
        assert!(failure.detail.contains("/nowhere.pem"), "{failure}");
    }
}
