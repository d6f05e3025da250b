//! From bytes to the decision and to what the endpoint gets: the two must agree on one request.

use std::sync::{Arc, LazyLock};

use acme::challenge::Challenges;
use config::NoEnvironment;
use proxy::access::passwords::Passwords;
use proxy::downstream::cert_table::CertTable;
use proxy::http1::field::FieldId;
use proxy::http1::head::{FieldSlots, parse_request};
use proxy::limit::{KeyHasher, LimitRegistry, Moment};
use proxy::request::admit::admit_h1;
use proxy::request::client::Client;
use proxy::request::decide::{Tables, decide};
use proxy::request::headers::{RequestContext, write_request};
use proxy::request::plan::{Answer, AnswerKind, Decision, Plan};
use proxy::request::view::{FieldSource, HeadView};
use proxy::route::compile;
use proxy::route::table::Snapshot;
use proxy::upstream::endpoint::{EndpointRegistry, Resolved};

use super::request_head::LIMITS;

pub fn check(bytes: &[u8]) {
    let mut slots = FieldSlots::new();
    let Ok(Some(head)) = parse_request(bytes, LIMITS, &mut slots) else { return };
    let Ok(mut view) = admit_h1(&head) else { return };
    let client = Client::new(0, ([192, 0, 2, 1], 40000).into(), None);
    let tables = Tables {
        snapshot: &SNAPSHOT,
        challenges: &CHALLENGES,
        certs: &CERTS,
        hasher: &HASHER,
        passwords: &PASSWORDS,
        now: Moment::now(),
        metrics: None,
    };
    match decide(&mut view, &client, client.peer, &tables) {
        Decision::Forward(plan) => {
            routed_by_its_normal_path(&view, &plan);
            forwarded_as_decided(&view, &plan, &client);
        }
        Decision::Answer(answer) => only_tokens_are_answered(&view, &answer),
    }
}

/// Nothing but a CA's question gets past the rules (design.md #9).
fn only_tokens_are_answered<F>(view: &HeadView<'_, F>, answer: &Answer) {
    let AnswerKind::Challenge(key_authorization) = &answer.kind else { return };
    let token = key_authorization.strip_suffix(".thumbprint").unwrap_or_else(|| panic!());
    assert_eq!(view.host, VALIDATED);
    assert!(matches!(view.method, "GET" | "HEAD"), "{}", view.method);
    assert_eq!(view.path(), format!("/.well-known/acme-challenge/{token}").as_bytes());
}

/// No spelling of a path gets around the rule that closes it (design.md #15).
fn routed_by_its_normal_path<F>(view: &HeadView<'_, F>, plan: &Plan) {
    if view.host != "proxy.openclaw.example" || view.target.as_ref() == b"*" {
        return;
    }
    let path = view.path();
    assert_ne!(plan.route.name.as_str(), "proxy-internal");
    assert!(!path.starts_with(b"/internal/") && path != b"/internal", "{path:?}");
    let normal = config::value::normalise(path).unwrap_or_else(|e| panic!("{e}: {path:?}"));
    assert_eq!(normal, path, "not the normal form");
}

fn forwarded_as_decided<F: FieldSource>(view: &HeadView<'_, F>, plan: &Plan, client: &Client) {
    let mut out = Vec::new();
    let cx = RequestContext {
        client,
        trusted: false,
        origin: client.peer,
        request_id: b"0123456789abcdef",
        public_port: 443,
        allow_underscores: false,
        edits: &plan.route.request_edits,
        drop_authorization: false,
        prefix: None,
    };
    write_request(&mut out, view, &cx);

    let mut slots = FieldSlots::new();
    let limits = proxy::http1::head::HeadLimits { head_bytes: 1 << 20, ..LIMITS };
    let sent = match parse_request(&out, limits, &mut slots) {
        Ok(Some(sent)) => sent,
        // The edge's own fields may be one too many for the same limit.
        Err(_) if view_fields(view) + OWN_FIELDS > LIMITS.fields => return,
        other => panic!("{:?}: {:?}", other.err(), String::from_utf8_lossy(&out)),
    };
    assert_eq!(sent.len, out.len(), "{:?}", String::from_utf8_lossy(&out));
    assert_eq!(sent.method, view.method.as_bytes());
    assert_eq!(sent.target, view.target.as_ref());
    assert_eq!(sent.host, Some(view.authority));
    assert_eq!(sent.body, plan.body);
    assert_eq!(sent.websocket, plan.websocket);
    assert!(!sent.http10 && !sent.connection.nominates && !sent.connection.close);
    let mut forwarded_for = 0;
    for (id, name, value) in sent.fields.iter() {
        assert!(!name.contains('_'), "{name}");
        if name.eq_ignore_ascii_case("x-forwarded-for") {
            forwarded_for += 1;
            assert_eq!(value, b"192.0.2.1");
        }
        assert!(id != FieldId::Expect, "Expect never goes upstream");
    }
    assert_eq!(forwarded_for, 1);
}

fn view_fields<F: FieldSource>(view: &HeadView<'_, F>) -> usize {
    let mut count = 0;
    view.fields.each(|_, _, _| count += 1);
    count
}

/// What the edge adds to a head, at most.
const OWN_FIELDS: usize = 12;

/// A host that answers any token; it has no route.
const VALIDATED: &str = "new.openclaw.example";

static CHALLENGES: LazyLock<Challenges> = LazyLock::new(|| {
    let challenges = Challenges::default();
    challenges.set_stateless([(VALIDATED.to_owned(), "thumbprint".to_owned())].into());
    challenges
});

static CERTS: LazyLock<CertTable> = LazyLock::new(CertTable::new);
static HASHER: LazyLock<KeyHasher> = LazyLock::new(KeyHasher::random);
static PASSWORDS: LazyLock<Passwords> = LazyLock::new(Passwords::new);

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let candidate = config::parse("fuzz.yaml", CONFIG, &NoEnvironment)
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let accepted = config::merge(None, candidate);
    assert!(accepted.quarantined.is_empty(), "{:?}", accepted.quarantined);
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new();
    let mut deps = compile::Deps {
        certs: Arc::default(),
        challenges: Arc::default(),
        ticketer: ticketer.unwrap_or_else(|e| panic!("{e}")),
        bound: &[],
        nofile: 1024,
        resolved: &|_| Some(vec![Resolved { address: ([127, 0, 0, 1], 80).into(), weight: 1 }]),
        shifted: &|_| None,
        endpoints: &mut EndpointRegistry::default(),
        limits: &mut LimitRegistry::default(),
        tenants: &proxy::metrics::TenantLabels::default(),
        metrics: &proxy::metrics::Metrics::new(),
    };
    compile::compile(&accepted, &compile::empty(), &mut deps)
});

const CONFIG: &str = r#"
version: 1
state_dir: /nowhere
listeners:
  http: { bind: ["127.0.0.1:0"] }
upstreams:
  any: { endpoints: ["127.0.0.1:1"] }
routes:
  app: { hosts: [app.openclaw.example], upstream: any }
  wild: { hosts: ["*.gw.openclaw.example"], methods: [GET, POST], upstream: any }
  proxy: { hosts: [proxy.openclaw.example], upstream: any }
  proxy-internal: { hosts: [proxy.openclaw.example], path: /internal, respond: { status: 404 } }
"#;
