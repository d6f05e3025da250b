//! Cases of the corpus that stand for a family of bytes: the family.

use super::{BAD, BAD_CODING, Case, HOST};
use crate::harness::{End, wait_until};

pub fn transfer_codings(case: &Case) {
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

pub fn two_lengths(case: &Case) {
    case.rejected(BAD);
    // Equal ones may be refused or collapsed to one.
    let equal = case.request.replace("Content-Length: 4\r\n", "Content-Length: 3\r\n");
    let equal = equal.strip_suffix('d').unwrap();
    let response = case.sent_bytes(equal).response();
    assert!(matches!(response.status, 200 | 400), "{response:?}");
    case.backend.requests().iter().for_each(|r| assert_eq!(r.body.bytes, b"abc"));
}

pub fn bad_lengths(case: &Case) {
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

pub fn chunk_sizes(case: &Case) {
    case.aborted(&case.request);
    for size in ["0x3", "+3", "-3", "3_0", " 3", "3 ", "", "g", "3.", "1FFFFFFFFFFFFFFFF"] {
        case.aborted(&chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")));
    }
    // Data that is longer or shorter than its chunk.
    case.aborted(&chunked("3\r\nabcd\r\n0\r\n\r\n"));
    case.aborted(&chunked("5\r\nabc\r\n0\r\n\r\n"));
    case.aborted(&chunked("3\r\nabcX\n0\r\n\r\n"));
}

pub fn chunk_extensions(case: &Case) {
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

pub fn chunk_extension_size(case: &Case) {
    let ext = "x".repeat(20_000);
    case.aborted(&chunked(&format!("3;{ext}\r\nabc\r\n0\r\n\r\n")));
    let many = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(20);
    case.aborted(&chunked(&format!("{many}0\r\n\r\n")));
    case.aborted(&chunked(&format!("3\r\nabc\r\n0\r\nX: {ext}\r\n\r\n")));
    let fields: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    case.aborted(&chunked(&format!("3\r\nabc\r\n0\r\n{fields}\r\n")));
}

pub fn truncated_body(case: &Case) {
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

pub fn forbidden_trailers(case: &Case) {
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

pub fn control_bytes(case: &Case) {
    case.rejected(BAD);
    for byte in ["\u{1}", "\r", "\u{7f}", "\u{b}", "\u{1b}", "\u{8}"] {
        case.rejects(&case.request.replace('\0', byte), BAD);
    }
}

pub fn bad_names(case: &Case) {
    case.rejected(BAD);
    for name in ["", "X A", "X\tA", "X/A", "X@A", "X\"A", "X\0A", "Xé", " X", "X\u{1}"] {
        case.rejects(&case.request.replace("X(A)", name), BAD);
    }
    case.rejects(&case.request.replace("X(A): 1", "no colon here"), BAD);
}

pub fn bad_hosts(case: &Case) {
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
