mod lab;

use std::time::Instant;

use super::*;
use lab::{Edge, Zone, closed_port, listeners, redirect, reply, serve, serve_tls};

const APP: &str = "app.openclaw.example";

/// One host at 127.0.0.1, where `answer` answers.
async fn examined<F>(answer: F) -> Diagnosis
where
    F: Fn(&Edge, &str) -> String + Send + Sync + 'static,
{
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.1");
    zone.address("other.openclaw.example", "127.0.0.1");
    let (port, mut at) = listeners(&["127.0.0.1"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| answer(&server, head));
    let diagnosis = examine(APP, &zone.context(port), &edge).await;
    assert!(edge.is_empty(), "the token is lifted");
    diagnosis
}

#[track_caller]
fn assert_says(diagnosis: &Diagnosis, verdict: Verdict, parts: &[&str]) {
    assert_eq!(diagnosis.verdict, verdict, "{}", diagnosis.details());
    for part in parts {
        assert!(diagnosis.sentence.contains(part), "{part:?} not in {}", diagnosis.details());
    }
}

#[tokio::test]
async fn this_process_answers() {
    let diagnosis = examined(Edge::answer).await;
    assert_eq!(
        diagnosis.details(),
        "app.openclaw.example: will work: this process answers at 127.0.0.1\n  \
         ok      DNS: app.openclaw.example is 127.0.0.1\n  \
         ok      this process answers at 127.0.0.1\n  \
         ok      CAA: no record, every CA may issue\n"
    );
}

#[tokio::test]
async fn another_server_answers() {
    let body = "<html>\u{1b}[31m\n  <h1>404 Not Found</h1>";
    let diagnosis = examined(move |_, _| reply("404 Not Found", "Server: nginx/1.22", body)).await;
    let answer = "(status 404, Server: nginx/1.22, \"<html> [31m <h1>404 Not Found</h1>\")";
    assert_says(&diagnosis, Verdict::Fails, &["something else on this machine", answer]);
    // The right status with a wrong body is no success.
    let diagnosis = examined(|_, _| reply("200 OK", "X: y", "hello")).await;
    assert_says(&diagnosis, Verdict::Fails, &["status 200, \"hello\""]);
    let diagnosis = examined(|_, _| "SSH-2.0-OpenSSH_9.2\r\n".to_owned()).await;
    assert_says(&diagnosis, Verdict::Fails, &["gives no HTTP answer"]);
}

#[tokio::test]
async fn redirects_are_followed() {
    let diagnosis = examined(|edge, head| {
        let path = head.split(' ').nth(1).unwrap();
        // Ten hops, then the token's own path.
        match path.split_once("?hop=") {
            None => redirect(&format!("http://{APP}{path}?hop=1")),
            Some((path, "10")) => edge.answer(&head.replace(&format!("{path}?hop=10"), path)),
            Some((path, hop)) => {
                redirect(&format!("{path}?hop={}", hop.parse::<u32>().unwrap() + 1))
            }
        }
    })
    .await;
    assert_says(&diagnosis, Verdict::Works, &["this process answers at 127.0.0.1"]);
    assert!(diagnosis.details().contains("after 10 redirects, the last to http://app"));
}

#[tokio::test]
async fn redirects_that_lead_nowhere() {
    let diagnosis = examined(|_, _| redirect("/again")).await;
    assert_says(&diagnosis, Verdict::Fails, &["more than 10 redirects"]);
    let diagnosis = examined(|_, _| redirect("https://app.openclaw.example:8443/x")).await;
    assert_says(&diagnosis, Verdict::Fails, &["redirects to https://", "only to 80 and 443"]);
    let diagnosis = examined(|_, _| redirect("http://unknown.openclaw.example/")).await;
    assert_says(&diagnosis, Verdict::Fails, &["DNS has no address of unknown"]);
    let diagnosis = examined(|_, _| reply("301 Moved", "X: y", "")).await;
    assert_says(&diagnosis, Verdict::Fails, &["without saying where"]);
    // Our own server, asked under a name that has no such token.
    let diagnosis = examined(|edge, head| match head.contains("other.") {
        false => redirect("http://other.openclaw.example/x"),
        true => edge.answer(head),
    })
    .await;
    assert_says(&diagnosis, Verdict::Fails, &["after a redirect to http://other", "404"]);
}

#[tokio::test]
async fn a_redirect_to_tls_with_an_untrusted_certificate() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.alias(APP, "edge.openclaw.example");
    zone.address("edge.openclaw.example", "127.0.0.1");
    let (http, mut plain) = listeners(&["127.0.0.1"]).await;
    let (https, mut secure) = listeners(&["127.0.0.1"]).await;
    serve(plain.remove(0), |head| {
        redirect(&format!("https://{APP}{}", head.split(' ').nth(1).unwrap()))
    });
    let server = edge.clone();
    serve_tls(secure.remove(0), move |head| server.answer(head));
    let context = Context { https_port: https, ..zone.context(http) };
    let diagnosis = examine("App.OpenClaw.example.", &context, &edge).await;
    assert_says(&diagnosis, Verdict::Works, &[]);
    assert_eq!(diagnosis.host, APP);
    assert!(diagnosis.details().contains("after a redirect to https://app"), "{diagnosis:?}");
}

#[tokio::test]
async fn nothing_listens() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.1");
    let (port, _held) = closed_port("127.0.0.1");
    let diagnosis = examine(APP, &zone.context(port), &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["nothing answers", "127.0.0.1: connection refused"]);
}

#[tokio::test]
async fn an_aaaa_record_that_does_not_answer() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.1");
    zone.address(APP, "::1");
    let (port, mut at) = listeners(&["127.0.0.1"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    let diagnosis = examine(APP, &zone.context(port), &edge).await;
    assert_says(&diagnosis, Verdict::Works, &["at 127.0.0.1; but AAAA ::1 does not answer"]);
    let own = Some(vec!["127.0.0.1".parse().unwrap()]);
    let diagnosis = examine(APP, &Context { own, ..zone.context(port) }, &edge).await;
    assert_says(&diagnosis, Verdict::Works, &["but AAAA ::1 is not an address of this machine"]);
}

#[tokio::test]
async fn a_second_address_with_another_server() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.1");
    zone.address(APP, "127.0.0.2");
    let (port, mut at) = listeners(&["127.0.0.1", "127.0.0.2"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    serve(at.remove(0), |_| reply("404 Not Found", "Server: Apache", ""));
    let own = Some(vec!["127.0.0.1".parse().unwrap()]);
    let diagnosis = examine(APP, &Context { own, ..zone.context(port) }, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["127.0.0.2", "another server", "Server: Apache"]);
}

#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_the_patience() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.1");
    // The kernel takes the connection; nobody ever reads from it.
    let (port, _at) = listeners(&["127.0.0.1"]).await;
    let patience = Duration::from_millis(300);
    let start = Instant::now();
    let diagnosis = examine(APP, &Context { patience, ..zone.context(port) }, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["takes the connection and gives no answer in 0.3 s"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn behind_nat_nothing_is_called_a_failure() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.9");
    let own = Some(vec!["127.0.0.1".parse().unwrap()]);
    let (port, mut at) = listeners(&["127.0.0.1"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    let context = Context { own, ..zone.context(port) };
    let diagnosis = examine(APP, &context, &edge).await;
    assert_says(&diagnosis, Verdict::Unknown, &["127.0.0.9 is not on this machine", "hairpin"]);
    assert!(diagnosis.to_string().contains("cannot be told from here"));
    // A router that does lead back: the address is on no interface, and that is no failure.
    let (port, mut at) = listeners(&["127.0.0.9"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    let context = Context { http_port: port, ..context };
    assert_says(&examine(APP, &context, &edge).await, Verdict::Works, &["127.0.0.9"]);
}

#[tokio::test]
async fn neither_there_nor_at_home() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.9");
    let own = Some(vec!["127.0.0.1".parse().unwrap()]);
    let (port, _held) = closed_port("127.0.0.1");
    let diagnosis = examine(APP, &Context { own, ..zone.context(port) }, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["127.0.0.9", "does not answer locally either"]);
}

#[tokio::test]
async fn a_private_address_may_be_split_dns() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.address(APP, "127.0.0.1");
    let (port, mut at) = listeners(&["127.0.0.1"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    let context = Context { public_ca: true, ..zone.context(port) };
    let diagnosis = examine(APP, &context, &edge).await;
    assert_says(&diagnosis, Verdict::Unknown, &["reserved for the machine itself"]);
}

#[tokio::test]
async fn dns_that_has_no_answer() {
    let (zone, edge) = (Zone::start(), Edge::default());
    zone.broken("broken.openclaw.example");
    let context = zone.context(80);
    let diagnosis = examine("none.openclaw.example", &context, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["DNS", "none.openclaw.example"]);
    let diagnosis = examine("broken.openclaw.example", &context, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["record of broken.openclaw.example fails"]);
    // A DNS server of ours that is gone says nothing about what a CA sees.
    let patience = Duration::from_millis(200);
    drop(zone);
    let diagnosis = examine(APP, &Context { patience, ..context }, &edge).await;
    assert_says(&diagnosis, Verdict::Unknown, &["DNS could not be asked"]);
}

#[tokio::test]
async fn caa_records() {
    let (zone, edge) = (Zone::start(), Edge::default());
    let (port, mut at) = listeners(&["127.0.0.1"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    let context = zone.context(port);
    let tags = [
        ("letsencrypt.org", Verdict::Works, "this process answers"),
        ("pki.goog", Verdict::Fails, "CAA of gw.openclaw.example forbids it: only pki.goog"),
        ("letsencrypt.org; validationmethods=dns-01", Verdict::Fails, "only dns-01"),
        (
            "letsencrypt.org; accounturi=https://acme.example/acct/1",
            Verdict::Works,
            "but CAA of gw.openclaw.example: it is bound to the account",
        ),
    ];
    for (number, (value, verdict, part)) in tags.into_iter().enumerate() {
        // Found by climbing; each round below a domain of its own.
        let domain = format!("gw.openclaw.example{number}");
        let host = format!("a.b.{domain}");
        zone.address(&host, "127.0.0.1");
        zone.caa(&domain, "issue", value);
        let part = part.replace("gw.openclaw.example", &domain);
        assert_says(&examine(&host, &context, &edge).await, verdict, &[&part]);
    }
    zone.address("a.broken.example", "127.0.0.1");
    zone.broken("broken.example");
    let diagnosis = examine("a.broken.example", &context, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["the CAA lookup of broken.example fails"]);
}

#[tokio::test]
async fn what_is_known_beforehand() {
    let zone = Zone::start();
    zone.address(APP, "127.0.0.1");
    let edge = Edge { refuses: Some("openclaw-edge does not run".to_owned()), ..Edge::default() };
    let diagnosis = examine(APP, &zone.context(80), &edge).await;
    assert_says(&diagnosis, Verdict::Unknown, &["is not known: openclaw-edge does not run"]);

    let skewed = Context { clock_skew: Some(-3600), ..zone.context(80) };
    let diagnosis = examine(APP, &skewed, &edge).await;
    assert_eq!(diagnosis.verdict, Verdict::Unknown, "no CA refuses for a clock of ours");
    assert!(diagnosis.details().contains("hint    this machine's clock is 3600 s ahead of"));
    let silent = Context { ca_silent: Some("connection refused".to_owned()), ..zone.context(80) };
    let diagnosis = examine(APP, &silent, &edge).await;
    assert_says(&diagnosis, Verdict::Fails, &["the CA cannot be asked: connection refused"]);
    assert!(diagnosis.details().contains("ok      DNS: app.openclaw.example is 127.0.0.1"));
    let budget = Some(Budget { text: "next order in 3 days".to_owned(), spent: true });
    let failed = Some("the last attempt failed".to_owned());
    let near = Context { clock_skew: Some(60), budget, failed, ..zone.context(80) };
    let diagnosis = examine(APP, &near, &edge).await;
    assert!(diagnosis.details().contains("ok      this machine's clock agrees"));
    let told = "hint    the last attempt failed\n  hint    budget: next order in 3 days\n";
    assert!(diagnosis.details().ends_with(told), "{}", diagnosis.details());
}

#[tokio::test]
async fn names_that_http_01_cannot_prove() {
    let context =
        Context { nameservers: vec!["127.0.0.1:1".parse().unwrap()], ..Context::default() };
    for (host, part) in [("*.gw.openclaw.example", "wildcard"), ("a b", "letters, digits")] {
        let diagnosis = examine(host, &context, &Edge::default()).await;
        assert_says(&diagnosis, Verdict::Fails, &[part]);
        assert_eq!(diagnosis.findings.len(), 1);
    }
}

/// The control thread spawns it.
#[test]
fn the_examination_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let (context, edge) = (Context::default(), Edge::default());
    is_send(&examine(APP, &context, &edge));
}

#[tokio::test]
async fn an_address_needs_no_dns() {
    let edge = Edge::default();
    let (port, mut at) = listeners(&["127.0.0.1"]).await;
    let server = edge.clone();
    serve(at.remove(0), move |head| server.answer(head));
    let nameservers = vec!["127.0.0.1:1".parse().unwrap()];
    let context = Context { nameservers, http_port: port, public_ca: false, ..Context::default() };
    let diagnosis = examine("127.0.0.1", &context, &edge).await;
    assert_eq!(diagnosis.to_string(), "127.0.0.1: will work: this process answers at 127.0.0.1");
    let shown = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(shown["verdict"], "works");
    assert_eq!(shown["findings"][0]["level"], "ok");
}
