//! An endpoint's HTTP/1.1 answer head as an HTTP/2 one. Field values are slices of one copy of the
//! head: no allocation per field.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::http1::field::allowed_in_trailer;
use crate::http1::framing::BodyLength;
use crate::http1::head::ResponseHead;
use crate::http1::write::field;
use crate::request::cause::{Cause, Rejection};
use crate::request::headers::{dropped, response_field_passes};
use crate::request::plan::Plan;
use crate::route::edits::Edits;

/// A head ready for h2.
pub struct Head {
    pub response: Response<()>,
    pub length: BodyLength,
    pub keeps_alive: bool,
}

/// Applies the head rules. `bytes` is the buffer that `head` borrows from.
pub fn compile(
    head: &ResponseHead<'_, '_>,
    bytes: &[u8],
    plan: &Plan,
    hsts: bool,
) -> Result<Head, Rejection> {
    let protocol = |detail| Rejection { cause: Cause::UpstreamProtocol, detail };
    let length = head.body(plan.head_request).map_err(|error| protocol(error.reason()))?;
    let status = StatusCode::from_u16(head.status).map_err(|_| protocol("status"))?;
    let mut fields = HeaderMap::with_capacity(head.fields.len() + 2);
    let copy = Bytes::copy_from_slice(bytes.get(..head.len).unwrap_or(bytes));
    let edits = &plan.route.response_edits;
    let own = plan.terms.edits.as_deref();
    let hsts = plan.route.hsts.as_ref().filter(|_| hsts);
    for (id, name, value) in head.fields.iter() {
        let nominated = head.connection.nominates && head.fields.nominated(name);
        if !response_field_passes(id) || nominated || dropped(edits, name.as_bytes()) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| protocol("field_name"))?;
        if hsts.is_some() && name == header::STRICT_TRANSPORT_SECURITY {
            continue;
        }
        fields.append(name, shared(&copy, bytes, value).ok_or(protocol("field_value"))?);
    }
    write_length(&mut fields, head, length, plan.head_request);
    let own_pairs = own.map_or(&[][..], |own| &own.pairs);
    for (name, value) in edits.pairs.iter().chain(own_pairs) {
        fields.append(name, value.clone());
    }
    add_absent(&mut fields, edits);
    if let Some(hsts) = hsts {
        fields.insert(header::STRICT_TRANSPORT_SECURITY, hsts.value.clone());
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    Ok(Head { response, length, keeps_alive: head.keeps_alive() })
}

/// `value` as a slice of `copy`, which is a copy of the start of `bytes`.
fn shared(copy: &Bytes, bytes: &[u8], value: &[u8]) -> Option<HeaderValue> {
    let start = (value.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
    if value.is_empty() || start + value.len() > copy.len() {
        return HeaderValue::from_bytes(value).ok();
    }
    HeaderValue::from_maybe_shared(copy.slice(start..start + value.len())).ok()
}

fn add_absent(fields: &mut HeaderMap, edits: &Edits) {
    for absent in edits.absent.iter() {
        let (name, value) = &absent.pair;
        if !fields.contains_key(name) {
            fields.insert(name, value.clone());
        }
    }
}

fn write_length(
    fields: &mut HeaderMap,
    head: &ResponseHead<'_, '_>,
    length: BodyLength,
    head_request: bool,
) {
    let announced = head.status == 304 || head_request;
    match (length, head.framing.content_length) {
        (_, Some(text)) if announced => {
            if let Ok(value) = HeaderValue::from_bytes(text) {
                fields.insert(header::CONTENT_LENGTH, value);
            }
        }
        (BodyLength::Sized(n), _) if head.status != 204 && !announced => {
            fields.insert(header::CONTENT_LENGTH, n.into());
        }
        _ => {}
    }
}

/// Request trailers as lines for the endpoint, less what may not be there.
pub fn trailer_lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        if allowed_in_trailer(name.as_str().as_bytes()) {
            field(&mut lines, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    lines
}

/// Trailers of an endpoint's chunked body.
pub fn trailer_map(decoder: &crate::http1::chunked::Decoder) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    decoder.passable_trailers(|name, value| {
        let pair =
            HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(value).ok());
        if let Some((name, value)) = pair {
            map.append(name, value);
        }
    });
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
mod tests {
    use config::model::{HeaderEdits, SecurityHeaders};

    use super::*;
    use crate::filter::security;

    #[test]
    fn fields_that_are_there_stay() {
        let absent = security::absent(SecurityHeaders::Basic, &HeaderEdits::default());
        let edits = Edits { absent, ..Edits::default() };
        let mut fields = HeaderMap::new();
        fields.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        add_absent(&mut fields, &edits);
        assert_eq!(fields[header::X_FRAME_OPTIONS], "DENY");
        assert_eq!(fields[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(fields[header::REFERRER_POLICY], "strict-origin-when-cross-origin");
        assert_eq!(fields.len(), 3);
    }
}
