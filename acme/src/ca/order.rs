//! One order (RFC 8555 §7.1.3), from its making to the certificate.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::{
    AuthorizationState, AuthorizationStatus, Challenge, ChallengeStatus, ChallengeType, OrderStatus,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::account::Account;
use super::failure::{Class, Failure, Step};
use super::problem::Problem;
use super::request::{Ask, OrderRequest};
use super::{Ca, patiently};

/// A conversation about one certificate. Whoever holds its [`url`](Order::url) can take it up
/// again after a crash, with [`Account::resume`].
pub struct Order {
    pub(super) inner: instant_acme::Order,
    pub(super) ca: Ca,
    pub(super) status: OrderStatus,
    thumbprint: String,
    replaced: bool,
    warnings: Vec<String>,
}

/// One name to be proven, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// With its `*.`, if it is a wildcard.
    pub name: String,
    /// Valid already when the CA still remembers an earlier proof: nothing is to be done.
    pub status: AuthorizationStatus,
    pub http01: Option<Offer>,
    pub tls_alpn01: Option<Offer>,
}

/// What to show the CA for one challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// Letters, digits, `-` and `_` only.
    pub token: String,
    /// `token.thumbprint`: the body for HTTP-01 (RFC 8555 §8.3).
    pub key_authorization: String,
    /// SHA-256 of it: for TLS-ALPN-01 (RFC 8737 §3).
    pub alpn_digest: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    Http01,
    TlsAlpn01,
}

impl Account {
    /// A new order. `replaces` and the profile are given up rather than the order:
    /// see [`Order::replaced`] and [`Order::warnings`].
    pub async fn order(&self, request: &OrderRequest) -> Result<Order, Failure> {
        let mut ask = Ask::new(request, self.ca.directory())?;
        loop {
            let order = ask.order();
            let answer = patiently!(Step::NewOrder, self.inner.new_order(&order));
            match answer {
                Ok(inner) => {
                    let replaced = ask.replaces.is_some();
                    return Ok(Order { replaced, warnings: ask.warnings, ..self.wrap(inner) });
                }
                Err(failure) if ask.concede(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// An order of this account that was made earlier, in whatever state it is by now.
    pub async fn resume(&self, url: &str) -> Result<Order, Failure> {
        let inner = patiently!(Step::Resume, self.inner.order(url.to_owned()))?;
        Ok(self.wrap(inner))
    }

    fn wrap(&self, mut inner: instant_acme::Order) -> Order {
        Order {
            status: inner.state().status,
            inner,
            ca: self.ca.clone(),
            thumbprint: self.thumbprint().to_owned(),
            replaced: false,
            warnings: Vec::new(),
        }
    }
}

impl Order {
    pub fn url(&self) -> &str {
        self.inner.url()
    }

    /// By the CA's last word on it.
    pub fn status(&self) -> OrderStatus {
        self.status
    }

    /// The CA took it as the follower of the certificate named in the request. Not known of a
    /// resumed order: false.
    pub fn replaced(&self) -> bool {
        self.replaced
    }

    /// What was asked for and given up.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub async fn refresh(&mut self) -> Result<OrderStatus, Failure> {
        self.refresh_in(Step::Resume).await
    }

    pub(super) async fn refresh_in(&mut self, step: Step) -> Result<OrderStatus, Failure> {
        let inner = &mut self.inner;
        self.status = patiently!(step, async { inner.refresh().await.map(|state| state.status) })?;
        Ok(self.status)
    }

    /// Asked once and remembered until the order is refreshed.
    pub async fn authorizations(&mut self) -> Result<Vec<Authorization>, Failure> {
        let inner = &mut self.inner;
        patiently!(Step::Authorize, read_authorizations(inner, &self.thumbprint))
    }

    /// Tells the CA that the challenge can be looked at: what it will see must be in place
    /// before. Nothing happens for a name that is proven, or being looked at, already.
    pub async fn begin(&mut self, name: &str, kind: ChallengeKind) -> Result<(), Failure> {
        let inner = &mut self.inner;
        match patiently!(Step::Validate, begin(inner, name, kind)) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = format!("the CA does not offer {kind} for it");
                Err(Failure::new(Class::Refused, Step::Validate, why).about(name))
            }
            Err(failure) => Err(failure.about(name)),
        }
    }

    /// Hands in the certificate signing request. An order that has one already is left alone.
    pub async fn finalize(&mut self, csr_der: &[u8]) -> Result<(), Failure> {
        if matches!(self.status, OrderStatus::Processing | OrderStatus::Valid) {
            return Ok(());
        }
        let inner = &mut self.inner;
        match patiently!(Step::Finalize, inner.finalize_csr(csr_der)) {
            Ok(()) => self.status = self.inner.state().status,
            // Somebody was faster, or the CA's servers do not agree yet: the order tells.
            Err(failure) if failure.is("orderNotReady") => {
                match self.refresh_in(Step::Finalize).await? {
                    OrderStatus::Processing | OrderStatus::Valid => {}
                    OrderStatus::Invalid => return Err(self.rejected(Step::Finalize)),
                    OrderStatus::Pending | OrderStatus::Ready => return Err(failure),
                }
            }
            Err(failure) => return Err(failure),
        }
        match self.status {
            OrderStatus::Invalid => Err(self.rejected(Step::Finalize)),
            _ => Ok(()),
        }
    }

    /// The PEM chain, leaf first, as soon as the CA has it; waits at most `limit`.
    pub async fn certificate(&mut self, limit: Duration) -> Result<String, Failure> {
        let step = Step::Download;
        let mut pause = self.pause(limit);
        while self.status != OrderStatus::Valid {
            if self.status == OrderStatus::Invalid {
                return Err(self.rejected(step));
            }
            match self.refresh_in(step).await {
                Ok(OrderStatus::Valid | OrderStatus::Invalid) => continue,
                Ok(_) => {}
                Err(failure) if pause.may_follow(&failure) => {}
                Err(failure) => return Err(failure),
            }
            if !pause.wait().await {
                let why = format!("the CA has not issued it within {} s", limit.as_secs());
                return Err(Failure::new(Class::Unavailable, step, why));
            }
        }
        let inner = &mut self.inner;
        let pem = patiently!(step, inner.certificate())?.unwrap_or_default();
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        match certificates.collect::<Result<Vec<_>, _>>() {
            Ok(chain) if !chain.is_empty() => Ok(pem),
            _ => Err(Failure::new(Class::Unavailable, step, "the answer is not a PEM chain")),
        }
    }

    /// Gives back the authorizations that nobody has answered: CAs limit how many are pending,
    /// and keep them for days. Best effort; takes at most as long as one request may.
    pub async fn abandon(&mut self) {
        let limit = self.ca.limits().request;
        let inner = &mut self.inner;
        let given_back = async { patiently!(Step::Authorize, deactivate_pending(inner)) };
        match tokio::time::timeout(limit, given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::debug!(%failure, "an order is left as it is"),
            Err(_) => tracing::debug!("an order is left as it is: no answer in time"),
        }
    }

    /// Of an order that is invalid: the CA's reason, if it gave one.
    pub(super) fn rejected(&mut self, step: Step) -> Failure {
        match self.inner.state().error.clone() {
            Some(problem) => {
                let mut failure = Failure::from_problem(step, Problem::from(problem), None, None);
                if matches!(failure.class, Class::Unavailable) {
                    // Trying this order again will not help, whatever the reason.
                    failure.class = Class::OrderGone;
                }
                failure
            }
            None => Failure::new(Class::OrderGone, step, "the CA has given the order up"),
        }
    }
}

async fn read_authorizations(
    order: &mut instant_acme::Order,
    thumbprint: &str,
) -> Result<Vec<Authorization>, instant_acme::Error> {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(handle) = authorizations.next().await {
        let handle = handle?;
        found.push(Authorization {
            name: handle.identifier().to_string(),
            status: handle.status,
            http01: offer(&handle, ChallengeKind::Http01, thumbprint),
            tls_alpn01: offer(&handle, ChallengeKind::TlsAlpn01, thumbprint),
        });
    }
    Ok(found)
}

/// A token that is none (RFC 8555 §8.3: base64url) would end up in paths: not offered.
fn offer(state: &AuthorizationState, kind: ChallengeKind, thumbprint: &str) -> Option<Offer> {
    let kind = kind.to_acme();
    let token = state.challenges.iter().find(|challenge| challenge.r#type == kind)?.token.clone();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if token.is_empty() || !token.bytes().all(plain) {
        return None;
    }
    let key_authorization = format!("{token}.{thumbprint}");
    let digest = digest(&SHA256, key_authorization.as_bytes());
    let alpn_digest = digest.as_ref().try_into().ok()?;
    Some(Offer { token, key_authorization, alpn_digest })
}

/// False: no such challenge.
async fn begin(
    order: &mut instant_acme::Order,
    name: &str,
    kind: ChallengeKind,
) -> Result<bool, instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(handle) = authorizations.next().await {
        let mut handle = handle?;
        if handle.identifier().to_string() != name {
            continue;
        }
        if handle.status == AuthorizationStatus::Valid {
            return Ok(true);
        }
        let Some(mut challenge) = handle.challenge(kind.to_acme()) else { return Ok(false) };
        if challenge.status == ChallengeStatus::Pending {
            challenge.set_ready().await?;
        }
        return Ok(true);
    }
    Ok(false)
}

async fn deactivate_pending(order: &mut instant_acme::Order) -> Result<(), instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(handle) = authorizations.next().await {
        let mut handle = handle?;
        // What the CA is looking at comes to an end by itself, and Pebble locks itself up for ever
        // when it is told otherwise meanwhile.
        let looked_at = |challenge: &Challenge| challenge.status == ChallengeStatus::Processing;
        let ends = handle.challenges.iter().any(looked_at);
        if handle.status == AuthorizationStatus::Pending && !ends {
            handle.deactivate().await?;
        }
    }
    Ok(())
}

impl ChallengeKind {
    fn to_acme(self) -> ChallengeType {
        match self {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChallengeKind::Http01 => "http-01",
            ChallengeKind::TlsAlpn01 => "tls-alpn-01",
        })
    }
}

/// The token is no secret once the CA has looked, but it need not be in logs before.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("url", &self.url())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_has_a_token_that_can_be_a_path() {
        let state = |token: &str| -> AuthorizationState {
            serde_json::from_value(serde_json::json!({
                "status": "pending", "identifier": { "type": "dns", "value": "a.example" },
                "challenges": [
                    { "type": "dns-persist-01", "url": "https://ca/2", "status": "pending" },
                    { "type": "http-01", "url": "https://ca/1", "status": "pending", "token": token },
                ],
            }))
            .unwrap()
        };
        let found = offer(&state("abc-_9"), ChallengeKind::Http01, "thumb").unwrap();
        assert_eq!(
            (found.token.as_str(), found.key_authorization.as_str()),
            ("abc-_9", "abc-_9.thumb")
        );
        assert!(!format!("{found:?}").contains("abc"));
        assert_eq!(offer(&state("abc"), ChallengeKind::TlsAlpn01, "thumb"), None);
        for token in ["", "../x", "a/b", "a b", "a.b", "é"] {
            assert_eq!(offer(&state(token), ChallengeKind::Http01, "thumb"), None, "{token:?}");
        }
    }

    /// The key authorization of RFC 8555 §8.1 and its SHA-256, by another implementation.
    #[test]
    fn the_digest_is_that_of_the_key_authorization() {
        let state: AuthorizationState = serde_json::from_value(serde_json::json!({
            "status": "pending", "identifier": { "type": "dns", "value": "a.example" },
            "challenges": [{ "type": "tls-alpn-01", "url": "x", "status": "pending", "token": "a" }],
        }))
        .unwrap();
        let found = offer(&state, ChallengeKind::TlsAlpn01, "b").unwrap();
        let hex: String = found.alpn_digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "2e7336dc8eba87ef472df568c35482abf2575dc3e5eac0c5c62b8ffaeac2c934");
    }
}
