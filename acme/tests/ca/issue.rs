//! From registering to revoking, at Pebble.

use std::time::Duration;

use acme::ca::{
    Account, AuthStatus, Ca, CertId, ChallengeKind, Class, Eab, Order, OrderRequest, OrderStatus,
    Revocation, Step, StoredAccount,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::pebble::{BLOCKED, EAB_KEY, EAB_KEY_ID, Pebble, Setup};

const APP: &str = "app.openclaw.example";
const API: &str = "api.openclaw.example";
const LIMIT: Duration = Duration::from_secs(20);

fn request(names: &[&str]) -> OrderRequest {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    OrderRequest { names, ..OrderRequest::default() }
}

fn csr(names: &[&str], key: &KeyPair) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

async fn account(ca: &Ca) -> Account {
    ca.register(None, None).await.unwrap().0
}

/// Offers and begins the HTTP-01 challenge of every name but `left_out`.
async fn prove(pebble: &Pebble, order: &mut Order, left_out: &[&str]) {
    for authorization in order.authorizations().await.unwrap() {
        let offer = authorization.http01.expect("http-01 is offered");
        if !left_out.contains(&authorization.name.as_str()) {
            pebble.responder.offer(&offer);
        }
        order.begin(&authorization.name, ChallengeKind::Http01).await.unwrap();
    }
}

#[tokio::test]
async fn two_names_end_to_end_and_revoked() {
    let pebble = Pebble::start(Setup::default()).await;
    let ca = pebble.connect().await;
    assert!(ca.directory().terms_of_service.is_some());
    assert!(!ca.directory().renewal_info);
    let (account, stored) = ca.register(Some("ops@openclaw.example"), None).await.unwrap();
    assert_eq!(account.warning(), None);
    assert_eq!(stored.contact.as_deref(), Some("mailto:ops@openclaw.example"));
    assert_eq!(stored.thumbprint, account.thumbprint());

    let mut wanted = request(&[APP, API]);
    wanted.profile = Some("shortlived".to_owned());
    wanted.replaces = CertId::parse("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    let mut order = account.order(&wanted).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Pending);
    assert!(!order.replaced(), "Pebble 2.4 has no renewal information");
    assert!(order.warnings()[0].contains("shortlived"), "{:?}", order.warnings());

    let authorizations = order.authorizations().await.unwrap();
    let mut names: Vec<&str> = authorizations.iter().map(|a| a.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [API, APP]);
    for authorization in &authorizations {
        assert_eq!(authorization.status, AuthStatus::Pending);
        let offer = authorization.tls_alpn01.as_ref().unwrap();
        assert_eq!(offer.key_authorization, format!("{}.{}", offer.token, account.thumbprint()));
    }
    // Given up in the middle of a request: the next one works all the same.
    let _ = tokio::time::timeout(Duration::from_micros(50), order.refresh()).await;
    prove(&pebble, &mut order, &[]).await;
    order.validated(LIMIT).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Ready);
    let key = KeyPair::generate().unwrap();
    order.finalize(&csr(&[APP, API], &key)).await.unwrap();
    let pem = order.certificate(LIMIT).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Valid);

    let issued =
        acme::Certificate::from_pem("issued", pem.as_bytes(), key.serialize_pem().as_bytes())
            .unwrap();
    let mut names = issued.names.clone();
    names.sort();
    assert_eq!(names, [API, APP]);
    assert!(issued.chain.len() >= 2);
    assert!(CertId::of(&issued.chain[0]).is_some());

    account.revoke(&issued.chain[0], Revocation::Superseded).await.unwrap();
    account.revoke(&issued.chain[0], Revocation::Superseded).await.expect("once is enough");
    let refused = account.revoke(b"no certificate", Revocation::Unspecified).await.unwrap_err();
    assert_eq!((refused.class, refused.step), (Class::Refused, Step::Revoke));
}

#[tokio::test]
async fn an_order_is_taken_up_between_finalize_and_download() {
    let pebble = Pebble::start(Setup::default()).await;
    let ca = pebble.connect().await;
    let (account, stored) = ca.register(None, None).await.unwrap();
    let mut order = account.order(&request(&[APP])).await.unwrap();
    prove(&pebble, &mut order, &[]).await;
    order.validated(LIMIT).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = csr(&[APP], &key);

    let mut second = account.resume(order.url()).await.unwrap();
    assert_eq!(second.status(), OrderStatus::Ready);
    order.finalize(&csr).await.unwrap();
    second.finalize(&csr).await.expect("the CA says orderNotReady, the order says it is done");

    let url = order.url().to_owned();
    let on_disk = serde_json::to_vec(&stored).unwrap();
    drop((order, second, account, ca));
    let stored: StoredAccount = serde_json::from_slice(&on_disk).unwrap();
    let account = pebble.connect().await.restore(&stored).await.unwrap();
    assert_eq!(account.thumbprint(), stored.thumbprint);
    let mut order = account.resume(&url).await.unwrap();
    order.validated(LIMIT).await.expect("it is past that");
    order.finalize(b"is not looked at").await.expect("it has one");
    let pem = order.certificate(LIMIT).await.unwrap();
    acme::Certificate::from_pem("issued", pem.as_bytes(), key.serialize_pem().as_bytes())
        .expect("the key of before");

    let mut again = account.resume(&url).await.unwrap();
    assert_eq!(again.status(), OrderStatus::Valid);
    assert_eq!(again.certificate(LIMIT).await.unwrap(), pem);
    let gone = account.resume(&format!("{url}0")).await.unwrap_err();
    assert_eq!((gone.class, gone.step), (Class::OrderGone, Step::Resume));
}

#[tokio::test]
async fn each_failed_name_is_told_with_its_reason() {
    let pebble = Pebble::start(Setup::default()).await;
    let account = account(&pebble.connect().await).await;
    pebble.break_dns(API);
    for (name, kind, words) in
        [(APP, "unauthorized", "404"), (API, "connection", "could not resolve")]
    {
        let mut order = account.order(&request(&[name])).await.unwrap();
        prove(&pebble, &mut order, &[name]).await;
        let failures = order.validated(LIMIT).await.unwrap_err();
        assert_eq!(failures.len(), 1, "{failures:?}");
        let failure = &failures[0];
        assert_eq!((failure.class, failure.step), (Class::Validation, Step::Validate));
        assert_eq!(failure.name.as_deref(), Some(name));
        assert_eq!(failure.kind(), Some(kind), "{failure}");
        assert!(failure.detail.contains(words), "{failure}");
        let sentence = failure.to_string();
        assert!(sentence.starts_with(&format!("validation for {name} failed: ")), "{sentence}");
        let rejected = order.finalize(b"").await.unwrap_err();
        assert_eq!((rejected.step, rejected.kind()), (Step::Finalize, Some(kind)), "{rejected}");
    }
    // One bad name of two: the good one is not blamed.
    let mut order = account.order(&request(&[APP, "nango.openclaw.example"])).await.unwrap();
    prove(&pebble, &mut order, &[APP]).await;
    let failures = order.validated(LIMIT).await.unwrap_err();
    let blamed: Vec<_> = failures.iter().map(|failure| failure.name.as_deref()).collect();
    assert_eq!(blamed, [Some(APP)]);
}

#[tokio::test]
async fn a_challenge_nobody_looks_at_is_late_and_can_be_given_back() {
    let pebble = Pebble::start(Setup::default()).await;
    let account = account(&pebble.connect().await).await;
    let mut order = account.order(&request(&[APP, API])).await.unwrap();
    let late = order.validated(Duration::from_millis(120)).await.unwrap_err();
    let mut names: Vec<_> = late.iter().filter_map(|failure| failure.name.clone()).collect();
    names.sort();
    assert_eq!(names, [API, APP]);
    assert!(late.iter().all(|failure| failure.class == Class::Unavailable), "{late:?}");
    let missing = order.begin("other.openclaw.example", ChallengeKind::Http01).await.unwrap_err();
    assert_eq!(missing.class, Class::Refused);

    order.abandon().await;
    let authorizations = order.authorizations().await.unwrap();
    assert!(authorizations.iter().all(|a| a.status == AuthStatus::Deactivated));
    let gone = order.validated(Duration::from_millis(120)).await.unwrap_err();
    // Pebble calls the order "deactivated", which RFC 8555 does not know.
    assert_eq!((gone.len(), gone[0].class), (1, Class::OrderGone), "{gone:?}");
    let gone = account.resume(order.url()).await.unwrap_err();
    assert_eq!(gone.class, Class::OrderGone, "{gone}");
}

#[tokio::test]
async fn a_blocked_domain_is_refused() {
    let pebble = Pebble::start(Setup::default()).await;
    let account = account(&pebble.connect().await).await;
    let refused = account.order(&request(&[APP, BLOCKED])).await.unwrap_err();
    assert_eq!((refused.class, refused.step), (Class::Refused, Step::NewOrder));
    assert_eq!(refused.kind(), Some("rejectedIdentifier"));
    assert!(refused.detail.contains(BLOCKED), "{refused}");
    let nothing = account.order(&request(&[])).await.unwrap_err();
    assert_eq!(nothing.class, Class::Local);
}

#[tokio::test]
async fn a_contact_that_is_refused_is_left_out() {
    let pebble = Pebble::start(Setup::default()).await;
    let ca = pebble.connect().await;
    let (account, stored) = ca.register(Some("tel:+1-555-0100"), None).await.unwrap();
    assert_eq!(stored.contact, None);
    assert!(account.warning().unwrap().contains("without a contact"), "{:?}", account.warning());
}

#[tokio::test]
async fn a_third_of_the_nonces_refused() {
    let pebble = Pebble::start(Setup { nonce_reject: 30, ..Setup::default() }).await;
    let account = account(&pebble.connect().await).await;
    for round in 0..3 {
        let name = format!("n{round}.openclaw.example");
        let mut order = account.order(&request(&[&name, API])).await.unwrap();
        prove(&pebble, &mut order, &[]).await;
        order.validated(LIMIT).await.unwrap();
        let key = KeyPair::generate().unwrap();
        order.finalize(&csr(&[&name, API], &key)).await.unwrap();
        let pem = order.certificate(LIMIT).await.unwrap();
        assert!(CertificateDer::pem_slice_iter(pem.as_bytes()).count() >= 2);
    }
}

#[tokio::test]
async fn customers_only() {
    let pebble = Pebble::start(Setup { eab_required: true, ..Setup::default() }).await;
    let ca = pebble.connect().await;
    assert!(ca.directory().external_account_required);
    let missing = ca.register(None, None).await.unwrap_err();
    assert_eq!(missing.class, Class::Refused);
    assert_eq!(missing.kind(), Some("externalAccountRequired"));
    let mut eab = Eab { key_id: EAB_KEY_ID.to_owned(), hmac_key: b"another key".to_vec() };
    let wrong = ca.register(None, Some(&eab)).await.unwrap_err();
    assert_eq!((wrong.class, wrong.step), (Class::Refused, Step::Register), "{wrong}");
    eab.hmac_key = EAB_KEY.to_vec();
    let (account, stored) = ca.register(None, Some(&eab)).await.unwrap();
    assert!(account.url().starts_with("https://localhost:"));
    let restored = ca.restore(&stored).await.unwrap();
    assert_eq!(restored.url(), account.url());
    restored.order(&request(&[APP])).await.expect("the binding is not needed again");
}

#[tokio::test]
async fn a_ca_that_forgot_the_account_says_so() {
    let mut pebble = Pebble::start(Setup::default()).await;
    let ca = pebble.connect().await;
    let (account, stored) = ca.register(None, None).await.unwrap();
    let order = account.order(&request(&[APP])).await.unwrap();
    pebble.restart().await;
    for failure in [
        account.order(&request(&[APP])).await.unwrap_err(),
        account.resume(order.url()).await.unwrap_err(),
        ca.restore(&stored).await.unwrap().order(&request(&[APP])).await.unwrap_err(),
    ] {
        assert_eq!(failure.class, Class::AccountGone, "{failure}");
    }
    let (account, _) = ca.register(None, None).await.unwrap();
    account.order(&request(&[APP])).await.expect("registered again");

    let mut elsewhere = stored.clone();
    elsewhere.directory = "https://ca.openclaw.example/dir".to_owned();
    assert_eq!(ca.restore(&elsewhere).await.unwrap_err().class, Class::Local);
}
