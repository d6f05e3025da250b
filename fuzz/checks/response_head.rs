//! Response heads of endpoints: what is passed on is canonical and says the same.

use proxy::http1::head::{FieldSlots, MAX_FIELDS, ResponseHead, parse_response};
use proxy::request::headers::{ResponseContext, ResponseFraming, write_interim, write_response};
use proxy::route::edits::Edits;

const MAX_BYTES: usize = 64 * 1024;
/// Length or coding, and Connection.
const OWN_FIELDS: usize = 2;

pub fn check(bytes: &[u8]) {
    let mut slots = FieldSlots::new();
    let Ok(Some(head)) = parse_response(bytes, MAX_BYTES, &mut slots) else { return };
    assert!(head.len <= bytes.len() && head.len <= MAX_BYTES);
    assert!((100..=999).contains(&head.status));
    let _ = (head.body(false), head.body(true), head.keeps_alive());
    // The reader below has the limit of the reader above; the edge's own fields come on top.
    if head.fields.len() + OWN_FIELDS > MAX_FIELDS {
        return;
    }

    let edits = Edits::default();
    for framing in [ResponseFraming::None, ResponseFraming::Length(7), ResponseFraming::Chunked] {
        let cx = ResponseContext {
            framing,
            close: true,
            confirm_keep_alive: false,
            websocket: false,
            edits: &edits,
            own: None,
            hsts: None,
            cookie: None,
        };
        let mut out = Vec::new();
        write_response(&mut out, &head, &cx);
        with_head(&out, |sent| {
            assert_eq!(sent.status, head.status);
            assert!(sent.connection.close && !sent.connection.nominates);
            let length = sent.framing.content_length;
            assert_eq!(length, (framing == ResponseFraming::Length(7)).then_some(&b"7"[..]));
            for (_, name, _) in sent.fields.iter() {
                let own = ["connection", "content-length", "transfer-encoding"];
                let own = own.iter().any(|own| name.eq_ignore_ascii_case(own));
                assert!(own || !head.fields.nominated(name), "{name} was nominated");
            }
        });
    }
    let mut interim = Vec::new();
    write_interim(&mut interim, &head);
    with_head(&interim, |sent| assert_eq!(sent.status, head.status));
}

/// What a client reads of it; it must be one whole head.
fn with_head(bytes: &[u8], then: impl FnOnce(&ResponseHead<'_, '_>)) {
    let mut slots = FieldSlots::new();
    match parse_response(bytes, 2 * MAX_BYTES, &mut slots) {
        Ok(Some(head)) => {
            assert_eq!(head.len, bytes.len());
            then(&head);
        }
        other => panic!("{:?} for {:?}", other.err(), String::from_utf8_lossy(bytes)),
    }
}
