//! Servers that hang, err, lie or are not the CA.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acme::ca::{Ca, CaConfig, Class, Failure, Limits, Step};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::stub::{Asked, Reply, Stub, directory, problem, reply};

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// What connecting to a server that gives always this answer fails with.
async fn refused(answer: impl Fn() -> Reply + Send + Sync + 'static) -> Failure {
    let stub = Stub::start(move |_: &Asked, _: &str| answer()).await;
    Ca::connect(&stub.config()).await.unwrap_err()
}

fn is_about(failure: &Failure, class: Class, words: &[&str]) {
    assert_eq!((failure.class, failure.step), (class, Step::Directory), "{failure}");
    for words in words {
        assert!(failure.detail.contains(words), "{words:?} in {failure}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_in_time() {
    for stalled in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"newNonce\":"] {
        let stub = Stub::start(|_, _| Reply::Stalled(stalled.as_bytes().to_vec())).await;
        let mut config = stub.config();
        config.limits.request = Duration::from_millis(200);
        let begun = Instant::now();
        let failure = Ca::connect(&config).await.unwrap_err();
        is_about(&failure, Class::Unavailable, &["no answer within 0.2 s", "127.0.0.1"]);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    let usual = Limits::default();
    assert_eq!((usual.connect.as_secs(), usual.request.as_secs(), usual.body), (5, 30, 1 << 20));
}

#[tokio::test]
async fn error_pages_keep_their_status() {
    let page = "<html><head><title>502 Bad Gateway</title></head>\n<body>\u{1b}[31mnginx</body>";
    let failure = refused(move || reply(502, "content-type: text/html\r\n", page)).await;
    is_about(&failure, Class::Unavailable, &["502", "\"502 Bad Gateway [31mnginx\""]);
    assert_eq!((failure.status, failure.retry_at), (Some(502), None));
    let failure = refused(|| reply(200, "", "<html>welcome</html>")).await;
    is_about(&failure, Class::Unavailable, &["not the directory of an ACME server"]);
}

#[tokio::test]
async fn a_wait_is_kept_in_both_spellings() {
    let begun = now();
    let failure = refused(|| reply(503, "retry-after: 120\r\n", "")).await;
    is_about(&failure, Class::Unavailable, &["503"]);
    assert!((begun + 120..=now() + 120).contains(&failure.retry_at.unwrap()));
    // The CA's clock is years from ours: only the difference of its own two times counts.
    let fields = "date: Thu, 01 Jan 2015 00:00:00 GMT\r\n\
                  retry-after: Thu, 01 Jan 2015 01:00:00 GMT\r\n";
    let failure = refused(|| reply(503, fields, "")).await;
    assert!((begun + 3600..=now() + 3600).contains(&failure.retry_at.unwrap()));
    let failure = refused(|| reply(429, "", "slow down")).await;
    is_about(&failure, Class::RateLimited, &["slow down"]);
}

#[tokio::test]
async fn the_limit_of_the_body_to_the_byte() {
    let sized = |size: usize| {
        move |asked: &Asked, base: &str| {
            let Some(Reply::Whole(status, fields, mut body)) = directory(asked, base) else {
                unreachable!()
            };
            body.resize(size, b' ');
            Reply::Whole(status, fields, body)
        }
    };
    for (size, fits) in [(1000, true), (1001, false)] {
        let stub = Stub::start(sized(size)).await;
        let mut config = stub.config();
        config.limits.body = 1000;
        let answer = Ca::connect(&config).await;
        assert_eq!(answer.is_ok(), fits, "{size}: {answer:?}");
        if let Err(failure) = answer {
            is_about(&failure, Class::Unavailable, &["larger than 1000 bytes"]);
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let stub = Stub::start(|asked, base| match asked.path.as_str() {
        "/dir" => reply(302, &format!("location: {base}/elsewhere\r\n"), ""),
        _ => reply(200, "", ""),
    })
    .await;
    let failure = Ca::connect(&stub.config()).await.unwrap_err();
    is_about(&failure, Class::Unavailable, &["302", "/elsewhere", "redirects are not followed"]);
    assert!(stub.asked("/elsewhere").is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_the_one_asked_for() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (dir.path().join("ours.pem"), dir.path().join("others.pem"));
    std::fs::write(&ours, &authority.pem).unwrap();
    std::fs::write(&others, Authority::new().pem).unwrap();
    for (name, roots, words) in [
        ("localhost", &ours, None),
        ("ca.openclaw.example", &ours, Some("not valid for name \"localhost\"")),
        ("localhost", &others, Some("invalid peer certificate")),
    ] {
        let stub = Stub::start_tls(authority.server(name)).await;
        let mut config = CaConfig::new(format!("https://localhost:{}/dir", stub.port));
        config.roots = Some(roots.clone());
        match (Ca::connect(&config).await, words) {
            (Ok(_), None) => {}
            (Err(failure), Some(words)) => {
                is_about(&failure, Class::Unavailable, &[words, "localhost:"]);
            }
            (answer, _) => panic!("{name}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = Ca::connect(&CaConfig::new(format!("http://{free}/dir"))).await.unwrap_err();
    is_about(&failure, Class::Unavailable, &["refused", &free.to_string()]);
}

#[tokio::test]
async fn the_clock_of_the_ca_is_compared() {
    let stub = Stub::start(|asked, base| {
        let Some(Reply::Whole(status, _, body)) = directory(asked, base) else { unreachable!() };
        reply(status, "date: Fri, 01 Jan 2100 00:00:00 GMT\r\nage: 600\r\n", body)
    })
    .await;
    let ca = Ca::connect(&stub.config()).await.unwrap();
    let expected = 4_102_444_800 + 600 - now();
    assert!((ca.clock_skew().unwrap() - expected).abs() <= 2);
    let silent = Stub::start(|asked, base| directory(asked, base).unwrap()).await;
    assert_eq!(Ca::connect(&silent.config()).await.unwrap().clock_skew(), None);
}

#[tokio::test]
async fn what_stops_a_registration() {
    let stub = Stub::start(|asked, base| {
        directory(asked, base).unwrap_or_else(|| {
            let words = "too many registrations, retry after 2100-01-01 00:00:00 UTC: see x";
            problem(429, "retry-after: 7200\r\n", "rateLimited", words)
        })
    })
    .await;
    let ca = Ca::connect(&stub.config()).await.unwrap();
    let begun = now();
    let failure = ca.register(Some("ops@openclaw.example"), None).await.unwrap_err();
    assert_eq!((failure.class, failure.step), (Class::RateLimited, Step::Register));
    assert_eq!((failure.kind(), failure.status), (Some("rateLimited"), Some(429)));
    assert!((begun + 7200..=now() + 7200).contains(&failure.retry_at.unwrap()));
    let asked = stub.asked("/account");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].payload["contact"][0], "mailto:ops@openclaw.example");
    let agent = format!("user-agent: openclaw-edge/{} instant-acme/", env!("CARGO_PKG_VERSION"));
    assert!(asked[0].head.contains(&agent), "{}", asked[0].head);
}

#[tokio::test]
async fn nonces_are_tried_often_and_not_for_ever() {
    let stub = Stub::start(|asked, base| {
        directory(asked, base)
            .unwrap_or_else(|| problem(400, "replay-nonce: def\r\n", "badNonce", "try again"))
    })
    .await;
    let ca = Ca::connect(&stub.config()).await.unwrap();
    let failure = ca.register(None, None).await.unwrap_err();
    assert_eq!((failure.class, failure.kind()), (Class::Unavailable, Some("badNonce")));
    assert_eq!(stub.asked("/account").len(), 8 * 3);
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn server(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
