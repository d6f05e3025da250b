//! Where limits stand among the other steps: after the address is known, before and after the
//! password, and before everything that the edge would answer by itself.

use http::Request;

use super::{HOST, get, left, limited, named, passed};
use crate::harness::h2c::{H2, finish, push};
use crate::harness::{Backend, Conf, Edge, wait_until};

/// `openssl passwd -6 -salt abcdefgh secret`
const SECRET: &str = "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";
/// `ann:secret` and `ann:guess`
const RIGHT: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic YW5uOmd1ZXNz\r\n";

/// Limits by identity ask who has shown a password; what an address asks counts before that.
#[test]
fn a_password_stands_between_address_and_identity() {
    let backend = Backend::ok();
    let limits = "{ name: user, key: \"header:authorization\", rate: 1/h, burst: 2, \
          concurrent: 1, missing: refuse }, \
        { name: address, key: client_ip, rate: 1/h, burst: 7 }";
    let access = format!("access: {{ basic_auth: \"ann:{SECRET}\" }}");
    let route = format!("rate_limits: [{limits}], {access}");
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", &route));
    let mut client = edge.client();
    let decided = |decision: &str| {
        let labels = format!("limit=\"user\",decision=\"{decision}\"");
        edge.metric(&format!("edge_rate_limit_decisions_total{{{labels}}}"))
    };
    get(&mut client, "/", WRONG).assert_cause(401, "auth_required");
    assert_eq!(decided("passed"), 0.0);
    for _ in 0..2 {
        get(&mut client, "/", RIGHT).assert_ok("ok");
    }
    // Before its body is read, on both protocols.
    let head = format!("POST /up HTTP/1.1\r\nHost: {HOST}\r\n{RIGHT}");
    client.send(format!("{head}Content-Length: 1000\r\n\r\nhalf"));
    let response = client.response();
    response.assert_cause(429, "rate_limited (user)");
    assert_eq!(edge.wait_log("path", "/up")["limit"], "user");
    client.assert_closed();
    let h2 = H2::connect(&edge.tls(), HOST);
    let request = Request::post(format!("https://{HOST}/"));
    let request = request.header("authorization", "Basic YW5uOnNlY3JldA==").body(()).unwrap();
    let (response, mut stream) = h2.open(request, false);
    let response = h2.block(async {
        push(&mut stream, b"half", false).await.unwrap();
        finish(response).await.unwrap()
    });
    response.assert_cause(429, "rate_limited (user)");
    assert_eq!(left(response.header("ratelimit"), "user").0, 0);
    // The small body that came with the head costs nothing here either.
    let mut client = edge.client();
    client.send(format!("{head}Content-Length: 4\r\n\r\nbody"));
    let response = client.response();
    response.assert_cause(429, "rate_limited (user)");
    assert!(!response.head.has("connection"), "{response:?}");
    // Six were counted on the address; the seventh is its last, whoever asks.
    get(&mut client, "/", WRONG).assert_cause(401, "auth_required");
    get(&mut client, "/", WRONG).assert_cause(429, "rate_limited (address)");
    get(&mut client, "/", "").assert_cause(429, "rate_limited (address)");
    assert_eq!((decided("passed"), decided("refused")), (2.0, 3.0));
    assert_eq!(edge.metric("edge_rate_limit_streams"), 0.0);
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn what_the_edge_answers_itself_is_limited_as_well() {
    let limits = "rate_limits: [{ name: dry, key: route, rate: 1/h, burst: 1, dry_run: true }, \
        { name: wet, key: route, rate: 1/h, burst: 2, concurrent: 1, announce: true }]";
    let fixed = "respond: { status: 200, body: fixed }";
    let moved = "redirect: { host: new.openclaw.example }";
    let edge = Edge::start(&Conf::new(format!(
        "routes:\n  fixed: {{ hosts: [{HOST}], {fixed}, {limits} }}\n  \
         moved: {{ hosts: [{HOST}], path: /moved, {moved}, {limits} }}\n"
    )));
    let h2 = H2::connect(&edge.tls(), HOST);
    let mut client = edge.client();
    let response = get(&mut client, "/", "");
    response.assert_ok("fixed");
    assert_eq!(left(response.header("ratelimit").unwrap(), "wet").0, 1);
    let response = h2.get(&format!("https://{HOST}/h2"));
    assert_eq!((response.status, response.text().as_str()), (200, "fixed"));
    assert_eq!(left(response.header("ratelimit"), "wet").0, 0);
    assert_eq!(edge.wait_log("path", "/h2")["limit_dry_run"], "dry");
    assert_eq!(named(&get(&mut client, "/", "")), "wet");
    h2.get(&format!("https://{HOST}/")).assert_cause(429, "rate_limited (wet)");
    let moved = |status| (get(&mut edge.client(), "/moved", "").status, status);
    for (got, status) in [moved(308), moved(308), moved(429)] {
        assert_eq!(got, status);
    }
    assert_eq!(edge.metric("edge_rate_limit_streams"), 0.0);
}

#[test]
fn an_address_in_a_proxy_header_is_the_client() {
    let backend = Backend::ok();
    let limit = "{ key: client_ip, rate: 1/h, burst: 2 }";
    let edge = Edge::start(&limited(&backend, limit).both("proxy_protocol: [127.0.0.0/8]"));
    let by = |address: &str| {
        let mut client = edge.client();
        client.send(format!("PROXY TCP4 {address} 192.0.2.1 1 2\r\n"));
        (0..4).find(|_| get(&mut client, "/", "").status != 200).unwrap_or(4)
    };
    assert_eq!((by("192.0.2.7"), by("192.0.2.7"), by("192.0.2.8")), (2, 0, 2));
}

/// A tunnel, a HEAD and a request that goes to no route are what they are.
#[test]
fn methods_of_all_kinds_count() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, "{ key: client_ip, rate: 1/h, burst: 2 }"));
    let mut client = edge.client();
    client.send(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(client.response_to("HEAD").unwrap().status, 200);
    client.get("nobody.openclaw.example", "/").assert_cause(404, "unknown_host");
    client.send(format!("OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    client.send(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let response = client.response_to("HEAD").unwrap();
    response.assert_cause(429, "rate_limited");
    assert!(response.header("content-length").is_some_and(|n| n != "0"), "{response:?}");
    get(&mut client, "/", "").assert_cause(429, "rate_limited");
}

#[test]
fn the_admin_shows_each_limit_and_its_busiest_keys() {
    let backend = Backend::ok();
    let limits = "{ name: user, key: [\"header:authorization\", client_ip], rate: 2/h, burst: 3 }, \
        { name: few, key: client_ip, concurrent: 4 }";
    let edge = Edge::start(&limited(&backend, limits));
    assert_eq!(passed(&edge, "Authorization: Bearer one\r\n", 5), 3);
    assert_eq!(passed(&edge, "Authorization: Bearer two\r\n", 1), 1);
    wait_until("the last place to come back", || edge.metric("edge_rate_limit_streams") == 0.0);
    let limits = edge.admin("/api/v1/limits").json();
    let [route] = &limits["routes"].as_array().unwrap()[..] else { panic!("{limits}") };
    assert_eq!(route["route"], "app");
    // In the order in which they are asked.
    let [few, user] = &route["limits"].as_array().unwrap()[..] else { panic!("{limits}") };
    assert_eq!((&user["name"], &few["name"]), (&"user".into(), &"few".into()), "{limits}");
    assert_eq!(user["key"].to_string(), "[\"header:authorization\",\"client_ip\"]");
    assert_eq!((&user["rate"], &user["burst"]), (&"2/h".into(), &3.into()), "{limits}");
    assert_eq!(
        (&user["decisions"]["passed"], &user["decisions"]["refused"]),
        (&4.into(), &1.into())
    );
    assert_eq!((&few["concurrent"], &few["streams"]), (&4.into(), &0.into()), "{limits}");
    // The one by address saw the refused request too.
    assert_eq!((&user["keys"], &few["decisions"]["passed"]), (&2.into(), &5.into()), "{limits}");
    let hottest = user["hottest"].as_array().unwrap();
    assert_eq!(hottest.len(), 2, "{limits}");
    assert!(hottest[0]["recent_requests"].as_u64() >= hottest[1]["recent_requests"].as_u64());
    for key in hottest {
        let text = key["key"].as_str().unwrap();
        assert!(text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()), "{limits}");
    }
}
