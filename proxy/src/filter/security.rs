//! The `security_headers` presets: response fields for browsers, each set only where the endpoint
//! does not set it itself.

use config::model::{HeaderEdits, SecurityHeaders};
use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue};

use crate::route::edits::{Absent, Absents};

type Field = (&'static str, HeaderName, &'static str);

/// The fields of a preset less those that the route's own rules `set`, `add` or `remove`: what the
/// operator wrote by name comes before a preset.
pub fn absent(preset: SecurityHeaders, rules: &HeaderEdits) -> Absents {
    let ruled = |name: &HeaderName| {
        let written = rules.set.iter().chain(&rules.add).map(|(name, _)| name).chain(&rules.remove);
        written.into_iter().any(|written| written.as_str().eq_ignore_ascii_case(name.as_str()))
    };
    let fields = fields(preset).into_iter().filter(|(_, name, _)| !ruled(name));
    Absents::of(fields.map(|(written, name, value)| compile(written, name, value)))
}

fn compile(written: &str, name: HeaderName, value: &'static str) -> Absent {
    Absent {
        line: format!("{written}: {value}\r\n").into_bytes().into(),
        pair: (name, HeaderValue::from_static(value)),
    }
}

fn fields(preset: SecurityHeaders) -> Vec<Field> {
    let strict = preset == SecurityHeaders::Strict;
    let frames = if strict { "DENY" } else { "SAMEORIGIN" };
    let referrer = "strict-origin-when-cross-origin";
    let mut fields = vec![
        ("X-Content-Type-Options", X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ("X-Frame-Options", X_FRAME_OPTIONS, frames),
        ("Referrer-Policy", REFERRER_POLICY, referrer),
    ];
    if strict {
        let opener = HeaderName::from_static("cross-origin-opener-policy");
        let permissions = HeaderName::from_static("permissions-policy");
        fields.extend([
            ("Content-Security-Policy", CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
            ("Cross-Origin-Opener-Policy", opener, "same-origin"),
            ("Permissions-Policy", permissions, "camera=(), microphone=(), geolocation=()"),
        ]);
    }
    fields
}

#[cfg(test)]
mod tests {
    use config::value::Secret;

    use super::*;

    fn names(preset: SecurityHeaders, rules: &HeaderEdits) -> Vec<String> {
        let absent = absent(preset, rules);
        for field in absent.iter() {
            let (name, value) = &field.pair;
            let line = format!("{name}: {}\r\n", value.to_str().unwrap());
            assert!(line.as_bytes().eq_ignore_ascii_case(&field.line), "{line}");
        }
        absent.iter().map(|field| field.pair.0.to_string()).collect()
    }

    #[test]
    fn what_the_rules_name_is_left_to_them() {
        let basic = ["x-content-type-options", "x-frame-options", "referrer-policy"];
        assert_eq!(names(SecurityHeaders::Basic, &HeaderEdits::default()), basic);
        assert_eq!(names(SecurityHeaders::Strict, &HeaderEdits::default()).len(), 6);
        let rules = HeaderEdits {
            remove: vec!["x-frame-options".to_owned()],
            set: vec![("referrer-policy".to_owned(), Secret::new("origin"))],
            add: vec![("content-security-policy".to_owned(), Secret::new("x"))],
        };
        let rest = ["x-content-type-options", "cross-origin-opener-policy", "permissions-policy"];
        assert_eq!(names(SecurityHeaders::Strict, &rules), rest);
    }
}
