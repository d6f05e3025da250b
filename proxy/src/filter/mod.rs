//! What a route makes of requests and responses besides forwarding them: cross-origin rules,
//! rewritten paths, security fields, the edge's own error pages, maintenance. Pure: data in, data
//! out.

pub mod accept;
pub mod cors;
pub mod maintenance;
pub mod origin;
pub mod page;
pub mod pages;
pub mod rewrite;
pub mod security;

#[cfg(test)]
mod testing {
    use crate::http1::fields::Fields;
    use crate::http1::head::{FieldSlots, HeadLimits, parse_request};
    use crate::request::admit::admit_h1;
    use crate::request::view::HeadView;

    /// A request with these fields (each with its CRLF), as the filters see it.
    pub fn with_view<T>(
        method: &str,
        target: &str,
        fields: &str,
        read: impl FnOnce(&HeadView<'_, Fields<'_, '_>>) -> T,
    ) -> T {
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: app.openclaw.example\r\n{fields}\r\n");
        let limits = HeadLimits { head_bytes: 32_768, fields: 99, target_bytes: 9999 };
        let mut slots = FieldSlots::new();
        let head = parse_request(head.as_bytes(), limits, &mut slots).unwrap().unwrap();
        read(&admit_h1(&head).unwrap())
    }
}
