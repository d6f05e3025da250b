//! Every case of the desync corpus, over plaintext and TLS: what the client is told and what the
//! backends receive, byte for byte. The corpus file says what is expected in words; here each id
//! has its outcome as a function, and the two lists are compared.

use std::time::Duration;

use crate::harness::backend::ok;
use crate::harness::wire::{Framing, Head};
use crate::harness::{Backend, Client, Conf, Edge, End, Response, wait_until, ws};

const CORPUS: &str = include_str!("corpus/desync.jsonl");
const HOST: &str = "app.example";

/// One case over one transport, with a backend of its own.
struct Case {
    edge: Edge,
    backend: Backend,
    tls: bool,
    request: String,
}

impl Case {
    fn connect(&self) -> Client {
        if self.tls { self.edge.tls_client(HOST) } else { self.edge.client() }
    }

    /// Sends the corpus bytes.
    fn sent(&self) -> Client {
        self.sent_bytes(&self.request)
    }

    fn sent_bytes(&self, bytes: &str) -> Client {
        let mut client = self.connect();
        client.send(bytes);
        client
    }

    /// Answered with one of these, closed, and nothing reached a backend.
    #[track_caller]
    fn rejected(&self, statuses: &[u16]) {
        self.rejects(&self.request, statuses);
    }

    #[track_caller]
    fn rejects(&self, bytes: &str, statuses: &[u16]) {
        let mut client = self.sent_bytes(bytes);
        let response = client.response();
        assert!(statuses.contains(&response.status), "{bytes:?}: {response:?}");
        client.assert_closed();
        assert!(self.all_bytes().is_empty(), "{bytes:?} reached a backend: {:?}", self.all_bytes());
    }

    /// Answered with one of these; nothing reached a backend.
    #[track_caller]
    fn answered(&self, bytes: &str, statuses: &[u16]) -> Response {
        let response = self.sent_bytes(bytes).response();
        assert!(statuses.contains(&response.status), "{bytes:?}: {response:?}");
        assert!(self.all_bytes().is_empty(), "{bytes:?} reached a backend: {:?}", self.all_bytes());
        response
    }

    /// 400 and close, or close; what went upstream was never completed.
    #[track_caller]
    fn aborted(&self, bytes: &str) {
        let mut client = self.sent_bytes(bytes);
        match client.response_to("POST") {
            Ok(response) => {
                assert_eq!(response.status, 400, "{response:?}");
                client.assert_closed();
            }
            Err(end) => assert!(matches!(end, End::Closed | End::Reset), "{end:?}"),
        }
        wait_until("the upstream request to be aborted", || self.backend.open() == 0);
        let complete = self.backend.requests().into_iter().filter(|r| r.body.cut.is_none());
        assert_eq!(complete.count(), 0, "an ambiguous body was completed upstream");
    }

    /// The request as it reached the backend.
    #[track_caller]
    fn forwarded(&self) -> crate::harness::backend::Request {
        self.sent().response().assert_ok("ok");
        self.backend.only()
    }

    fn all_bytes(&self) -> String {
        String::from_utf8(self.backend.bytes().concat()).unwrap()
    }

    /// Another client is not affected, and everything upstream is canonical HTTP/1.1.
    fn settle(&self) {
        for request in self.backend.requests() {
            assert_canonical(&request.head);
        }
        for bytes in self.backend.bytes() {
            let lone = bytes
                .iter()
                .enumerate()
                .any(|(at, byte)| *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
            assert!(!lone, "a bare LF went upstream: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// One Host, length or chunked, origin-form, no field that the edge must keep to itself.
fn assert_canonical(head: &Head) {
    let parts: Vec<&str> = head.first.split(' ').collect();
    assert_eq!(parts.len(), 3, "{head:?}");
    assert!(parts[1].starts_with('/') || parts[1] == "*", "{head:?}");
    assert_eq!(parts[2], "HTTP/1.1", "{head:?}");
    assert_eq!(head.all("host").len(), 1, "{head:?}");
    assert!(Framing::of(head, Framing::Length(0)).is_some(), "{head:?}");
    for name in ["expect", "http2-settings", "keep-alive", "proxy-connection"] {
        assert!(!head.has(name), "{head:?}");
    }
    assert!(head.fields.iter().all(|(name, _)| !name.contains('_')), "{head:?}");
}

/// Runs `check` for a corpus id over plaintext and over TLS.
fn run(id: &str, answers: impl Fn() -> Backend, check: fn(&Case)) {
    let request = corpus().into_iter().find(|(other, _)| other == id).expect("in the corpus").1;
    for tls in [false, true] {
        let backend = answers();
        let conf =
            Conf::host(HOST, &[backend.addr], "", "").both("timeouts: { body_progress: 1s }");
        let edge = Edge::start(&conf);
        let case = Case { edge, backend, tls, request: request.clone() };
        check(&case);
        case.settle();
    }
}

fn corpus() -> Vec<(String, String)> {
    let case = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        (text("id"), text("request"))
    };
    CORPUS.lines().filter(|line| !line.is_empty()).map(case).collect()
}

/// One test per id, and the list of ids.
macro_rules! outcomes {
    ($($test:ident, $id:literal: $check:expr;)*) => {
        const IDS: &[&str] = &[$($id),*];
        $(
            #[test]
            fn $test() {
                run($id, Backend::ok, $check);
            }
        )*
    };
}

const BAD: &[u16] = &[400];
const BAD_CODING: &[u16] = &[400, 501];

outcomes! {
    p01_cl_te, "P01": |case| case.rejected(BAD);
    p02_te_cl, "P02": |case| case.rejected(BAD);
    p03_te_te, "P03": transfer_codings;
    p04_te_list, "P04": |case| case.rejected(BAD_CODING);
    p05_te_in_http_1_0, "P05": |case| case.rejected(BAD);
    p06_two_lengths, "P06": two_lengths;
    p07_bad_length, "P07": bad_lengths;
    p08_negative_length, "P08": |case| case.rejected(BAD);
    p09_chunk_size, "P09": chunk_sizes;
    p10_chunk_overflow, "P10": |case| case.aborted(&case.request);
    p11_chunk_bare_lf, "P11": |case| case.aborted(&case.request);
    p12_chunk_extension_lf, "P12": chunk_extensions;
    p13_chunk_extension_size, "P13": chunk_extension_size;
    p14_truncated_body, "P14": truncated_body;
    p15_forbidden_trailers, "P15": forbidden_trailers;
    p16_space_before_colon, "P16": |case| case.rejected(BAD);
    p17_obs_fold, "P17": |case| case.rejected(BAD);
    p18_control_bytes, "P18": control_bytes;
    p19_bad_names, "P19": bad_names;
    p20_underscores, "P20": |case| {
        let request = case.forwarded();
        assert!(!request.head.has("x_real_ip"));
        assert_eq!(request.field("x-real-ip"), "127.0.0.1");
    };
    p21_bare_lf_lines, "P21": |case| case.rejected(BAD);
    p22_no_host, "P22": |case| case.rejected(BAD);
    p23_two_hosts, "P23": |case| {
        case.rejected(BAD);
        case.rejects(&case.request.replace("other.example", HOST), BAD);
    };
    p24_bad_host, "P24": bad_hosts;
    p25_absolute_form, "P25": |case| {
        case.answered(&case.request, &[404, 421, 400]);
    };
    p26_unknown_host, "P26": |case| {
        let response = case.answered(&case.request, &[404, 421]);
        let (status, cause) =
            if case.tls { (421, "misdirected") } else { (404, "unknown_host") };
        response.assert_cause(status, cause);
    };
    p27_connect, "P27": |case| case.rejected(&[405]);
    p28_trace, "P28": |case| case.answered(&case.request, &[405]).assert_cause(405, "method_refused");
    p29_preface, "P29": |case| {
        let mut client = case.sent();
        let (bytes, end) = client.wire.rest();
        assert_ne!(end, End::Timeout);
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 "), "{bytes:?}");
        assert!(case.all_bytes().is_empty());
    };
    p31_h2c, "P31": |case| {
        let request = case.forwarded();
        for name in ["upgrade", "http2-settings", "connection"] {
            assert!(!request.head.has(name), "{request:?}");
        }
    };
    p32_upgrade_with_body, "P32": |case| {
        let mut client = case.sent();
        let response = client.response();
        if response.status == 400 {
            return assert!(case.all_bytes().is_empty());
        }
        response.assert_ok("ok");
        let request = case.backend.only();
        assert!(!request.head.has("upgrade"), "{request:?}");
        assert_eq!(request.body.bytes, b"abc");
    };
    p34_hop_by_hop, "P34": |case| {
        let request = case.forwarded();
        for name in ["connection", "keep-alive", "proxy-connection", "te", "x-foo"] {
            assert!(!request.head.has(name), "{request:?}");
        }
    };
    p35_nominations, "P35": |case| {
        let request = case.forwarded();
        assert_eq!(request.field("host"), HOST);
        assert_eq!(request.field("x-forwarded-proto"), if case.tls { "https" } else { "http" });
    };
    p36_identity, "P36": |case| {
        let request = case.forwarded();
        assert_eq!(request.field("x-forwarded-for"), "127.0.0.1");
        assert_eq!(request.field("x-real-ip"), "127.0.0.1");
        assert_eq!(request.field("x-forwarded-host"), HOST);
        assert!(!request.head.has("forwarded") && !request.head.has("x-forwarded-prefix"));
    };
    p37_body_on_get, "P37": |case| {
        for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
            let request = case.request.replacen("GET", method, 1);
            let mut client = case.sent_bytes(&request);
            let response = client.response_to(method).unwrap();
            if response.status == 400 {
                continue;
            }
            assert_eq!(response.status, 200, "{response:?}");
            let request = case.backend.requests().pop().unwrap();
            assert_eq!((request.method(), &*request.body.bytes), (method, &b"abc"[..]));
            client.assert_usable(HOST);
        }
    };
    p39_expect, "P39": |case| {
        let mut client = case.sent();
        assert_eq!(client.wire.head().unwrap().status(), 100);
        client.send("abc");
        client.response().assert_ok("ok");
        assert!(!case.backend.only().head.has("expect"));
        let other = case.request.replace("100-continue", "200-maybe");
        let response = case.sent_bytes(&other).response();
        assert!(matches!(response.status, 417 | 200), "{response:?}");
    };
    p40_pipelining, "P40": |case| {
        let mut client = case.sent();
        client.response().assert_ok("ok");
        client.response().assert_ok("ok");
        let requests = case.backend.requests();
        let targets: Vec<&str> = requests.iter().map(|r| r.target()).collect();
        assert_eq!(targets, ["/1", "/2"]);
        let mixed = case.request.replacen("GET /2 HTTP/1.1\r\nHost: app", "GET /2 HTTP/1.1\r\nHost: no", 1);
        let mut client = case.sent_bytes(&mixed);
        client.response().assert_ok("ok");
        assert!(matches!(client.response().status, 404 | 421));
    };
    p41_limits, "P41": |case| {
        let get = |target: &str, fields: &str| {
            format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
        };
        let long = format!("X-A: {}\r\n", "a".repeat(40_000));
        case.answered(&get("/", &long), &[431]).assert_cause(431, "head_too_large");
        let many: String = (0..150).map(|n| format!("X-{n}: 1\r\n")).collect();
        case.answered(&get("/", &many), &[431]).assert_cause(431, "head_too_large");
        let target = format!("/{}", "a".repeat(20_000));
        case.answered(&get(&target, ""), &[414]).assert_cause(414, "target_too_long");
    };
    p42_targets, "P42": |case| {
        case.rejected(BAD);
        for target in ["/a\u{1}b", "/a\u{0}b", "/a b", "a", "", "http://a\\b/", "http:///x",
            "//", "/a\tb", "/\u{7f}", "http://user@app.example/", "ftp://app.example/"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            if target == "//" {
                // Two slashes are a path, not an authority.
                case.sent_bytes(&request).response().assert_ok("ok");
                continue;
            }
            let before = case.backend.requests().len();
            let response = case.sent_bytes(&request).response();
            assert!(matches!(response.status, 400 | 404 | 421), "{target:?}: {response:?}");
            assert_eq!(case.backend.requests().len(), before, "{target:?}");
        }
    };
    p43_versions, "P43": |case| {
        case.rejected(&[400, 505]);
        for version in ["HTTP/1.2", "HTTP/0.9", "HTTP/1.10", "HTTP/3.0", "http/1.1", "HTTP/1.1x", "HTTP/11"] {
            case.rejects(&case.request.replace("HTTP/2.0", version), &[400, 505]);
        }
    };
}

/// Cases whose backend matters, or whose bytes are words in the corpus.
const OTHER_IDS: &[&str] = &["P30", "P33", "P38", "P44", "P45", "P46"];

#[test]
fn every_case_of_the_corpus_has_an_outcome() {
    let mut here: Vec<&str> = [IDS, OTHER_IDS].concat();
    here.sort_unstable();
    let corpus = corpus();
    let there: Vec<&str> = corpus.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(here, there);
}

fn transfer_codings(case: &Case) {
    case.rejected(BAD_CODING);
    for coding in [
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "\"chunked\"",
        "chunked;q=1",
        ",chunked",
        "chunked,",
        "\u{b}chunked",
        "chu nked",
        "",
        "x",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "x\r\nTransfer-Encoding: chunked",
    ] {
        case.rejects(&case.request.replace("xchunked", coding), BAD_CODING);
    }
    // OWS and case do not matter (RFC 9112 §7).
    for coding in ["Chunked", "\t chunked \t"] {
        let request = case.request.replace("xchunked", coding);
        case.sent_bytes(&request).response().assert_ok("ok");
    }
    assert!(case.backend.requests().iter().all(|r| r.head.all("transfer-encoding") == ["chunked"]));
}

fn two_lengths(case: &Case) {
    case.rejected(BAD);
    // Equal ones may be refused or collapsed to one.
    let equal = case.request.replace("Content-Length: 4\r\n", "Content-Length: 3\r\n");
    let equal = equal.strip_suffix('d').unwrap();
    let response = case.sent_bytes(equal).response();
    assert!(matches!(response.status, 200 | 400), "{response:?}");
    case.backend.requests().iter().for_each(|r| assert_eq!(r.body.bytes, b"abc"));
}

fn bad_lengths(case: &Case) {
    case.rejected(BAD);
    for length in [
        "",
        "+3",
        "3,3",
        "3, 4",
        "3 3",
        "0x3",
        "3;",
        "\"3\"",
        "3.0",
        "1e1",
        "９",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        case.rejects(&case.request.replace("abc", length), BAD);
    }
}

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn chunk_sizes(case: &Case) {
    case.aborted(&case.request);
    for size in ["0x3", "+3", "-3", "3_0", " 3", "3 ", "", "g", "3.", "1FFFFFFFFFFFFFFFF"] {
        case.aborted(&chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")));
    }
    // Data that is longer or shorter than its chunk.
    case.aborted(&chunked("3\r\nabcd\r\n0\r\n\r\n"));
    case.aborted(&chunked("5\r\nabc\r\n0\r\n\r\n"));
    case.aborted(&chunked("3\r\nabcX\n0\r\n\r\n"));
}

fn chunk_extensions(case: &Case) {
    case.aborted(&case.request);
    for bad in [
        "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;a\0b\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\rabc\r\n0\r\n\r\n",
    ] {
        case.aborted(&chunked(bad));
    }
}

fn chunk_extension_size(case: &Case) {
    let ext = "x".repeat(20_000);
    case.aborted(&chunked(&format!("3;{ext}\r\nabc\r\n0\r\n\r\n")));
    let many = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(20);
    case.aborted(&chunked(&format!("{many}0\r\n\r\n")));
    case.aborted(&chunked(&format!("3\r\nabc\r\n0\r\nX: {ext}\r\n\r\n")));
    let fields: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    case.aborted(&chunked(&format!("3\r\nabc\r\n0\r\n{fields}\r\n")));
}

fn truncated_body(case: &Case) {
    let mut client = case.sent();
    client.wire.finish();
    if let Ok(response) = client.response_to("POST") {
        assert!(matches!(response.status, 400 | 408), "{response:?}");
    }
    let mut waiting = case.sent();
    match waiting.response_to("POST") {
        Ok(response) => assert!(matches!(response.status, 400 | 408), "{response:?}"),
        Err(end) => assert_ne!(end, End::Timeout),
    }
    wait_until("upstream requests to be aborted", || case.backend.open() == 0);
    assert!(case.backend.requests().iter().all(|request| request.body.cut.is_some()));
}

fn forbidden_trailers(case: &Case) {
    let response = case.sent().response();
    assert!(matches!(response.status, 200 | 400), "{response:?}");
    let more = chunked(
        "3\r\nabc\r\n0\r\nHost: evil\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 192.0.2.6\r\n\
         Authorization: x\r\nConnection: x\r\nX-Real-IP: 192.0.2.6\r\n\r\n",
    );
    let response = case.sent_bytes(&more).response();
    assert!(matches!(response.status, 200 | 400), "{response:?}");
    for request in case.backend.requests() {
        if request.body.cut.is_none() {
            assert_eq!(request.body.bytes, b"abc");
            assert_eq!(request.body.trailers, [], "{request:?}");
        }
        assert!(!request.head.has("content-length") && !request.head.has("authorization"));
    }
}

fn control_bytes(case: &Case) {
    case.rejected(BAD);
    for byte in ["\u{1}", "\r", "\u{7f}", "\u{b}", "\u{1b}", "\u{8}"] {
        case.rejects(&case.request.replace('\0', byte), BAD);
    }
}

fn bad_names(case: &Case) {
    case.rejected(BAD);
    for name in ["", "X A", "X\tA", "X/A", "X@A", "X\"A", "X\0A", "Xé", " X", "X\u{1}"] {
        case.rejects(&case.request.replace("X(A)", name), BAD);
    }
    case.rejects(&case.request.replace("X(A): 1", "no colon here"), BAD);
}

fn bad_hosts(case: &Case) {
    case.answered(&case.request, BAD);
    for host in [
        "",
        "a b",
        "app.example,other.example",
        "user@app.example",
        "app.example:99999",
        "app.example:x",
        "app.example:",
        "app.example:80:80",
        "app_\u{1}",
        "[::1",
        "[zz]",
        "app.example?x",
        "app.example#x",
        "app.example\\x",
        "http://app.example",
        "app..example",
    ] {
        let response = case.sent_bytes(&case.request.replace("app.example/x", host)).response();
        // An empty port and an unknown but well-formed name are not malformed.
        let fine: &[u16] = match host {
            "app.example:" => &[200, 400],
            _ => &[400, 404, 421],
        };
        assert!(fine.contains(&response.status), "{host:?}: {response:?}");
        assert!(case.backend.requests().iter().all(|r| r.field("host").starts_with(HOST)));
    }
}

#[test]
fn p30_nothing_passes_before_the_101() {
    let answers = || {
        Backend::script(|peer| {
            while let Some(head) = peer.head() {
                let early = peer.wire.peek(Duration::from_millis(150)).to_vec();
                assert!(early.is_empty(), "early bytes: {:?}", String::from_utf8_lossy(&early));
                peer.send(ok(head.first.split(' ').nth(1).unwrap()));
            }
        })
    };
    run("P30", answers, |case| {
        let mut client = case.sent();
        client.response().assert_ok("/ws");
        // The smuggled bytes are a request of their own, or the connection is closed.
        match client.response_to("GET") {
            Ok(response) => response.assert_ok("/x"),
            Err(end) => assert!(matches!(end, End::Closed | End::Reset), "{end:?}"),
        }
        let bytes = case.all_bytes();
        assert!(bytes.starts_with("GET /ws HTTP/1.1\r\n"), "{bytes}");
        let heads = bytes.matches(" HTTP/1.1\r\n").count();
        assert!(heads <= 2 && bytes.matches("X-Real-IP").count() <= heads, "{bytes}");
    });
}

#[test]
fn p33_unsolicited_101() {
    let answers = || {
        Backend::once(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
    };
    run("P33", answers, |case| {
        let response = case.connect().get(HOST, "/");
        response.assert_cause(502, "upstream_protocol");
        assert_ne!(case.backend.wait_end(0), End::Timeout);
        // Asked for a WebSocket and given something else.
        let mut client = case.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        );
        client.response().assert_cause(502, "upstream_protocol");
    });
}

#[test]
fn p38_early_answer() {
    let answers = || {
        Backend::script(|peer| {
            if peer.head().is_some() {
                peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
                peer.wait_end();
            }
        })
    };
    run("P38", answers, |case| {
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 60\r\n\r\n");
        let mut client = case.sent_bytes(&head);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (413, "big"));
        assert_ne!(case.backend.wait_end(0), End::Timeout);
        // What comes now is body, never a request.
        let _ = client
            .wire
            .try_send("GET /smuggled HTTP/1.1\r\nHost: app.example\r\nX: 12345678\r\n\r\n");
        let _ = client.wire.rest();
        assert!(!case.all_bytes().contains("smuggled HTTP/1.1\r\nHost"), "{}", case.all_bytes());
        assert_eq!(case.backend.connections(), 1);
    });
}

#[test]
fn p44_one_reading_of_a_path() {
    for tls in [false, true] {
        let (open, admin) = (Backend::named("open"), Backend::named("admin"));
        let edge = Edge::start(&Conf::new(format!(
            "upstreams:\n  open: {{ endpoints: [\"{}\"] }}\n  admin: {{ endpoints: [\"{}\"] }}\n\
             routes:\n  open: {{ hosts: [app.example], upstream: open }}\n\
             \x20 admin: {{ hosts: [app.example], path: /admin, upstream: admin }}\n",
            open.addr, admin.addr
        )));
        let connect = || if tls { edge.tls_client(HOST) } else { edge.client() };
        for path in [
            "/x/../admin",
            "//admin",
            "/%61dmin",
            "/./admin",
            "/x/%2e%2e/admin",
            "/x/%2E./admin",
            "/../admin",
            "/a/b/../../admin",
        ] {
            connect().get(HOST, path).assert_ok("admin");
            assert_eq!(admin.requests().pop().unwrap().target(), "/admin", "{path}");
        }
        connect().get(HOST, "/admin/../x").assert_ok("open");
        assert_eq!(open.requests().pop().unwrap().target(), "/x");
        for path in
            ["/admin%2Fx", "/admin%5cx", "/admin%00", "/x/..;/admin", "/a\\b", "/..%2Fadmin"]
        {
            assert_eq!(connect().get(HOST, path).status, 400, "{path}");
        }
        // Not decoded twice.
        connect().get(HOST, "/%2561dmin").assert_ok("open");
        assert_eq!(open.requests().pop().unwrap().target(), "/%2561dmin");
        // A parameter is part of its segment: the same reading for the rule and the backend.
        let response = connect().get(HOST, "/admin;a=b");
        assert!(response.status == 400 || response.text() == "open", "{response:?}");
    }
}

#[test]
fn p45_bad_upstream_answers() {
    let long = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(70_000));
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n folded: b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
        "garbage\r\n\r\n",
        &long,
    ];
    for answer in answers {
        let owned = answer.to_owned();
        let backend = Backend::once(owned);
        let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
        for (n, mut client) in [edge.client(), edge.tls_client(HOST)].into_iter().enumerate() {
            let response = client.get(HOST, "/");
            assert_eq!(response.status, 502, "{:?}: {response:?}", &answer[..answer.len().min(80)]);
            response.assert_cause(502, "upstream_protocol");
            assert_ne!(backend.wait_end(n), End::Timeout);
        }
    }
}

#[test]
fn p45_a_flood_of_interim_answers_ends() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        while peer.wire.try_send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").is_ok() {}
        *peer.seen.end.lock().unwrap() = Some(End::Reset);
    });
    let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    // Read along, so that only a limit of the edge can end it.
    while let Ok(head) = client.wire.head() {
        if head.status() >= 200 {
            assert_eq!(head.status(), 502);
            break;
        }
    }
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn p46_truncated_upstream_answers() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: ",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    ] {
        let backend = Backend::then_close(answer);
        let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
        for mut client in [edge.client(), edge.tls_client(HOST)] {
            let response = client.get(HOST, "/");
            assert!(response.body.cut.is_some(), "{answer:?}: {response:?}");
        }
        let h2 = crate::harness::h2c::H2::connect(&edge.tls(), HOST);
        match h2.exchange(crate::harness::h2c::get("https://app.example/"), b"") {
            Ok(response) => assert!(response.error.is_some(), "{answer:?}: {response:?}"),
            Err(e) => assert!(e.is_reset(), "{e}"),
        }
    }
}

#[test]
fn a_websocket_never_shares_its_connection() {
    let backend = Backend::script(|peer| {
        if peer.index == 0 {
            return ws::serve_echo(peer);
        }
        while peer.request().is_some() {
            peer.send(ok("ok"));
        }
    });
    let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
    let mut client = edge.client();
    ws::open(&mut client, HOST, "/");
    edge.client().get(HOST, "/").assert_ok("ok");
    client.ws_echo("still mine");
    assert_eq!(backend.connections(), 2);
}
