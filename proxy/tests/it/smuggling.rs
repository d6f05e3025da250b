//! Every case of the desync corpus, over plaintext and TLS: what the client is told and what the
//! backends receive, byte for byte. The corpus file says what is expected in words; here each id
//! has its outcome as a function, and the two lists are compared.

mod answers;
mod cases;

use crate::harness::wire::{Framing, Head};
use crate::harness::{Backend, Client, Conf, Edge, End, Response, wait_until};

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
    p03_te_te, "P03": cases::transfer_codings;
    p04_te_list, "P04": |case| case.rejected(BAD_CODING);
    p05_te_in_http_1_0, "P05": |case| case.rejected(BAD);
    p06_two_lengths, "P06": cases::two_lengths;
    p07_bad_length, "P07": cases::bad_lengths;
    p08_negative_length, "P08": |case| case.rejected(BAD);
    p09_chunk_size, "P09": cases::chunk_sizes;
    p10_chunk_overflow, "P10": |case| case.aborted(&case.request);
    p11_chunk_bare_lf, "P11": |case| case.aborted(&case.request);
    p12_chunk_extension_lf, "P12": cases::chunk_extensions;
    p13_chunk_extension_size, "P13": cases::chunk_extension_size;
    p14_truncated_body, "P14": cases::truncated_body;
    p15_forbidden_trailers, "P15": cases::forbidden_trailers;
    p16_space_before_colon, "P16": |case| case.rejected(BAD);
    p17_obs_fold, "P17": |case| case.rejected(BAD);
    p18_control_bytes, "P18": cases::control_bytes;
    p19_bad_names, "P19": cases::bad_names;
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
    p24_bad_host, "P24": cases::bad_hosts;
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

/// In [`answers`].
const OTHER_IDS: &[&str] = &["P30", "P33", "P38", "P44", "P45", "P46"];

#[test]
fn every_case_of_the_corpus_has_an_outcome() {
    let mut here: Vec<&str> = [IDS, OTHER_IDS].concat();
    here.sort_unstable();
    let corpus = corpus();
    let there: Vec<&str> = corpus.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(here, there);
}
