//! One order from `newOrder` to a certificate that may be served. Every step can be the last one:
//! what the next start needs is on disk before the CA is asked.

use std::sync::Arc;
use std::time::Duration;

use super::key::{NewKey, csr_der};
use super::session::Session;
use super::verify::{Unusable, verified};
use super::view::alarming;
use super::wanted::{Issuer, KeyKind, ordered_as};
use crate::ca::{
    AuthStatus, CertId, ChallengeKind, Class, Failure, Limits, Offer, Order, OrderRequest,
    OrderStatus, Step,
};
use crate::challenge::{Challenges, alpn_certificate};
use crate::store::{Issuance, PendingOrder, Store, Stored};

/// What one task is to bring home.
pub struct Errand {
    pub store: Arc<Store>,
    pub challenges: Arc<Challenges>,
    pub session: Session,
    pub directory: String,
    pub challenge: ChallengeKind,
    pub limits: Limits,
    /// The wanted set, under which files are kept.
    pub set: Vec<String>,
    /// The names to order: the set, or the part of it that can be validated now.
    pub names: Vec<String>,
    pub profile: Option<String>,
    pub key: KeyKind,
    pub replaces: Option<CertId>,
    pub renewal: bool,
    /// An order that an earlier run has placed.
    pub pending: Option<PendingOrder>,
    /// Unix seconds at the start, by the clock that was believed then.
    pub now: i64,
    /// How far it was ahead of this machine's.
    pub skew: i64,
}

impl Errand {
    /// The start by the clock that is believed now: the CA has told its time since.
    fn begun_at(&self) -> i64 {
        let skew = self.session.ca.clock_skew().and_then(alarming).unwrap_or(0);
        self.now.saturating_sub(self.skew).saturating_add(skew)
    }
}

/// Ends with a verified certificate that is not stored yet, or with why not: one failure, or one
/// for each name that could not be validated.
pub async fn bring_home(errand: Errand) -> Result<Stored, Vec<Failure>> {
    match tokio::time::timeout(ORDER_LIMIT, steps(&errand)).await {
        Ok(done) => done,
        Err(_) => {
            let text = "the order was not finished within 10 minutes";
            Err(vec![Failure::new(Class::Unavailable, Step::Validate, text)])
        }
    }
}

async fn steps(errand: &Errand) -> Result<Stored, Vec<Failure>> {
    let (mut order, pending) = match &errand.pending {
        Some(pending) => (resume(errand, pending).await?, pending.clone()),
        None => place(errand).await?,
    };
    if order.status() == OrderStatus::Pending
        && let Err(failures) =
            validate(&mut order, errand.challenge, &errand.limits, &errand.challenges).await
    {
        if failures.iter().all(|failure| ends_order(failure.class)) {
            order.abandon().await;
        }
        return Err(failures);
    }
    if order.status() == OrderStatus::Ready {
        let csr = csr_der(&pending.csr).map_err(|why| local(Step::Finalize, &why))?;
        order.finalize(&csr).await.map_err(one)?;
    }
    let chain = match order.certificate(errand.limits.issuance).await {
        Ok(chain) => chain,
        Err(failure) => {
            let issued = order.status() == OrderStatus::Valid;
            return Err(one(if issued { spent(failure) } else { failure }));
        }
    };
    let (by, ordered_as) = (errand.directory.as_str(), pending.ordered_as.as_str());
    let issuance = Issuance { by, at: errand.begun_at(), ordered_as };
    verified(&issuance, &chain, &pending.key_pem, &pending.names).map_err(|unusable| {
        let (why, for_now) = match unusable {
            Unusable::Spent(why) => (why, false),
            Unusable::Now(why) => (why.to_owned(), true),
        };
        // A clock is wrong: where two differ the order is kept until they agree, else for a day.
        let by_ours = Issuance { at: errand.now.saturating_sub(errand.skew), ..issuance };
        let doubtful = || verified(&by_ours, &chain, &pending.key_pem, &pending.names).is_ok();
        let young = errand.begun_at().abs_diff(pending.placed_at) < KEPT_FOR;
        let step = if for_now && (young || doubtful()) { Step::Resume } else { Step::Download };
        vec![Failure::new(Class::Local, step, why)]
    })
}

/// The CA has issued the certificate and will not give it out.
fn spent(failure: Failure) -> Failure {
    match failure.class {
        Class::Validation | Class::Refused | Class::OrderGone => {
            Failure { class: Class::Local, ..failure }
        }
        _ => failure,
    }
}

/// Whether a certificate was issued and is of no use: the order has nothing else to give.
pub fn is_spent(failure: &Failure) -> bool {
    failure.step == Step::Download && failure.class == Class::Local
}

/// Whether an order is of no use after a failure of this class: what it needs is a new one.
pub fn ends_order(class: Class) -> bool {
    matches!(class, Class::Validation | Class::Refused | Class::OrderGone | Class::AccountGone)
}

/// Validates these names at another directory, without asking for a certificate.
pub async fn dry_run(
    session: &Session,
    names: &[String],
    issuer: &Issuer,
    challenges: &Arc<Challenges>,
) -> Result<(), Vec<Failure>> {
    let request = OrderRequest { names: names.to_vec(), profile: None, replaces: None };
    let steps = async {
        let mut order = session.account.order(&request).await.map_err(one)?;
        if order.status() != OrderStatus::Pending {
            return Ok(());
        }
        let validated = validate(&mut order, issuer.challenge, &issuer.ca.limits, challenges).await;
        order.abandon().await;
        validated
    };
    match tokio::time::timeout(ORDER_LIMIT, steps).await {
        Ok(done) => done,
        Err(_) => Err(vec![Failure::new(
            Class::Unavailable,
            Step::Validate,
            "no answer within 10 minutes",
        )]),
    }
}

async fn resume(errand: &Errand, pending: &PendingOrder) -> Result<Order, Vec<Failure>> {
    let order = errand.session.account.resume(&pending.url).await.map_err(one)?;
    if order.status() == OrderStatus::Invalid {
        return Err(vec![Failure::new(
            Class::OrderGone,
            Step::Resume,
            "the CA has given up the order",
        )]);
    }
    tracing::info!("goes on with order {}", pending.url);
    Ok(order)
}

/// Key and request first, then the order, then both on disk: only an order whose key is kept is
/// ever finalized.
async fn place(errand: &Errand) -> Result<(Order, PendingOrder), Vec<Failure>> {
    let (kind, names) = (errand.key, errand.names.clone());
    let made = tokio::task::spawn_blocking(move || NewKey::make(kind, &names)).await;
    let new = match made {
        Ok(made) => made.map_err(|why| local(Step::NewOrder, &why))?,
        Err(why) => return Err(vec![Failure::new(Class::Local, Step::NewOrder, why)]),
    };
    let request = OrderRequest {
        names: errand.names.clone(),
        profile: errand.profile.clone(),
        replaces: errand.replaces.clone(),
    };
    let mut order = errand.session.account.order(&request).await.map_err(one)?;
    for warning in order.warnings() {
        tracing::warn!("{}: {warning}", errand.directory);
    }
    let pending = PendingOrder {
        url: order.url().to_owned(),
        directory: errand.directory.clone(),
        names: errand.names.clone(),
        key_pem: new.pem,
        csr: new.csr,
        placed_at: errand.begun_at(),
        renewal: errand.renewal,
        ordered_as: ordered_as(errand.key, errand.profile.as_deref()),
    };
    if let Err(why) = errand.store.put_order(&errand.set, &pending) {
        order.abandon().await;
        return Err(local(Step::NewOrder, &why));
    }
    Ok((order, pending))
}

/// Shows the CA what it wants to see, and waits for its verdict on every name.
async fn validate(
    order: &mut Order,
    kind: ChallengeKind,
    limits: &Limits,
    challenges: &Arc<Challenges>,
) -> Result<(), Vec<Failure>> {
    let authorizations = order.authorizations().await.map_err(one)?;
    let mut planted = Planted { challenges: challenges.clone(), kind, hosts: Vec::new() };
    for authorization in authorizations {
        if authorization.status != AuthStatus::Pending {
            continue;
        }
        let name = &authorization.name;
        let offer = match kind {
            ChallengeKind::Http01 => authorization.http01.as_ref(),
            ChallengeKind::TlsAlpn01 => authorization.tls_alpn01.as_ref(),
        };
        let Some(offer) = offer else {
            let why = format!("the CA does not offer {kind} for {name}");
            return Err(vec![Failure::new(Class::Refused, Step::Validate, why)]);
        };
        planted.plant(name, offer).map_err(|why| local(Step::Validate, &why))?;
        order.begin(name, kind).await.map_err(one)?;
    }
    order.validated(limits.validation).await
}

/// Answers that are taken back when the CA has seen them, or when the order is given up.
struct Planted {
    challenges: Arc<Challenges>,
    kind: ChallengeKind,
    hosts: Vec<(String, String)>,
}

impl Planted {
    fn plant(&mut self, host: &str, offer: &Offer) -> Result<(), Box<dyn std::error::Error>> {
        match self.kind {
            ChallengeKind::Http01 => {
                self.challenges.offer(host, &offer.token, &offer.key_authorization)?;
            }
            ChallengeKind::TlsAlpn01 => {
                let certificate = alpn_certificate(host, offer.alpn_digest)?;
                self.challenges.offer_alpn(host, Arc::new(certificate))?;
            }
        }
        self.hosts.push((host.to_owned(), offer.token.clone()));
        Ok(())
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        for (host, token) in &self.hosts {
            match self.kind {
                ChallengeKind::Http01 => self.challenges.done(host, token),
                ChallengeKind::TlsAlpn01 => self.challenges.done_alpn(host),
            }
        }
    }
}

fn one(failure: Failure) -> Vec<Failure> {
    vec![failure]
}

fn local(step: Step, why: &dyn std::fmt::Display) -> Vec<Failure> {
    vec![Failure::new(Class::Local, step, why)]
}

/// Seconds.
const KEPT_FOR: u64 = 24 * 3600;
const ORDER_LIMIT: Duration = Duration::from_secs(600);
