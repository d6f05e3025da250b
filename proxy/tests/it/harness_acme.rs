//! The authorities of the harness against themselves: each issues to a plain client, and does what
//! it is told to do wrong.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Error, ExternalAccountKey, Identifier,
    NewOrder, OrderStatus, RetryPolicy, RevocationReason, RevocationRequest,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::harness::acme::client::{Responder, issue, order, register};
use crate::harness::acme::mock_ca::{
    Answer, Endpoint, Fault, Problem, Replaces, Validation, http_date,
};
use crate::harness::acme::pebble::Options;
use crate::harness::acme::{Caddy, MockCa, Pebble, Port, SmallDisk};
use crate::harness::{Client, Edge, Lab, wait_until};

const APP: &str = "app.openclaw.example";
const API: &str = "api.openclaw.example";

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The problem's type without its prefix.
#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Api(problem)) => {
            let kind = problem.r#type.unwrap_or_default();
            kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&kind).to_owned()
        }
        other => panic!("no problem document: {other:?}"),
    }
}

/// The chain is good for these names, by this root, for this many seconds.
#[track_caller]
fn assert_issued(chain: &str, root: &CertificateDer<'_>, names: &[&str], lifetime: i64) {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone().into_owned()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
    for name in names {
        let name = (*name).to_owned().try_into().unwrap();
        let now = UnixTime::now();
        use rustls::client::danger::ServerCertVerifier;
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).unwrap();
    }
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let validity = leaf.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert!((life - lifetime).abs() <= 1, "lives {life} s, not {lifetime} s");
}

async fn account(ca: &MockCa) -> Account {
    register(&ca.directory(), None, None).await.unwrap()
}

// === mock CA ===

#[test]
fn mock_issues_and_logs() {
    let ca = MockCa::with(|knobs| knobs.lifetime = 600);
    let chain = run(async { issue(&account(&ca).await, &[APP, API], None).await.unwrap() });
    assert_issued(&chain, &ca.issuing_root(), &[APP, API], 600);
    let issued = ca.wait_issued(1);
    assert_eq!((issued.len(), issued[0].downloads), (1, 1));
    assert_eq!(issued[0].names, [APP, API]);
    assert_eq!(ca.complaints(), [""; 0]);
    assert_eq!(ca.count(Endpoint::NewOrder), 1);
    assert_eq!(ca.count(Endpoint::Challenge), 2);
    let download = &ca.requests(Endpoint::Certificate)[0];
    assert_eq!((download.status, &download.names[..]), (Some(200), &[APP.into(), API.into()][..]));
    assert!(ca.log().iter().all(|entry| !entry.user_agent.is_empty() && !entry.faulty));
    assert_eq!(ca.orders()[0].status, "valid");
}

#[test]
fn mock_meets_requests_with_faults() {
    let ca = MockCa::start();
    run(async {
        let account = account(&ca).await;
        ca.next(Endpoint::NewOrder, 1, &Fault::rate_limited("7200"));
        ca.next(Endpoint::NewOrder, 1, &Fault::bad_nonce());
        assert_eq!(problem(order(&account, &[APP], None).await.map(drop)), "rateLimited");
        // A second try of the client's own gets past the bad nonce.
        order(&account, &[APP], None).await.unwrap();
        let seen = ca.requests(Endpoint::NewOrder);
        let statuses: Vec<_> = seen.iter().map(|entry| entry.status.unwrap()).collect();
        assert_eq!(statuses, [429, 400, 201]);
        assert_eq!(seen[1].problem.as_deref(), Some("badNonce"));
        assert_eq!(ca.orders().len(), 1);

        ca.down(&Fault::html_502());
        assert!(matches!(order(&account, &[APP], None).await.map(drop), Err(Error::Str(_))));
        ca.heal();
        order(&account, &[APP], None).await.unwrap();
        let text = Answer::new(400, "text/plain", "no");
        ca.always(Endpoint::NewOrder, &Fault::Answer(text));
        let refused = order(&account, &[APP], None).await.map(drop);
        assert!(matches!(refused, Err(Error::Json(_))), "{refused:?}");
    });
}

#[test]
fn mock_hangs_and_hangs_up() {
    let ca = MockCa::start();
    let ask = |path: &str| {
        let mut client = Client::plain(ca.addr());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n"));
        client
    };
    ca.next(Endpoint::Directory, 1, &Fault::Hang);
    ca.next(Endpoint::Directory, 1, &Fault::Close);
    ca.next(Endpoint::Directory, 1, &Fault::overloaded(http_date(784_111_777)));
    let mut hung = ask("/directory");
    ca.wait_count(Endpoint::Directory, 1);
    assert!(hung.is_silent_for(Duration::from_millis(100)));
    ask("/directory").assert_closed();
    let overloaded = ask("/directory").response();
    assert_eq!(overloaded.status, 503);
    assert_eq!(overloaded.header("retry-after"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(ask("/directory").response().status, 200);
    let statuses: Vec<_> = ca.log().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [None, None, Some(503), Some(200)]);
}

#[test]
fn mock_does_the_work_and_loses_the_answer() {
    let mut ca = MockCa::start();
    let chain = run(async {
        let account = account(&ca).await;
        let mut order = order(&account, &[APP], None).await.unwrap();
        order.poll_ready(&RetryPolicy::default()).await.unwrap();
        ca.next(Endpoint::Finalize, 1, &Fault::DoneThenHang);
        tokio::select! {
            answer = order.finalize() => panic!("answered: {answer:?}"),
            () = until(|| !ca.issued().is_empty()) => (),
        }
        assert_eq!((ca.issued().len(), ca.issued()[0].downloads), (1, 0));
        assert_eq!(ca.requests(Endpoint::Finalize)[0].status, None);
        // It is still there after the CA was away.
        let url = order.url().to_owned();
        ca.stop();
        ca.resume();
        let mut order = account.order(url).await.unwrap();
        assert_eq!(order.state().status, OrderStatus::Valid);
        order.certificate().await.unwrap().unwrap()
    });
    assert_issued(&chain, &ca.issuing_root(), &[APP], 90 * 86_400);
}

#[test]
fn mock_fetches_challenges_when_told_to() {
    let (ca, responder) = (MockCa::start(), Responder::start());
    ca.set(|knobs| knobs.validation = Validation::Fetch(responder.backend.addr));
    run(async {
        let account = account(&ca).await;
        issue(&account, &[APP], Some(&responder)).await.unwrap();
        assert_eq!(responder.backend.only().field("host"), APP);
        // Nobody told the responder: it answers nonsense.
        let mut bad = order(&account, &[API], None).await.unwrap();
        assert_eq!(bad.poll_ready(&RetryPolicy::default()).await.unwrap(), OrderStatus::Invalid);
    });
    assert_eq!(
        ca.authorizations(),
        [(APP.to_owned(), "valid".to_owned()), (API.to_owned(), "invalid".to_owned())]
    );
}

#[test]
fn mock_fails_a_name_as_told() {
    let ca = MockCa::start();
    let dns = Problem::new(400, "dns", "NXDOMAIN looking up A for api.openclaw.example");
    ca.set(|knobs| {
        knobs.invalid.insert(API.to_owned(), dns.clone());
        knobs.rejected.insert("no.openclaw.example".to_owned(), {
            Problem::new(400, "rejectedIdentifier", "policy forbids it")
        });
    });
    run(async {
        let account = account(&ca).await;
        let mut bad = order(&account, &[APP, API], None).await.unwrap();
        assert_eq!(bad.poll_ready(&RetryPolicy::default()).await.unwrap(), OrderStatus::Invalid);
        let mut told = Vec::new();
        let mut authorizations = bad.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut next = next.unwrap();
            let state = next.refresh().await.unwrap();
            let error = state.challenges[0].error.as_ref().and_then(|error| error.detail.clone());
            told.push((state.status, error));
        }
        assert_eq!(told[0], (AuthorizationStatus::Valid, None));
        assert_eq!(told[1], (AuthorizationStatus::Invalid, Some(dns.detail.clone())));

        let names = [APP, "no.openclaw.example"].map(|name| Identifier::Dns(name.to_owned()));
        let Err(Error::Api(refused)) = account.new_order(&NewOrder::new(&names)).await else {
            panic!("accepted")
        };
        assert_eq!(refused.subproblems.len(), 1);
    });
}

#[test]
fn mock_demands_a_binding() {
    let key = vec![7; 32];
    let ca = MockCa::with(|knobs| {
        knobs.eab = Some(("kid-1".to_owned(), key.clone()));
        knobs.eab_once = true;
    });
    run(async {
        let without = register(&ca.directory(), None, None).await.map(drop);
        assert_eq!(problem(without), "externalAccountRequired");
        let wrong = ExternalAccountKey::new("kid-1".to_owned(), &[8; 32]);
        let wrong = register(&ca.directory(), None, Some(&wrong)).await.map(drop);
        assert_eq!(problem(wrong), "unauthorized");
        let right = ExternalAccountKey::new("kid-1".to_owned(), &key);
        register(&ca.directory(), None, Some(&right)).await.unwrap();
        let again = register(&ca.directory(), None, Some(&right)).await.map(drop);
        assert_eq!(problem(again), "unauthorized", "single use");
    });
    assert_eq!(ca.accounts(), 1);
}

#[test]
fn mock_forgets() {
    let ca = MockCa::start();
    run(async {
        let account = account(&ca).await;
        let made = order(&account, &[APP], None).await.unwrap();
        ca.forget_orders();
        assert_eq!(problem(account.order(made.url().to_owned()).await.map(drop)), "malformed");
        assert_eq!(ca.requests(Endpoint::Order).last().unwrap().status, Some(404));
        ca.forget_accounts();
        let gone = order(&account, &[APP], None).await.map(drop);
        assert_eq!(problem(gone), "accountDoesNotExist");
    });
}

#[test]
fn mock_renewal_information_profiles_and_replaces() {
    let ca = MockCa::with(|knobs| {
        knobs.profiles.insert("shortlived".to_owned(), 160 * 3600);
        knobs.processing_polls = 2;
    });
    run(async {
        let account = account(&ca).await;
        issue(&account, &[APP], None).await.unwrap();
        let leaf = ca.issued()[0].clone();
        assert_eq!(ca.count(Endpoint::Order), 4, "ready, processing twice, valid");
        let text = format!("{:?}", leaf.cert_id);
        let id: CertificateIdentifier<'_> = serde_json::from_str(&text).unwrap();
        let (usual, retry) = account.renewal_info(&id).await.unwrap();
        assert_eq!(retry.as_secs_f64().round(), 21_600.0);
        let start = usual.suggested_window.start.unix_timestamp();
        assert_eq!(start, leaf.not_before + (leaf.not_after - leaf.not_before) * 6 / 10);
        ca.set(|knobs| knobs.window = Some((1_000, 2_000)));
        let (moved, _) = account.renewal_info(&id).await.unwrap();
        assert_eq!(moved.suggested_window.end.unix_timestamp(), 2_000);

        let names = [Identifier::Dns(APP.to_owned())];
        let renewal = NewOrder::new(&names).replaces(id.clone()).profile("shortlived");
        account.new_order(&renewal).await.unwrap();
        assert_eq!(ca.orders()[1].replaces.as_deref(), Some(leaf.cert_id.as_str()));
        assert_eq!(ca.orders()[1].profile.as_deref(), Some("shortlived"));
        assert_eq!(problem(account.new_order(&renewal).await.map(drop)), "alreadyReplaced");
        ca.set(|knobs| knobs.replaces = Replaces::Ignore);
        let ignored = account.new_order(&renewal).await.map(drop);
        assert!(matches!(ignored, Err(Error::Other(_))), "instant-acme minds: {ignored:?}");
        let unknown = NewOrder::new(&names).profile("none");
        assert_eq!(problem(account.new_order(&unknown).await.map(drop)), "invalidProfile");

        let reason = Some(RevocationReason::Superseded);
        let request = RevocationRequest { certificate: &leaf.leaf, reason };
        account.revoke(&request).await.unwrap();
        assert_eq!(ca.issued()[0].revoked, Some(4));
    });
}

#[test]
fn mock_signs_only_what_was_ordered() {
    let ca = MockCa::start();
    run(async {
        let account = account(&ca).await;
        let mut made = order(&account, &[APP], None).await.unwrap();
        made.poll_ready(&RetryPolicy::default()).await.unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::new([API.to_owned()]).unwrap();
        let csr = csr.serialize_request(&key).unwrap();
        assert_eq!(problem(made.finalize_csr(csr.der()).await), "badCSR");
    });
    assert_eq!(ca.complaints().len(), 1);
    assert!(ca.issued().is_empty());
}

// === Pebble ===

#[test]
fn pebble_validates_and_forgets() {
    let (http, tls) = (Port::reserve(), Port::reserve());
    let responder = Responder::on(&http.bind());
    let mut options = Options::at(http.number(), tls.number());
    options.lifetime = 60;
    options.blocklist = vec!["blocked.openclaw.example".to_owned()];
    let mut pebble = Pebble::with(options);
    run(async {
        let account = register(&pebble.directory(), Some(&pebble.roots()), None).await.unwrap();
        let chain = issue(&account, &[APP, API], Some(&responder)).await.unwrap();
        assert_issued(&chain, &pebble.issuing_root(), &[APP, API], 60);
        assert_eq!((pebble.orders(), pebble.issued()), (1, 1));

        let blocked = order(&account, &["blocked.openclaw.example"], None).await.map(drop);
        assert_eq!(problem(blocked), "rejectedIdentifier");
        let bad = "bad.openclaw.example";
        for (fault, part) in [("servfail", "could not resolve"), ("wrong", "2001:db8::1")] {
            match fault {
                "servfail" => pebble.dns_servfail(bad),
                _ => pebble.dns_aaaa(bad, &["2001:db8::1"]),
            }
            let mut failed = order(&account, &[bad], Some(&responder)).await.unwrap();
            let told = failed.poll_ready(&RetryPolicy::default()).await.unwrap_err().to_string();
            assert!(told.contains(part), "{fault}: {told}");
            assert_eq!(failed.state().status, OrderStatus::Invalid);
            pebble.dns_clear(bad);
        }
        issue(&account, &[bad], Some(&responder)).await.unwrap();

        pebble.restart();
        let gone = order(&account, &[APP], None).await.map(drop);
        assert_eq!(problem(gone), "accountDoesNotExist");
    });
}

#[test]
fn pebble_demands_a_binding() {
    let key = [9; 32];
    let (http, tls) = (Port::reserve(), Port::reserve());
    let mut options = Options::at(http.number(), tls.number());
    let text = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";
    options.eab = Some(("kid-1".to_owned(), text.to_owned()));
    let pebble = Pebble::with(options);
    run(async {
        let without = register(&pebble.directory(), Some(&pebble.roots()), None).await.map(drop);
        assert_eq!(problem(without), "externalAccountRequired");
        let key = ExternalAccountKey::new("kid-1".to_owned(), &key);
        register(&pebble.directory(), Some(&pebble.roots()), Some(&key)).await.unwrap();
    });
}

// === Caddy ===

#[test]
fn caddy_asks_in_absolute_form() {
    let responder = Responder::start();
    let caddy = Caddy::start(responder.backend.addr, "24h");
    let root = CertificateDer::from_pem_file(caddy.roots()).unwrap();
    let chain = run(async {
        let account = register(&caddy.directory(), Some(&caddy.roots()), None).await.unwrap();
        issue(&account, &[APP], Some(&responder)).await.unwrap()
    });
    assert_issued(&chain, &root, &[APP], 86_400 + 60);
    let target = responder.backend.only().target().to_owned();
    assert!(target.starts_with(&format!("http://{APP}/.well-known/acme-challenge/")), "{target}");
}

// === ports and disks ===

#[test]
fn a_reserved_port_is_the_edges_again_and_again() {
    let (http, https) = (Port::reserve(), Port::reserve());
    let backend = crate::harness::Backend::ok();
    let conf =
        crate::harness::Conf::app(&[backend.addr]).bind(&http.bind(), &https.bind()).workers(2);
    for _ in 0..2 {
        let edge = Edge::start(&conf);
        assert_eq!((edge.http, edge.https), (http.addr, https.addr));
        edge.client().get(APP, "/").assert_ok("ok");
    }
}

#[test]
fn a_small_disk_is_full_and_has_room_again() {
    let lab = Lab::new();
    let disk = SmallDisk::mount(&lab.path().join("state"), 256);
    let file = disk.path.join("file");
    std::fs::write(&file, "a").unwrap();
    disk.fill();
    let error = std::fs::write(disk.path.join("other"), "b").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(std::fs::read(&file).unwrap(), b"a");
    disk.release();
    std::fs::write(disk.path.join("other"), "b").unwrap();
    drop(disk);
    wait_until("the disk to be gone", || !file.exists());
}

// === the product's client at the mock CA ===

/// From an account to a chain, with nothing to complain about.
#[test]
fn the_products_client_pleases_the_mock() {
    let ca = MockCa::with(|knobs| {
        knobs.profiles.insert("shortlived".to_owned(), 160 * 3600);
        knobs.processing_polls = 1;
    });
    let responder = Responder::start();
    ca.set(|knobs| knobs.validation = Validation::Fetch(responder.backend.addr));
    let chain = run(product_issues(&ca, &responder));
    assert_issued(&chain, &ca.issuing_root(), &[APP, API], 160 * 3600);
    assert_eq!(ca.complaints(), [""; 0]);
    let issued = ca.issued();
    assert_eq!((issued.len(), issued[0].downloads, issued[0].revoked), (1, 1, Some(4)));
    let agents: Vec<_> = ca.log().into_iter().map(|entry| entry.user_agent).collect();
    assert!(agents.iter().all(|agent| agent.starts_with("openclaw-edge/")), "{agents:?}");
}

async fn product_issues(ca: &MockCa, responder: &Responder) -> String {
    use acme::ca::{Ca, CaConfig, CertId, ChallengeKind, OrderRequest, Revocation};
    let wait = Duration::from_secs(10);
    let client = Ca::connect(&CaConfig::new(ca.directory())).await.unwrap();
    let (account, _) = client.register(None, None).await.unwrap();
    let names = vec![APP.to_owned(), API.to_owned()];
    let profile = Some("shortlived".to_owned());
    let request = OrderRequest { names: names.clone(), profile, replaces: None };
    let mut order = account.order(&request).await.unwrap();
    for one in order.authorizations().await.unwrap() {
        let offer = one.http01.unwrap();
        responder.offer(&offer.token, &offer.key_authorization);
        order.begin(&one.name, ChallengeKind::Http01).await.unwrap();
    }
    order.validated(wait).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    order.finalize(params.serialize_request(&key).unwrap().der()).await.unwrap();
    let chain = order.certificate(wait).await.unwrap();
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let id = CertId::of(&leaf).unwrap();
    assert_eq!(id.as_str(), ca.issued()[0].cert_id);
    let window = client.renewal_info(&id).await.unwrap();
    assert!(window.start < window.end);
    account.revoke(&leaf, Revocation::Superseded).await.unwrap();
    chain
}
