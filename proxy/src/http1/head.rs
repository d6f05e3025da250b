//! Parses and validates a request or response head over a borrowed buffer.
//!
//! `httparse` reads the grammar; what it tolerates and two parsers could read differently (bare
//! LF, several Hosts, odd targets) is refused here.

use std::mem::MaybeUninit;

use httparse::Header;

use super::field::{FieldId, classify, members};
use super::fields::Fields;
use super::framing::{BodyLength, FramingError, FramingFields, request_length, response_length};

/// Fields that a head may carry at the very most; listeners may set less.
pub const MAX_FIELDS: usize = 100;

/// Members of Connection: every field is compared with each of them.
const MAX_NOMINATIONS: usize = 32;

/// Storage for parsed fields: lives on the stack of the caller, only while a head is worked on.
pub struct FieldSlots<'b> {
    headers: [MaybeUninit<Header<'b>>; MAX_FIELDS + 1],
    ids: [FieldId; MAX_FIELDS + 1],
}

impl FieldSlots<'_> {
    pub fn new() -> Self {
        FieldSlots {
            headers: [const { MaybeUninit::uninit() }; MAX_FIELDS + 1],
            ids: [FieldId::Other; MAX_FIELDS + 1],
        }
    }
}

impl Default for FieldSlots<'_> {
    fn default() -> Self {
        FieldSlots::new()
    }
}

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub head_bytes: usize,
    pub fields: usize,
    pub target_bytes: usize,
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// 431.
    TooLarge,
    /// 414.
    TargetTooLong,
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// 400 with its sub-reason.
    Bad(&'static str),
}

impl From<FramingError> for HeadError {
    fn from(error: FramingError) -> Self {
        HeadError::Bad(error.reason())
    }
}

/// A complete request head.
pub struct RequestHead<'b, 's> {
    pub method: &'b [u8],
    /// As sent: origin-form, absolute-form, `*` or authority-form (CONNECT).
    pub target: &'b [u8],
    pub http10: bool,
    /// Bytes of the head with its final empty line.
    pub len: usize,
    pub fields: Fields<'b, 's>,
    /// The one Host field; HTTP/1.1 heads always have it.
    pub host: Option<&'b [u8]>,
    pub body: BodyLength,
    pub connection: Connection,
    pub expect: Expect,
    /// `Upgrade: websocket`, nominated by Connection.
    pub websocket: bool,
}

/// What the Connection fields say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Names other than the above are nominated: fields must be compared with them.
    pub nominates: bool,
    /// Members of all Connection fields.
    members: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    None,
    Continue,
    /// 417.
    Other,
}

/// Parses a request head at the start of `bytes`. `Ok(None)`: incomplete.
pub fn parse_request<'b, 's>(
    bytes: &'b [u8],
    limits: HeadLimits,
    slots: &'s mut FieldSlots<'b>,
) -> Result<Option<RequestHead<'b, 's>>, HeadError> {
    let FieldSlots { headers, ids } = slots;
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return incomplete(bytes, limits).map(|()| None),
        Err(error) => return Err(parse_error(error, bytes, limits)),
    };
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let http10 = request.version == Some(0);
    let headers: &'s [Header<'b>] = request.headers;
    let count = headers.len();
    if target.len() > limits.target_bytes {
        return Err(HeadError::TargetTooLong);
    }
    if len > limits.head_bytes || count > limits.fields.min(MAX_FIELDS) {
        return Err(HeadError::TooLarge);
    }
    let head = bytes.get(..len).unwrap_or(bytes);
    if method.is_empty() || has_bare_lf(head) {
        return Err(HeadError::Bad("line_end"));
    }
    check_target(target.as_bytes())?;
    let facts = collect(headers, ids);
    let fields = Fields { headers, ids: ids.get(..count).unwrap_or(&[]) };
    finish_request(method.as_bytes(), target.as_bytes(), http10, len, fields, facts).map(Some)
}

fn finish_request<'b, 's>(
    method: &'b [u8],
    target: &'b [u8],
    http10: bool,
    len: usize,
    fields: Fields<'b, 's>,
    facts: Facts<'b>,
) -> Result<RequestHead<'b, 's>, HeadError> {
    if facts.connection.members > MAX_NOMINATIONS {
        return Err(HeadError::Bad("connection"));
    }
    if facts.hosts > 1 {
        return Err(HeadError::Bad("duplicate_host"));
    }
    if facts.hosts == 0 && !http10 {
        return Err(HeadError::Bad("missing_host"));
    }
    let body = request_length(&facts.framing, http10)?;
    let upgrade = fields.get(FieldId::Upgrade).filter(|_| facts.connection.upgrade && !http10);
    let websocket = upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    Ok(RequestHead {
        method,
        target,
        http10,
        len,
        fields,
        host: facts.host,
        body,
        connection: facts.connection,
        expect: facts.expect,
        websocket,
    })
}

/// What one walk over the fields collects.
struct Facts<'b> {
    framing: FramingFields<'b>,
    host: Option<&'b [u8]>,
    hosts: usize,
    connection: Connection,
    expect: Expect,
}

fn collect<'b>(headers: &[Header<'b>], ids: &mut [FieldId]) -> Facts<'b> {
    let mut facts = Facts {
        framing: FramingFields::default(),
        host: None,
        hosts: 0,
        connection: Connection::default(),
        expect: Expect::None,
    };
    for (header, id) in headers.iter().zip(ids.iter_mut()) {
        *id = classify(header.name.as_bytes());
        match *id {
            FieldId::Host => {
                facts.host = Some(header.value);
                facts.hosts += 1;
            }
            FieldId::ContentLength => {
                facts.framing.content_length = Some(header.value);
                facts.framing.content_lengths += 1;
            }
            FieldId::TransferEncoding => {
                facts.framing.transfer_encoding = Some(header.value);
                facts.framing.transfer_encodings += 1;
            }
            FieldId::Connection => connection(header.value, &mut facts.connection),
            FieldId::Expect => {
                let known = header.value.eq_ignore_ascii_case(b"100-continue");
                facts.expect = if known && facts.expect != Expect::Other {
                    Expect::Continue
                } else {
                    Expect::Other
                };
            }
            _ => {}
        }
    }
    facts
}

fn connection(value: &[u8], found: &mut Connection) {
    for member in members(value) {
        found.members += 1;
        if member.eq_ignore_ascii_case(b"close") {
            found.close = true;
        } else if member.eq_ignore_ascii_case(b"keep-alive") {
            found.keep_alive = true;
        } else if member.eq_ignore_ascii_case(b"upgrade") {
            found.upgrade = true;
        } else {
            found.nominates = true;
        }
    }
}

/// A complete response head of an endpoint.
pub struct ResponseHead<'b, 's> {
    pub status: u16,
    pub reason: &'b str,
    pub http10: bool,
    pub len: usize,
    pub fields: Fields<'b, 's>,
    pub framing: FramingFields<'b>,
    pub connection: Connection,
}

impl ResponseHead<'_, '_> {
    pub fn body(&self, head_request: bool) -> Result<BodyLength, FramingError> {
        response_length(&self.framing, self.http10, self.status, head_request)
    }

    /// Whether the endpoint keeps the connection open after this response (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        !self.connection.close && (!self.http10 || self.connection.keep_alive)
    }
}

/// Parses a response head at the start of `bytes`. `Ok(None)`: incomplete. The error is the
/// sub-reason of `upstream_protocol`.
pub fn parse_response<'b, 's>(
    bytes: &'b [u8],
    max_bytes: usize,
    slots: &'s mut FieldSlots<'b>,
) -> Result<Option<ResponseHead<'b, 's>>, &'static str> {
    let FieldSlots { headers, ids } = slots;
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let len = match parser.parse_response_with_uninit_headers(&mut response, bytes, headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= max_bytes => return Err("head_too_large"),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("too_many_fields"),
        Err(_) => return Err("head_syntax"),
    };
    let (status, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or(""));
    let http10 = response.version == Some(0);
    let headers: &'s [Header<'b>] = response.headers;
    let count = headers.len();
    if len > max_bytes {
        return Err("head_too_large");
    }
    if !(100..=999).contains(&status) {
        return Err("status");
    }
    let facts = collect(headers, ids);
    let fields = Fields { headers, ids: ids.get(..count).unwrap_or(&[]) };
    let (framing, connection) = (facts.framing, facts.connection);
    if connection.members > MAX_NOMINATIONS {
        return Err("connection");
    }
    Ok(Some(ResponseHead { status, reason, http10, len, fields, framing, connection }))
}

/// Where a head may end: the index after the first empty line, or `None`. `from` is where the
/// last search stopped; the answer only says that parsing is worth while.
pub fn terminator(bytes: &[u8], from: usize) -> bool {
    let start = from.saturating_sub(3);
    let tail = bytes.get(start..).unwrap_or(&[]);
    memchr::memchr_iter(b'\n', tail).any(|at| {
        let rest = tail.get(at + 1..).unwrap_or(&[]);
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

/// Checks an incomplete head against the limits, so that it cannot grow without end.
pub fn incomplete(bytes: &[u8], limits: HeadLimits) -> Result<(), HeadError> {
    // Method and version around the target; longer without a line end is a target too long.
    const AROUND: usize = 64;
    let line_open = memchr::memchr(b'\n', bytes).is_none();
    if line_open && bytes.len() > limits.target_bytes + AROUND {
        return Err(HeadError::TargetTooLong);
    }
    if bytes.len() >= limits.head_bytes { Err(HeadError::TooLarge) } else { Ok(()) }
}

fn parse_error(error: httparse::Error, bytes: &[u8], limits: HeadLimits) -> HeadError {
    if let Err(limit) = incomplete(bytes, limits)
        && limit == HeadError::TargetTooLong
    {
        return limit;
    }
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version if three_tokens(bytes) => HeadError::Version,
        httparse::Error::Version => HeadError::Bad("request_line"),
        httparse::Error::HeaderName => HeadError::Bad("field_name"),
        httparse::Error::HeaderValue => HeadError::Bad("field_value"),
        httparse::Error::NewLine => HeadError::Bad("line_end"),
        httparse::Error::Token | httparse::Error::Status => HeadError::Bad("request_line"),
    }
}

/// Whether a version stands where one belongs; otherwise the target has a blank in it.
fn three_tokens(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').find(|line| !line.trim_ascii().is_empty());
    line.is_some_and(|line| line.trim_ascii_end().split(|b| *b == b' ').count() == 3)
}

fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r'))
}

/// RFC 9112 §3.2: no fragment, no control or blank byte.
fn check_target(target: &[u8]) -> Result<(), HeadError> {
    if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == b'#' || *b == 0x7f) {
        return Err(HeadError::Bad("target"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 512, fields: 8, target_bytes: 100 };

    fn error(bytes: &[u8]) -> HeadError {
        let mut slots = FieldSlots::new();
        match parse_request(bytes, LIMITS, &mut slots) {
            Err(error) => error,
            Ok(_) => panic!("accepted {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn reads_a_request() {
        let mut slots = FieldSlots::new();
        let bytes = b"POST /a?b HTTP/1.1\r\nHost: app.example\r\nContent-Length: 3\r\n\
            Connection: close, X-Foo\r\nX-Foo: 1\r\n\r\nabc";
        let head = parse_request(bytes, LIMITS, &mut slots).unwrap().unwrap();
        assert_eq!((head.method, head.target), (&b"POST"[..], &b"/a?b"[..]));
        assert_eq!(head.body, BodyLength::Sized(3));
        assert_eq!(&bytes[head.len..], b"abc");
        assert!(head.connection.close && head.connection.nominates && !head.http10);
        assert!(head.fields.nominated("x-foo") && !head.fields.nominated("host"));
    }

    #[test]
    fn waits_for_the_rest() {
        let bytes = b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n";
        for cut in 0..bytes.len() {
            let mut slots = FieldSlots::new();
            assert!(parse_request(&bytes[..cut], LIMITS, &mut slots).unwrap().is_none());
            assert!(!terminator(&bytes[..cut], 0), "{cut}");
        }
        assert!(terminator(bytes, bytes.len() - 1));
    }

    #[test]
    fn refuses_what_is_ambiguous() {
        for (bytes, reason) in [
            (&b"GET / HTTP/1.1\nHost: a\n\n"[..], "line_end"),
            (b"GET / HTTP/1.1\r\n\r\n", "missing_host"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "duplicate_host"),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "field_name"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", "field_name"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0\r\n\r\n", "field_value"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX(A): 1\r\n\r\n", "field_name"),
            (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\
               \r\n", "content_length_and_transfer_encoding"),
        ] {
            assert_eq!(error(bytes), HeadError::Bad(reason));
        }
        assert_eq!(error(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"), HeadError::Version);
        assert_eq!(error(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HeadError::Version);
    }

    #[test]
    fn limits_hold_at_the_byte() {
        let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1));
        let mut slots = FieldSlots::new();
        assert!(parse_request(target(100).as_bytes(), LIMITS, &mut slots).is_ok());
        assert_eq!(error(target(101).as_bytes()), HeadError::TargetTooLong);

        let head = |n: usize| {
            let pad = n - b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(pad))
        };
        let mut slots = FieldSlots::new();
        assert!(parse_request(head(512).as_bytes(), LIMITS, &mut slots).is_ok());
        assert_eq!(error(head(513).as_bytes()), HeadError::TooLarge);
        assert_eq!(error(&head(600).as_bytes()[..512]), HeadError::TooLarge);

        let fields =
            |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(n - 1));
        let mut slots = FieldSlots::new();
        assert!(parse_request(fields(8).as_bytes(), LIMITS, &mut slots).is_ok());
        assert_eq!(error(fields(9).as_bytes()), HeadError::TooLarge);
    }

    #[test]
    fn reads_responses() {
        let mut slots = FieldSlots::new();
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let head = parse_response(bytes, 1024, &mut slots).unwrap().unwrap();
        assert_eq!((head.status, head.reason, head.len), (200, "OK", 38));
        assert!(head.keeps_alive());
        assert_eq!(head.body(false), Ok(BodyLength::Sized(3)));
        let mut slots = FieldSlots::new();
        assert!(parse_response(b"Unauthorized", 1024, &mut slots).is_err());
        let mut slots = FieldSlots::new();
        assert!(parse_response(&[b'x'; 10], 10, &mut slots).is_err());
    }

    proptest::proptest! {
        /// What is accepted whole is incomplete at every cut before its end, never an error, and
        /// never shorter than it is.
        #[test]
        fn a_head_is_the_same_however_it_arrives(
            path in "/[a-z0-9/?=&%]{0,30}",
            fields in proptest::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,10}", "[ -~]{0,20}"), 0..6),
        ) {
            let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let bytes = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            let mut slots = FieldSlots::new();
            if let Ok(Some(head)) = parse_request(bytes.as_bytes(), LIMITS, &mut slots) {
                proptest::prop_assert_eq!(head.len, bytes.len());
                for cut in 0..bytes.len() {
                    let mut slots = FieldSlots::new();
                    let part = parse_request(&bytes.as_bytes()[..cut], LIMITS, &mut slots);
                    proptest::prop_assert!(matches!(part, Ok(None)), "at {cut}");
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut slots = FieldSlots::new();
            let _ = parse_request(&bytes, LIMITS, &mut slots);
            let mut slots = FieldSlots::new();
            let _ = parse_response(&bytes, 1024, &mut slots);
        }
    }
}
