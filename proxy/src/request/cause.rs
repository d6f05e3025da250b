//! Why the edge answered by itself: the closed list of design.md §5. The code is the metric label,
//! the log field and the `Proxy-Status` detail.

/// A cause with its status and, where there is one, a sub-reason from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub cause: Cause,
    /// Empty, or e.g. `duplicate_host`. Never text from the network.
    pub detail: &'static str,
}

macro_rules! causes {
    ($($variant:ident $code:literal $status:literal $error:literal $text:literal),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause { $($variant),+ }

        impl Cause {
            pub const ALL: &[Cause] = &[$(Cause::$variant),+];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Cause::$variant => $code),+ }
            }

            /// The status of the answer; 499 and 0 are only ever logged.
            pub fn status(self) -> u16 {
                match self { $(Cause::$variant => $status),+ }
            }

            /// The proxy error type of RFC 9209 §2.3.
            pub fn proxy_error(self) -> &'static str {
                match self { $(Cause::$variant => $error),+ }
            }

            /// One sentence for the person who sees the answer.
            pub fn text(self) -> &'static str {
                match self { $(Cause::$variant => $text),+ }
            }
        }
    };
}

causes! {
    NoRoute "no_route" 404 "http_request_denied" "No route of this host matches the request.",
    UnknownHost "unknown_host" 404 "http_request_denied" "This host is not served here.",
    Misdirected "misdirected" 421 "http_request_denied"
        "The certificate of this connection does not cover the requested host.",
    BadRequest "bad_request" 400 "http_request_error" "The request is malformed or ambiguous.",
    VersionUnsupported "bad_request" 505 "http_request_error" "Only HTTP/1.0, HTTP/1.1 and HTTP/2.",
    HeadTooLarge "head_too_large" 431 "http_request_error" "The request head is too large.",
    TargetTooLong "target_too_long" 414 "http_request_error" "The request target is too long.",
    HeadTimeout "head_timeout" 408 "http_request_error" "The request head took too long.",
    BodyTooLarge "body_too_large" 413 "http_request_error"
        "The request body is larger than this route allows.",
    BodyTimeout "body_timeout" 408 "http_request_error" "The request body took too long.",
    MethodRefused "method_refused" 405 "http_request_denied" "This method is not served.",
    ExpectationFailed "expectation_failed" 417 "http_request_error"
        "Only the expectation 100-continue can be met.",
    Denied "denied" 403 "http_request_denied" "This request is not allowed.",
    AuthRequired "auth_required" 401 "http_request_denied" "A valid user name and password are needed.",
    RateLimited "rate_limited" 429 "http_request_denied"
        "Too many requests; wait as long as Retry-After says.",
    TooManyStreams "too_many_streams" 429 "http_request_denied"
        "Too many requests are under way at once.",
    Maintenance "maintenance" 503 "destination_unavailable" "Closed for maintenance.",
    OverCapacity "over_capacity" 503 "proxy_internal_error" "Too much is under way; try again.",
    Quarantined "quarantined" 503 "proxy_configuration_error"
        "The configuration of this route is in error.",
    NoEndpoint "no_endpoint" 503 "destination_unavailable" "No endpoint is available.",
    ConnectFailed "connect_failed" 502 "connection_refused"
        "No endpoint accepted a connection.",
    ConnectTimeout "connect_timeout" 504 "connection_timeout"
        "No endpoint accepted a connection in time.",
    DnsFailed "dns_failed" 503 "dns_error" "The endpoint's name could not be resolved.",
    UpstreamTlsFailed "upstream_tls_failed" 502 "tls_protocol_error"
        "No TLS connection to the endpoint could be made.",
    UpstreamClosed "upstream_closed" 502 "connection_terminated"
        "The endpoint closed the connection before it answered.",
    UpstreamProtocol "upstream_protocol" 502 "http_protocol_error"
        "The endpoint's answer is not valid HTTP.",
    FirstByteTimeout "first_byte_timeout" 504 "http_response_timeout"
        "The endpoint did not answer in time.",
    StreamIdle "stream_idle" 504 "connection_timeout" "The stream was silent for too long.",
    DeadlineExceeded "deadline_exceeded" 504 "http_response_timeout"
        "The request took longer than it may in all.",
    ClientGone "client_gone" 499 "http_request_error" "The client has left.",
    Draining "draining" 503 "destination_unavailable" "This server is shutting down.",
    Internal "internal" 500 "proxy_internal_error" "The edge failed.",
}

impl Rejection {
    pub const fn new(cause: Cause) -> Rejection {
        Rejection { cause, detail: "" }
    }

    pub const fn bad(detail: &'static str) -> Rejection {
        Rejection { cause: Cause::BadRequest, detail }
    }

    pub fn status(self) -> u16 {
        self.cause.status()
    }
}

/// The process-wide cap of buffered bytes is reached: no new requests (design.md #17).
pub const OVER_BUFFERED: Rejection =
    Rejection { cause: Cause::OverCapacity, detail: "buffered_bytes" };

impl From<Cause> for Rejection {
    fn from(cause: Cause) -> Self {
        Rejection::new(cause)
    }
}
