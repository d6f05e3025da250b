//! What the head of an answer says of its body.

use crate::http1::framing::BodyLength;
use crate::request::headers::ResponseFraming;
use crate::request::plan::Plan;

/// How an HTTP/1.1 client gets it.
pub fn framing(status: u16, length: BodyLength, plan: &Plan) -> ResponseFraming {
    match length {
        _ if status == 204 => ResponseFraming::None,
        _ if status == 304 || plan.head_request => ResponseFraming::Announced,
        BodyLength::Sized(n) => ResponseFraming::Length(n),
        _ if plan.http10 => ResponseFraming::Close,
        BodyLength::Chunked | BodyLength::UntilClose => ResponseFraming::Chunked,
    }
}

/// `text/event-stream` and `application/grpc*`: silence is normal.
pub fn is_event_stream(content_type: Option<&[u8]>) -> bool {
    let Some(value) = content_type else { return false };
    [&b"text/event-stream"[..], b"application/grpc"]
        .iter()
        .any(|known| value.get(..known.len()).is_some_and(|head| head.eq_ignore_ascii_case(known)))
}
