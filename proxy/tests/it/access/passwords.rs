//! By password.

use super::*;
use crate::harness::backend::ok;
use crate::harness::h2c::finish;
use crate::harness::wait_until;

/// A user for each scheme; the password of all is `bGz4-vault otter`. Made by `htpasswd -B -C 6`,
/// `mkpasswd -m bcrypt-a`, `argon2 -id`, `htpasswd -2`, `htpasswd -5`, `htpasswd -s`.
const SCHEMES: [&str; 6] = [
    "bcrypt:$2y$06$zaSQxZFAagjwJp5JJ4NDmerTlLuhQrNnUPL20BA9.6Xg8dXhEBxm.",
    "bcrypt-a:$2a$05$mXDpjqPUQkyLwjUeSDMFX.t2rzeVhMuJgtr/5B0VfqbrKz7fQMFRC",
    "argon2:$argon2id$v=19$m=4096,t=2,p=1$NjNjMjA2Y2Y1YWJiZDVlOQ$hUSWxDVlfdLP3Bl9jD6SWY3eNyKxBmg4dOB6kzhNAn4",
    "sha256:$5$L5B0p.THinpgtwjB$x6sulkVlVXxszUVskKcKQ2L5AFttZ0Nvsjzh/K9yp1A",
    "sha512:$6$KQ5JkaE8oF7TQur7$v9GBUqmnKWv4NS41G/n9M4bajO3z6TXWCaGbtU8KiGIq/AslPRQGFke.RqoVIhTMkM0aps7MrankHRIBoe5LA0",
    "sha1:{SHA}e5qIKNGWrs7gJ1iMh4E8gK4I5Kg=",
];

#[test]
fn a_file_of_every_scheme() {
    let backend = Backend::ok();
    let lab = crate::harness::Lab::new();
    let file = lab.write("htpasswd", SCHEMES.join("\n") + "\n# a comment\n\n");
    let access = format!("basic_auth: \"${{file:{}}}\"", file.display());
    let edge = Edge::start_in(&lab, &conf(&backend, &access));
    let mut both = Both::to(&edge);
    for (n, user) in SCHEMES.iter().enumerate() {
        let user = user.split(':').next().unwrap();
        let from = from(&format!("192.0.2.{n}"));
        both.assert("/", &format!("{from}{}", line(user, "bGz4-vault otter")), 200, "");
        for wrong in ["", "bGz4-vault otte", "bGz4-vault otter ", "Bgz4-vault otter"] {
            let lines = format!("{from}{}", line(user, wrong));
            both.assert("/", &lines, 401, "auth_required");
        }
        // Remembered by now.
        both.assert("/", &format!("{from}{}", line(user, "bGz4-vault otter")), 200, "");
    }
    let passed = fields(&backend.requests(), "authorization");
    assert!(passed.len() == 24 && passed.iter().all(Vec::is_empty), "{passed:?}");
    let told = edge.stderr() + &edge.access_log_lines().join("\n");
    assert!(!told.contains("otter") && !told.contains(&basic("sha1", "bGz4-vault otter")[6..]));
}

#[test]
fn whoever_is_not_known_is_told_how_to_come_in() {
    let backend = Backend::ok();
    let access = format!("basic_auth: {{ users: \"{ANN}\", realm: nango }}");
    let edge = Edge::start(&conf(&backend, &access));
    let (mut h1, h2) = (edge.client(), H2::connect(&edge.tls(), HOST));
    let challenge = "Basic realm=\"nango\", charset=\"UTF-8\"";
    let long = line("ann", &"a".repeat(1025));
    for lines in [
        "",
        "Authorization: \r\n",
        "Authorization: Basic\r\n",
        "Authorization: Basic !!!\r\n",
        "Authorization: Basic YW5u\r\n",
        "Authorization: Bearer cmlnaHQ=\r\n",
        "Authorization: Digest username=\"ann\"\r\n",
        // `ann:ri\0ght`.
        "Authorization: Basic YW5uOnJpAGdodA==\r\n",
        "Proxy-Authorization: Basic YW5uOnJpZ2h0\r\n",
        &long,
        &line("eve", "right"),
        &line("Ann", "right"),
        &line("ann", "wrong"),
        &line("", ""),
    ] {
        let response = ask(&mut h1, "GET", "/", lines);
        response.assert_cause(401, "auth_required");
        assert_eq!(response.header("www-authenticate"), Some(challenge));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let response = ask_h2(&h2, "GET", "/", lines);
        response.assert_cause(401, "auth_required");
        assert_eq!(response.header("www-authenticate"), challenge);
    }
    let head = ask(&mut h1, "HEAD", "/", &line("ann", "wrong"));
    head.assert_cause(401, "auth_required");
    assert_eq!(head.header("www-authenticate"), Some(challenge));
    // The connection is as good as before.
    ask(&mut h1, "GET", "/", &line("ann", "right")).assert_ok("ok");
    assert_eq!(ask_h2(&h2, "GET", "/", &line("ann", "right")).text(), "ok");
    assert_eq!(backend.requests().len(), 2);
    assert_eq!(edge.metric("edge_auth_decisions_total{result=\"wrong\"}"), 29.0);
}

#[test]
fn every_spelling_of_the_field_is_read_and_none_is_passed_on() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{ANN}\"")));
    let mut both = Both::to(&edge);
    let token = &basic("ann", "right")[6..];
    for lines in
        [format!("authorization: basic {token}\r\n"), format!("AUTHORIZATION: BASIC   {token}\r\n")]
    {
        both.assert("/", &lines, 200, "");
    }
    // Of two, nobody knows which one the endpoint would have believed.
    for lines in [
        format!("Authorization: Bearer x\r\nAuthorization: Basic {token}\r\n"),
        format!("Authorization: Basic {token}\r\nAuthorization: Bearer x\r\n"),
    ] {
        both.assert("/", &lines, 400, "bad_request");
    }
    let passed = fields(&backend.requests(), "authorization");
    assert!(passed.len() == 4 && passed.iter().all(Vec::is_empty), "{passed:?}");
}

#[test]
fn what_the_edge_answers_by_itself_is_guarded_too() {
    let access = format!("access: {{ basic_auth: \"{ANN}\\n{BOB}\" }}");
    let edge = Edge::start(&Conf::new(format!(
        "routes:\n  fixed: {{ hosts: [{HOST}], respond: {{ status: 200, body: secret }}, {access} }}\n  \
         moved: {{ hosts: [{HOST}], path: /moved, redirect: {{ host: new.openclaw.example, path: /secret }}, {access} }}\n"
    )));
    let (mut h1, h2) = (edge.client(), H2::connect(&edge.tls(), HOST));
    for lines in [String::new(), line("ann", "wrong"), line("bob", "wrong")] {
        for target in ["/", "/moved"] {
            let response = ask(&mut h1, "GET", target, &lines);
            response.assert_cause(401, "auth_required");
            assert!(!response.text().contains("secret") && response.header("location").is_none());
            let response = ask_h2(&h2, "GET", target, &lines);
            response.assert_cause(401, "auth_required");
            assert!(!response.text().contains("secret") && response.header("location").is_empty());
        }
    }
    // The first time it has to be awaited.
    for user in ["ann", "bob"] {
        ask(&mut h1, "GET", "/", &line(user, "right")).assert_ok("secret");
        assert_eq!(ask_h2(&h2, "GET", "/", &line(user, "right")).text(), "secret");
        let moved = ask(&mut h1, "GET", "/moved", &line(user, "right"));
        assert_eq!(
            (moved.status, moved.header("location").unwrap().ends_with("/secret")),
            (308, true)
        );
        let moved = ask_h2(&h2, "GET", "/moved", &line(user, "right"));
        assert_eq!((moved.status, moved.header("location").ends_with("/secret")), (308, true));
    }
}

#[test]
fn an_answer_that_waits_for_its_password_does_so_on_http2_first_too() {
    let access = format!("access: {{ basic_auth: \"{BOB}\" }}");
    let edge = Edge::start(&Conf::new(format!(
        "routes:\n  fixed: {{ hosts: [{HOST}], respond: {{ status: 200, body: secret }}, {access} }}\n"
    )));
    let h2 = H2::connect(&edge.tls(), HOST);
    assert_eq!(ask_h2(&h2, "GET", "/", &line("bob", "right")).text(), "secret");
    assert_eq!(ask_h2(&h2, "GET", "/", &line("bob", "wrong")).status, 401);
}

#[test]
fn the_size_of_a_body_is_nothing_for_strangers() {
    let backend = Backend::canned(ok("ok"));
    let keys = format!("body_limit: 8B, access: {{ basic_auth: \"{ANN}\" }}");
    let edge = Edge::start(&route(&backend, &keys));
    let post = |lines: &str, body: &str| {
        let mut client = edge.client();
        let length = body.len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        ));
        client.response()
    };
    post("", "123456789").assert_cause(401, "auth_required");
    post(&line("ann", "wrong"), "123456789").assert_cause(401, "auth_required");
    post(&line("ann", "right"), "123456789").assert_cause(413, "body_too_large");
    post(&line("ann", "right"), "12345678").assert_ok("ok");
    assert_eq!(backend.only().body.bytes, b"12345678");
    // Nor is a body asked for.
    let mut client = edge.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\n{}Expect: 100-continue\r\nContent-Length: 8\r\n\r\n",
        line("ann", "guess")
    ));
    let response = client.response();
    response.assert_cause(401, "auth_required");
    assert!(response.interim.is_empty(), "{response:?}");
}

/// The body comes while the password is verified and reaches the backend whole.
#[test]
fn a_body_waits_with_its_request() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\"")));
    let body = "x".repeat(300_000);
    let mut client = edge.client();
    let (length, right) = (body.len(), line("bob", "right"));
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\n{right}Content-Length: {length}\r\n\r\n{body}"
    ));
    client.response().assert_ok("ok");
    assert_eq!(backend.only().body.bytes.len(), length);
    ask(&mut client, "GET", "/", &right).assert_ok("ok");

    let h2 = H2::connect(&edge.tls(), HOST);
    let request =
        Request::post(format!("https://{HOST}/")).header("authorization", basic("bob", "right "));
    let response = h2.exchange(request.body(()).unwrap(), body.as_bytes()).unwrap();
    response.assert_cause(401, "auth_required");
    assert_eq!(backend.requests().len(), 2);
}

/// Requests that come behind one whose password is being verified are answered after it, in order.
#[test]
fn pipelined_requests_wait_their_turn() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(request.target()));
        }
    });
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\", except: [/open]")));
    let request =
        |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
    let mut client = edge.client();
    client.send(
        request("/1", &line("bob", "right"))
            + &request("/open", "")
            + &request("/2", &line("bob", "wrong"))
            + &request("/3", "")
            + &request("/4", &line("bob", "right")),
    );
    client.response().assert_ok("/1");
    client.response().assert_ok("/open");
    client.response().assert_cause(401, "auth_required");
    client.response().assert_cause(401, "auth_required");
    client.response().assert_ok("/4");
    assert_eq!(backend.requests().len(), 3);
}

/// Streams of one connection are apart: one that waits for its password holds up no other.
#[test]
fn a_stream_that_waits_holds_up_no_other() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\", except: [/open]")));
    let h2 = H2::connect(&edge.tls(), HOST);
    let get = |target: &str, password: &str| {
        let request = Request::get(format!("https://{HOST}{target}"));
        request.header("authorization", basic("bob", password)).body(()).unwrap()
    };
    // In one go; of the same client, which may have one password verified at a time.
    let send = h2.send.clone();
    let [guess, open, right] = h2.block(async move {
        let mut send = send.ready().await.unwrap();
        [("/", "wrong"), ("/open", "wrong"), ("/", "right")]
            .map(|(target, password)| send.send_request(get(target, password), true).unwrap().0)
    });
    let open = h2.block(finish(open)).unwrap();
    assert_eq!(open.text(), "ok");
    let right = h2.block(finish(right)).unwrap();
    right.assert_cause(503, "over_capacity (passwords)");
    assert_eq!(right.header("retry-after"), "1");
    h2.block(finish(guess)).unwrap().assert_cause(401, "auth_required");
    assert_eq!(ask_h2(&h2, "GET", "/", &line("bob", "right")).text(), "ok");
}

#[test]
fn limits_by_identity_are_for_those_who_are_let_in() {
    let backend = Backend::ok();
    let keys = format!(
        "access: {{ basic_auth: \"{ANN}\\n{BOB}\" }}, \
         rate_limits: [ {{ name: user, key: \"header:authorization\", rate: 2/h }}, \
         {{ name: tenant, key: \"header:x-tenant\", rate: 3/h }} ]"
    );
    let edge = Edge::start(&route(&backend, &keys));
    let mut client = edge.client();
    let tenant = "X-Tenant: a\r\n";
    // Wrong at once, wrong after a while, wrong and remembered.
    for password in ["wrong", "wrong", "wrong again"] {
        for user in ["ann", "bob"] {
            let lines = format!("{tenant}{}", line(user, password));
            ask(&mut client, "GET", "/", &lines).assert_cause(401, "auth_required");
        }
    }
    ask(&mut client, "GET", "/", tenant).assert_cause(401, "auth_required");
    for (user, limit) in [("ann", "user"), ("bob", "tenant")] {
        let lines = format!("{tenant}{}", line(user, "right"));
        let passes = if user == "ann" { 2 } else { 1 };
        for _ in 0..passes {
            ask(&mut client, "GET", "/", &lines).assert_ok("ok");
        }
        let refused = ask(&mut client, "GET", "/", &lines);
        refused.assert_cause(429, &format!("rate_limited ({limit})"));
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn limits_by_address_come_before_the_password() {
    let backend = Backend::ok();
    let keys = format!(
        "access: {{ basic_auth: \"{ANN}\" }}, rate_limits: [ {{ key: client_ip, rate: 2/h }} ]"
    );
    let edge = Edge::start(&route(&backend, &keys));
    let mut client = edge.client();
    let guess = |n: u8| format!("{}{}", from("192.0.2.1"), line("ann", &n.to_string()));
    for n in 0..2 {
        ask(&mut client, "GET", "/", &guess(n)).assert_cause(401, "auth_required");
    }
    ask(&mut client, "GET", "/", &guess(3)).assert_cause(429, "rate_limited");
    let right = format!("{}{}", from("192.0.2.1"), line("ann", "right"));
    ask(&mut client, "GET", "/", &right).assert_cause(429, "rate_limited (client_ip)");
    assert!(backend.requests().is_empty());
}

#[test]
fn who_leaves_before_the_verdict_leaves_nothing_behind() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\"")));
    let in_flight = || edge.metric("edge_http_requests_in_flight{route=\"app\"}");
    let nobody = || wait_until("nothing to be in flight", || in_flight() == 0.0);
    // Each from an address of its own: the queue takes them all, and takes a while.
    let lines = |n: usize| format!("{}{}", from(&format!("192.0.2.{n}")), line("bob", "right "));
    let mut clients: Vec<Client> = (0..8).map(|_| edge.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /h1 HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", lines(n)));
    }
    wait_until("requests to wait for their verdicts", || in_flight() >= 2.0);
    for (n, client) in clients.iter_mut().enumerate() {
        if n % 2 == 0 {
            client.wire.reset_on_close();
        }
    }
    drop(clients);
    nobody();

    let h2 = H2::connect(&edge.tls(), HOST);
    let open: Vec<_> = (10..18)
        .map(|n| {
            let request = Request::get(format!("https://{HOST}/h2"))
                .header("x-forwarded-for", format!("192.0.2.{n}"))
                .header("authorization", basic("bob", &format!("guess {n}")));
            h2.open(request.body(()).unwrap(), true)
        })
        .collect();
    h2.run_for(std::time::Duration::from_millis(20));
    wait_until("streams to wait for their verdicts", || in_flight() >= 2.0);
    for (response, mut stream) in open {
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
    h2.run_for(std::time::Duration::from_millis(20));
    nobody();
    // Both connections' worker goes on, and nothing was forwarded.
    assert!(backend.requests().is_empty());
    assert_eq!(ask_h2(&h2, "GET", "/", &line("bob", "right")).text(), "ok");
}

/// What the edge says to the backend for itself stays, whoever the client is.
#[test]
fn a_route_may_have_credentials_of_its_own_for_the_backend() {
    let backend = Backend::ok();
    let keys = format!(
        "access: {{ basic_auth: \"{ANN}\", except: [/open] }}, \
         headers: {{ request: {{ set: {{ Authorization: Bearer of-the-edge }} }} }}"
    );
    let edge = Edge::start(&route(&backend, &keys));
    let mut both = Both::to(&edge);
    both.assert("/", &line("ann", "right"), 200, "");
    both.assert("/open", "Authorization: Bearer of-the-client\r\n", 200, "");
    both.assert("/", "Authorization: Bearer of-the-edge\r\n", 401, "auth_required");
    let seen = fields(&backend.requests(), "authorization");
    assert_eq!(seen, vec![["Bearer of-the-edge"]; 4]);
}

#[test]
fn http_1_0_is_asked_as_well() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\"")));
    for (lines, status) in [(String::new(), 401), (line("bob", "right"), 200)] {
        let mut client = edge.client();
        client.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n{lines}\r\n"));
        assert_eq!(client.response().status, status);
        client.assert_closed();
    }
    assert_eq!(backend.requests().len(), 1);
}
