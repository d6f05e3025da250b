//! Renewal information (RFC 9773), asked of a server that answers as CAs do.

use std::sync::{Arc, Mutex};

use acme::ca::{Asked, Ca, CaConfig, CertId, Class, Failure, Listener, RenewalInfo, Step};

use crate::stub::{Reply, Stub, directory, problem, reply};

const ID: &str = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
const WINDOW: &str = r#"{"suggestedWindow":{"start":"2026-11-22T10:00:00Z",
    "end":"2026-11-23T10:00:00Z"},"explanationURL":"https://ca.example/why"}"#;

async fn ask(answer: impl Fn() -> Reply + Send + Sync + 'static) -> Result<RenewalInfo, Failure> {
    let stub = Stub::start(move |asked, base| match asked.path == format!("/ari/{ID}") {
        true => answer(),
        false => directory(asked, base).unwrap_or_else(|| reply(500, "", "")),
    })
    .await;
    let ca = Ca::connect(&stub.config()).await.unwrap();
    assert!(ca.directory().renewal_info);
    let answer = ca.renewal_info(&CertId::parse(ID).unwrap()).await;
    assert_eq!(stub.asked(&format!("/ari/{ID}")).len(), 1);
    answer
}

#[tokio::test]
async fn any_good_answer_is_a_window() {
    for (status, fields, retry_after) in [
        (200, "retry-after: 7200\r\n", 7200),
        (201, "retry-after: 7200\r\n", 7200),
        (200, "", 6 * 3600),
        (201, "", 6 * 3600),
        (200, "retry-after: 1\r\n", 3600),
        (200, "retry-after: 999999\r\n", 24 * 3600),
    ] {
        let info = ask(move || reply(status, fields, WINDOW)).await.unwrap();
        assert_eq!((info.start, info.end), (1_795_341_600, 1_795_341_600 + 86400));
        assert_eq!(info.retry_after, retry_after, "{status} {fields:?}");
        assert_eq!(info.explanation_url.as_deref(), Some("https://ca.example/why"));
    }
}

#[tokio::test]
async fn what_is_not_one() {
    let twisted = WINDOW.replace("11-23T", "11-21T");
    for (class, status, answer) in [
        (Class::Refused, Some(404), (404, "{}".to_owned())),
        (Class::Unavailable, Some(500), (500, String::new())),
        (Class::Unavailable, None, (200, twisted)),
        (Class::Unavailable, None, (200, "{\"suggestedWindow\":{}}".to_owned())),
        (Class::Unavailable, None, (200, "<html>".to_owned())),
    ] {
        let (code, body) = answer;
        let failure = ask(move || reply(code, "", body.clone())).await.unwrap_err();
        assert_eq!((failure.class, failure.step), (class, Step::RenewalInfo), "{failure}");
        assert_eq!(failure.status, status, "{failure}");
    }
    let failure = ask(|| problem(404, "", "malformed", "unknown certificate")).await.unwrap_err();
    assert_eq!((failure.class, failure.detail.as_str()), (Class::Refused, "unknown certificate"));
}

#[tokio::test]
async fn a_ca_without_it_is_not_asked() {
    let stub = Stub::start(|_, base| {
        let body =
            format!(r#"{{"newNonce":"{base}/n","newAccount":"{base}/a","newOrder":"{base}/o"}}"#);
        reply(200, "", body)
    })
    .await;
    let ca = Ca::connect(&stub.config()).await.unwrap();
    let failure = ca.renewal_info(&CertId::parse(ID).unwrap()).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (Class::Refused, None));
}

#[tokio::test]
async fn every_request_is_heard_of() {
    let stub = Stub::start(|asked, base| match asked.path.starts_with("/ari/") {
        true => reply(429, "", "{}"),
        false => directory(asked, base).unwrap_or_else(|| reply(500, "", "")),
    })
    .await;
    let heard: Arc<Mutex<Vec<(&str, &str)>>> = Arc::default();
    let hears = heard.clone();
    let listener: Listener = Arc::new(move |asked: Asked| {
        assert!(!asked.took.is_zero());
        hears.lock().unwrap().push((asked.action.word(), asked.code()));
    });
    let ca = Ca::connect_heard(&stub.config(), Some(listener.clone())).await.unwrap();
    ca.renewal_info(&CertId::parse(ID).unwrap()).await.unwrap_err();
    let nobody = CaConfig::new("http://127.0.0.1:1/dir");
    Ca::connect_heard(&nobody, Some(listener)).await.unwrap_err();
    let heard = heard.lock().unwrap();
    let told = [("directory", "2xx"), ("renewal_info", "429"), ("directory", "none")];
    assert_eq!(heard[..], told);
}
