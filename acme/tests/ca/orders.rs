//! What CAs do with an order that Pebble does not: refuse parts of it, dawdle, stumble.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acme::ca::{
    Account, Ca, CertId, ChallengeKind, Class, Failure, OrderRequest, OrderStatus, Step,
};
use serde_json::{Value, json};

use crate::stub::{Asked, Reply, Stub, problem, reply};

const APP: &str = "app.openclaw.example";
const ID: &str = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
const LIMIT: Duration = Duration::from_secs(5);

/// A CA in which everything goes well unless `odd` has another answer.
async fn ca(odd: impl Fn(&Asked, &str) -> Option<Reply> + Send + Sync + 'static) -> Stub {
    Stub::start(move |asked, base| odd(asked, base).unwrap_or_else(|| well(asked, base))).await
}

fn well(asked: &Asked, base: &str) -> Reply {
    match asked.path.as_str() {
        "/dir" => {
            let directory = json!({
                "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/new-order"), "renewalInfo": format!("{base}/ari"),
                "meta": { "profiles": { "classic": "x", "tlsserver": "y" } },
            });
            reply(200, "", directory.to_string())
        }
        "/nonce" => reply(200, "replay-nonce: abc\r\n", ""),
        "/account" => reply(201, &format!("location: {base}/account/1\r\n"), "{}"),
        "/new-order" => order(base, "pending", asked.payload["replaces"].clone()),
        "/order" => order(base, "ready", Value::Null),
        "/finalize" => order(base, "processing", Value::Null),
        "/authz" => authorization(base, "pending", Value::Null),
        "/challenge" => reply(200, "", challenge(base, Value::Null).to_string()),
        _ => problem(404, "", "malformed", "no such thing"),
    }
}

fn order(base: &str, status: &str, replaces: Value) -> Reply {
    let mut order = json!({
        "status": status, "authorizations": [format!("{base}/authz")],
        "finalize": format!("{base}/finalize"),
    });
    if !replaces.is_null() {
        order["replaces"] = replaces;
    }
    if status == "valid" {
        order["certificate"] = json!(format!("{base}/certificate"));
    }
    reply(201, &format!("location: {base}/order\r\n"), order.to_string())
}

fn challenge(base: &str, error: Value) -> Value {
    let mut challenge = json!({
        "type": "http-01", "url": format!("{base}/challenge"), "status": "pending",
        "token": "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ",
    });
    if !error.is_null() {
        challenge["error"] = error;
    }
    challenge
}

fn authorization(base: &str, status: &str, error: Value) -> Reply {
    let authorization = json!({
        "status": status, "identifier": { "type": "dns", "value": APP },
        "challenges": [challenge(base, error)],
    });
    reply(200, "", authorization.to_string())
}

async fn account(stub: &Stub) -> Account {
    let ca = Ca::connect(&stub.config()).await.unwrap();
    ca.register(None, None).await.unwrap().0
}

fn request(profile: Option<&str>, replaces: bool) -> OrderRequest {
    OrderRequest {
        names: vec![APP.to_owned()],
        profile: profile.map(str::to_owned),
        replaces: replaces.then(|| CertId::parse(ID).unwrap()),
    }
}

/// What was sent in each newOrder: profile and `replaces`.
fn sent(stub: &Stub) -> Vec<(Option<String>, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let asked = stub.asked("/new-order");
    asked.iter().map(|a| (text(&a.payload["profile"]), text(&a.payload["replaces"]))).collect()
}

#[tokio::test]
async fn profile_and_predecessor_are_sent() {
    let stub = ca(|_, _| None).await;
    let order = account(&stub).await.order(&request(Some("tlsserver"), true)).await.unwrap();
    assert!(order.replaced());
    assert!(order.warnings().is_empty(), "{:?}", order.warnings());
    assert_eq!(sent(&stub), [(Some("tlsserver".to_owned()), Some(ID.to_owned()))]);
}

#[tokio::test]
async fn a_refused_predecessor_is_given_up_once() {
    let refuse = |asked: &Asked, kind: &str, status: u16| {
        (asked.path == "/new-order" && asked.payload["replaces"].is_string())
            .then(|| problem(status, "", kind, "has a successor"))
    };
    let stub = ca(move |asked, _| refuse(asked, "alreadyReplaced", 409)).await;
    let order = account(&stub).await.order(&request(None, true)).await.unwrap();
    assert!(!order.replaced());
    assert!(order.warnings()[0].contains("has a successor"), "{:?}", order.warnings());
    assert_eq!(sent(&stub), [(None, Some(ID.to_owned())), (None, None)]);

    let stub = ca(move |asked, _| refuse(asked, "rateLimited", 429)).await;
    let limited = account(&stub).await.order(&request(None, true)).await.unwrap_err();
    assert_eq!(limited.class, Class::RateLimited);
    assert_eq!(sent(&stub).len(), 1);
}

#[tokio::test]
async fn a_predecessor_that_is_passed_over_is_given_up() {
    let silent = |asked: &Asked, base: &str| {
        (asked.path == "/new-order").then(|| order(base, "pending", Value::Null))
    };
    let stub = ca(silent).await;
    let order = account(&stub).await.order(&request(None, true)).await.unwrap();
    assert!(!order.replaced());
    assert_eq!(order.warnings().len(), 1);
    assert_eq!(sent(&stub), [(None, Some(ID.to_owned())), (None, None)]);
}

#[tokio::test]
async fn a_refused_profile_is_given_up_and_the_predecessor_kept() {
    let stub = ca(|asked, _| {
        (asked.path == "/new-order" && asked.payload["profile"].is_string())
            .then(|| problem(403, "", "invalidProfile", "not for you"))
    })
    .await;
    let order = account(&stub).await.order(&request(Some("classic"), true)).await.unwrap();
    assert!(order.replaced());
    assert!(order.warnings()[0].contains("not for you"), "{:?}", order.warnings());
    let id = Some(ID.to_owned());
    assert_eq!(sent(&stub), [(Some("classic".to_owned()), id.clone()), (None, id)]);
}

#[tokio::test]
async fn restoring_asks_nobody() {
    let stub = ca(|_, _| None).await;
    let ca = Ca::connect(&stub.config()).await.unwrap();
    let (account, stored) = ca.register(None, None).await.unwrap();
    let restored = ca.restore(&stored).await.unwrap();
    assert_eq!(restored.thumbprint(), account.thumbprint());
    assert_eq!(stub.asked("/dir").len(), 1);
    assert_eq!(stub.asked("/account").len(), 1);
}

/// A bad moment of the CA is waited out; what it says to wait for is not.
#[tokio::test]
async fn validation_survives_a_bad_moment() {
    for (fields, survives) in [("", true), ("retry-after: 600\r\n", false)] {
        let count = AtomicUsize::new(0);
        let stub = ca(move |asked, base| {
            let round = match asked.path.as_str() {
                "/order" => count.fetch_add(1, Ordering::SeqCst),
                _ => return None,
            };
            match round {
                0 | 2 => Some(order(base, "pending", Value::Null)),
                1 => Some(reply(502, fields, "<html>")),
                _ => None,
            }
        })
        .await;
        let mut order = account(&stub).await.order(&request(None, false)).await.unwrap();
        order.begin(APP, ChallengeKind::Http01).await.unwrap();
        let no_alpn = order.begin(APP, ChallengeKind::TlsAlpn01).await.unwrap_err();
        assert!(no_alpn.detail.contains("tls-alpn-01"), "{no_alpn}");
        match order.validated(LIMIT).await {
            Ok(()) => assert!(survives && order.status() == OrderStatus::Ready),
            Err(failures) => assert!(!survives && failures[0].retry_at.is_some(), "{failures:?}"),
        }
    }
}

/// As step-ca does: the challenge has failed, and everything is "pending" for ever.
#[tokio::test]
async fn a_failed_challenge_that_stays_pending_is_told() {
    let error = json!({ "type": "urn:ietf:params:acme:error:connection", "detail": "refused" });
    let stub = ca(move |asked, base| match asked.path.as_str() {
        "/order" => Some(order(base, "pending", Value::Null)),
        "/authz" => Some(authorization(base, "pending", error.clone())),
        "/challenge" => Some(reply(200, "", challenge(base, error.clone()).to_string())),
        _ => None,
    })
    .await;
    let mut order = account(&stub).await.order(&request(None, false)).await.unwrap();
    let is_told = |failure: &Failure| {
        assert_eq!((failure.class, failure.step), (Class::Validation, Step::Validate));
        assert_eq!((failure.name.as_deref(), failure.detail.as_str()), (Some(APP), "refused"));
    };
    is_told(&order.begin(APP, ChallengeKind::Http01).await.unwrap_err());
    let failures = order.validated(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(failures.len(), 1);
    is_told(&failures[0]);
}

#[tokio::test]
async fn a_slow_certificate_is_waited_for() {
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ready_after = Arc::new(AtomicUsize::new(3));
    let (left, body) = (ready_after.clone(), Arc::new(std::sync::Mutex::new(PEM)));
    let served = body.clone();
    let stub = ca(move |asked, base| match asked.path.as_str() {
        "/order" if left.load(Ordering::SeqCst) == 0 => Some(order(base, "valid", Value::Null)),
        "/order" => {
            left.fetch_sub(1, Ordering::SeqCst);
            Some(order(base, "processing", Value::Null))
        }
        "/certificate" => Some(reply(200, "", *served.lock().unwrap())),
        _ => None,
    })
    .await;
    let account = account(&stub).await;
    let mut slow = account.order(&request(None, false)).await.unwrap();
    slow.finalize(b"csr").await.unwrap();
    assert_eq!(slow.status(), OrderStatus::Processing);
    assert_eq!(slow.certificate(LIMIT).await.unwrap(), PEM);

    ready_after.store(usize::MAX, Ordering::SeqCst);
    let mut never = account.order(&request(None, false)).await.unwrap();
    never.finalize(b"csr").await.unwrap();
    let late = never.certificate(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((late.class, late.step), (Class::Unavailable, Step::Download));

    ready_after.store(0, Ordering::SeqCst);
    *body.lock().unwrap() = "<html>";
    let odd = never.certificate(LIMIT).await.unwrap_err();
    assert!(odd.detail.contains("not a PEM chain"), "{odd}");
}

#[tokio::test]
async fn an_order_given_up_by_the_ca_says_why() {
    let stub = ca(|asked, base| {
        (asked.path == "/finalize").then(|| {
            let error = json!({ "type": "urn:ietf:params:acme:error:caa", "detail": "forbidden" });
            let order = json!({
                "status": "invalid", "authorizations": [], "error": error,
                "finalize": format!("{base}/finalize"),
            });
            reply(200, "", order.to_string())
        })
    })
    .await;
    let mut order = account(&stub).await.order(&request(None, false)).await.unwrap();
    let failure = order.finalize(b"csr").await.unwrap_err();
    assert_eq!((failure.class, failure.kind()), (Class::Validation, Some("caa")));
    let again = order.certificate(LIMIT).await.unwrap_err();
    assert_eq!((again.class, again.step), (Class::Validation, Step::Download));
}
