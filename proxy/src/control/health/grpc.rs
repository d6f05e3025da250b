//! The messages of `grpc.health.v1` (grpc/doc/health-checking.md), one field each, and their
//! framing (PROTOCOL-HTTP2.md: a byte for compression, four of length).

/// `HealthCheckRequest{service}` as the body of a call.
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // Field 1, length-delimited; the empty string is not written (proto3).
    if !service.is_empty() {
        message.push(0x0a);
        varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(&message);
    body
}

/// The status in the body of an answer; 0 (UNKNOWN) where none is written.
///
/// # Errors
/// The body is no single uncompressed `HealthCheckResponse`.
pub fn status(body: &[u8]) -> Result<u64, &'static str> {
    const MALFORMED: &str = "a malformed message";
    let (head, message) = body.split_first_chunk::<5>().ok_or("no message")?;
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err("a compressed message");
    }
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err(MALFORMED);
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let key = take_varint(&mut rest).ok_or(MALFORMED)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut rest).ok_or(MALFORMED)?,
            (_, kind) => skip(kind, &mut rest).ok_or(MALFORMED)?,
        }
    }
    Ok(status)
}

/// `ServingStatus` by name.
pub fn name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "an unknown status",
    }
}

pub const SERVING: u64 = 1;

/// A field that this version of the message does not know.
fn skip(kind: u64, rest: &mut &[u8]) -> Option<()> {
    let length = match kind {
        0 => return take_varint(rest).map(drop),
        1 => 8,
        2 => usize::try_from(take_varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    *rest = rest.get(length..)?;
    Some(())
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_as_protoc_makes_them() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("api"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'p', b'i']);
        let long = "x".repeat(300);
        assert_eq!(request(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(status(&[0, 0, 0, 0, 2, 0x08, 1]), Ok(SERVING));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Ok(0));
        // Another field before it.
        assert_eq!(status(&[0, 0, 0, 0, 6, 0x12, 2, 7, 7, 0x08, 2]), Ok(2));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for body in [
            &[][..],
            &[0, 0, 0],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1, 0x08],
            &[0, 0, 0, 0, 2, 0x08, 0x80],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 1, 0x0b],
        ] {
            assert!(status(body).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = status(&body);
            let mut framed = vec![0, 0, 0, 0, body.len() as u8];
            framed.extend(&body);
            let _ = status(&framed);
        }

        #[test]
        fn varints_come_back(value: u64) {
            let mut out = Vec::new();
            varint(value, &mut out);
            prop_assert_eq!(take_varint(&mut &out[..]), Some(value));
        }
    }
}
