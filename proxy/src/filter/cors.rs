//! Cross-origin requests of browsers (Fetch standard §3.3, "HTTP CORS protocol").
//!
//! Browsers enforce, the edge tells: a request of a foreign origin is forwarded like any other and
//! its answer lacks the permission to read it, as with nginx and Envoy. Only preflights are
//! answered here. One that is not allowed gets the same 204 without any permission, rather than a
//! list that lacks the method: browsers take GET, HEAD and POST as allowed whatever
//! `Access-Control-Allow-Methods` says (§4.9), so naming the origin would permit them.

use std::sync::Arc;

use config::model::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderName, HeaderValue};

use super::origin::Allowed;
use crate::http1::field::{FieldId, members};
use crate::request::view::{FieldSource, HeadView};
use crate::route::edits::Edits;

/// Response fields that belong to the edge on a route with CORS: the endpoint's own are dropped,
/// two of them would be none to a browser. Compiled into the route's `response_edits`.
pub const OWN_FIELDS: [&str; 7] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// What scripts may read in every case: what the edge says about limits, and the request id.
const EXPOSED: &str = "Retry-After, RateLimit, RateLimit-Policy, X-Request-Id";
/// And where a limit of the route has `legacy_headers`.
const EXPOSED_LEGACY: &str = ", X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset";

/// Bytes of the field names that a preflight may ask for where all are allowed.
const MAX_ASKED: usize = 4096;

/// The CORS rules of a route, compiled.
pub struct CorsPolicy {
    origins: Allowed,
    credentials: bool,
    methods: Box<[Box<str>]>,
    allow_methods: HeaderValue,
    /// `None`: what the preflight asks for.
    allow_headers: Option<HeaderValue>,
    expose: HeaderValue,
    max_age: HeaderValue,
    /// What answers to listed origins get, sorted by origin.
    named: Box<[Told]>,
    /// What answers to nobody in particular get.
    usual: Arc<Edits>,
}

/// An origin and what its answers get.
type Told = (Box<[u8]>, Arc<Edits>);

/// The answer to a preflight: 204 with these fields, which are all of CORS ([`CorsPolicy::edits`]
/// is for other answers).
pub struct Preflight {
    /// What was asked for is allowed.
    pub allowed: bool,
    pub fields: Edits,
}

impl CorsPolicy {
    /// `None` where the model holds what can be no field value; decoding has refused that.
    /// `legacy`: a limit of the route writes `X-RateLimit-*`.
    pub fn compile(cors: &Cors, legacy: bool) -> Option<CorsPolicy> {
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let mut expose = cors.expose.join(", ");
        if !expose.is_empty() {
            expose.push_str(", ");
        }
        expose.push_str(EXPOSED);
        if legacy {
            expose.push_str(EXPOSED_LEGACY);
        }
        let allow_headers = match &cors.headers {
            Some(names) => Some(value(&names.join(", "))?),
            None => None,
        };
        let mut policy = CorsPolicy {
            origins: Allowed::compile(&cors.origins, cors.credentials),
            credentials: cors.credentials,
            methods: cors.methods.iter().map(|method| method.as_str().into()).collect(),
            allow_methods: value(&cors.methods.join(", "))?,
            allow_headers,
            expose: value(&expose)?,
            max_age: cors.max_age.as_secs().into(),
            named: Box::default(),
            usual: Arc::default(),
        };
        policy.usual = policy.told(b"").into();
        if let Allowed::List { exact, .. } = &policy.origins {
            let told = exact.iter().map(|one| (one.clone(), policy.told(one).into()));
            let mut named: Box<[Told]> = told.collect();
            named.sort_by(|(one, _), (other, _)| one.cmp(other));
            policy.named = named;
        }
        Some(policy)
    }

    /// The answer if the request is a preflight: OPTIONS with `Origin` and
    /// `Access-Control-Request-Method` (§3.3.2).
    pub fn preflight<F: FieldSource>(&self, view: &HeadView<'_, F>) -> Option<Preflight> {
        if view.method != "OPTIONS" {
            return None;
        }
        view.fields.find("origin")?;
        let method = view.fields.find("access-control-request-method")?;
        let permission = self.permission(method, view);
        let allowed = permission.is_some();
        let mut fields = permission.unwrap_or_default();
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        fields.push((VARY, HeaderValue::from_static(vary)));
        Some(Preflight { allowed, fields: Edits::adding(fields) })
    }

    fn permission<F: FieldSource>(
        &self,
        method: &[u8],
        view: &HeadView<'_, F>,
    ) -> Option<Vec<(HeaderName, HeaderValue)>> {
        // Of two, nobody knows which the endpoint believes.
        let mut fields = self.permit(view.fields.only(FieldId::Origin, "origin").ok()??)?;
        if !self.methods.iter().any(|allowed| allowed.as_bytes() == method) {
            return None;
        }
        fields.push((ACCESS_CONTROL_ALLOW_METHODS, self.allow_methods.clone()));
        let headers = match &self.allow_headers {
            Some(listed) => Some(listed.clone()),
            None => asked_headers(&view.fields)?,
        };
        if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
            fields.push((ACCESS_CONTROL_ALLOW_HEADERS, headers));
        }
        fields.push((ACCESS_CONTROL_MAX_AGE, self.max_age.clone()));
        Some(fields)
    }

    /// What responses other than to preflights get, the edge's own errors included. The same for
    /// requests without an origin: a cache may give their answers to others (§3.3.8).
    pub fn edits<F: FieldSource>(&self, view: &HeadView<'_, F>) -> Arc<Edits> {
        let named = match self.origins {
            Allowed::Star => None,
            _ => view.fields.only(FieldId::Origin, "origin").ok().flatten(),
        };
        let Some(origin) = named else { return self.usual.clone() };
        match self.named.binary_search_by(|(one, _)| (**one).cmp(origin)) {
            Ok(at) => self.named[at].1.clone(),
            Err(_) if self.origins.matches(origin) => self.told(origin).into(),
            Err(_) => self.usual.clone(),
        }
    }

    fn told(&self, origin: &[u8]) -> Edits {
        let mut fields = self.permit(origin).unwrap_or_default();
        if !fields.is_empty() {
            fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone()));
        }
        if !matches!(self.origins, Allowed::Star) {
            fields.push((VARY, HeaderValue::from_static("Origin")));
        }
        Edits::adding(fields)
    }

    /// `Access-Control-Allow-Origin` and `-Credentials` for an origin that is allowed.
    fn permit(&self, origin: &[u8]) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let named = match &self.origins {
            Allowed::Star => HeaderValue::from_static("*"),
            named if named.matches(origin) => HeaderValue::from_bytes(origin).ok()?,
            _ => return None,
        };
        let mut fields = Vec::with_capacity(6);
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, named));
        if self.credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        Some(fields)
    }
}

/// The field names that a preflight asks for, checked. `Some(None)`: none. `None`: something else
/// than names, or more than [`MAX_ASKED`] bytes.
fn asked_headers(fields: &impl FieldSource) -> Option<Option<HeaderValue>> {
    let mut list: Vec<u8> = Vec::new();
    let mut sound = true;
    fields.each(|_, name, value| {
        if !name.eq_ignore_ascii_case(b"access-control-request-headers") {
            return;
        }
        for member in members(value) {
            if !list.is_empty() {
                list.extend_from_slice(b", ");
            }
            sound &=
                list.len() + member.len() <= MAX_ASKED && HeaderName::from_bytes(member).is_ok();
            if !sound {
                return;
            }
            list.extend_from_slice(member);
        }
    });
    match (sound, list.is_empty()) {
        (false, _) => None,
        (true, true) => Some(None),
        (true, false) => Some(Some(HeaderValue::from_bytes(&list).ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::model::Origins;

    use super::*;
    use crate::filter::origin::testing::pattern;
    use crate::filter::testing::with_view;

    fn cors(origins: &[&str]) -> Cors {
        let origins = match origins {
            ["*"] => Origins::Any,
            list => Origins::List(list.iter().map(|text| pattern(text)).collect()),
        };
        Cors {
            origins,
            methods: ["GET", "PUT"].map(str::to_owned).into(),
            headers: None,
            expose: vec!["X-Mine".to_owned()],
            credentials: false,
            max_age: Duration::from_secs(3600),
        }
    }

    fn lines(edits: &Edits) -> Vec<String> {
        let text = String::from_utf8(edits.lines.to_vec()).unwrap();
        let pairs = edits.pairs.iter().map(|(n, v)| format!("{n}: {}\r\n", v.to_str().unwrap()));
        assert_eq!(text, pairs.collect::<String>(), "both protocols say the same");
        text.lines().map(str::to_owned).collect()
    }

    fn preflight(cors: &Cors, fields: &str) -> Option<(bool, Vec<String>)> {
        let policy = CorsPolicy::compile(cors, false).unwrap();
        with_view("OPTIONS", "/x", fields, |view| {
            policy.preflight(view).map(|p| (p.allowed, lines(&p.fields)))
        })
    }

    fn actual(cors: &Cors, fields: &str) -> Vec<String> {
        let policy = CorsPolicy::compile(cors, false).unwrap();
        with_view("GET", "/x", fields, |view| lines(&policy.edits(view)))
    }

    const APP: &str = "https://app.openclaw.example";
    const VARY: &str =
        "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

    fn ask(origin: &str, method: &str) -> String {
        format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n")
    }

    #[test]
    fn a_preflight_gets_what_is_allowed() {
        let asked = "Access-Control-Request-Headers: x-a,  Authorization\r\n\
            Access-Control-Request-Headers: x-b\r\n";
        let fields = ask(APP, "PUT") + asked;
        let expected = [
            "access-control-allow-origin: https://app.openclaw.example",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: x-a, Authorization, x-b",
            "access-control-max-age: 3600",
            VARY,
        ];
        let (allowed, got) = preflight(&cors(&[APP]), &fields).unwrap();
        assert!(allowed);
        assert_eq!(got, expected);

        let listed = Cors {
            headers: Some(vec!["x-a".to_owned(), "x-c".to_owned()]),
            credentials: true,
            ..cors(&[APP])
        };
        let (_, got) = preflight(&listed, &fields).unwrap();
        assert_eq!(got[1], "access-control-allow-credentials: true");
        assert_eq!(got[3], "access-control-allow-headers: x-a, x-c");
        let none = Cors { headers: Some(Vec::new()), ..cors(&["*"]) };
        let (_, got) = preflight(&none, &fields).unwrap();
        assert_eq!(got[0], "access-control-allow-origin: *");
        assert!(!got.iter().any(|line| line.starts_with("access-control-allow-headers")));
    }

    #[test]
    fn a_preflight_that_is_not_allowed_gets_no_permission_at_all() {
        let long = "x".repeat(MAX_ASKED + 1);
        let twice = format!("{}Origin: {APP}\r\n", ask(APP, "PUT"));
        for fields in [
            ask("https://evil.example", "PUT"),
            ask("null", "PUT"),
            ask(APP, "POST"),
            ask(APP, "put"),
            ask(APP, "PUT") + "Access-Control-Request-Headers: a b\r\n",
            ask(APP, "PUT") + "Access-Control-Request-Headers: a, b:c\r\n",
            ask(APP, "PUT") + &format!("Access-Control-Request-Headers: {long}\r\n"),
            twice,
        ] {
            let got = preflight(&cors(&[APP]), &fields);
            assert_eq!(got, Some((false, vec![VARY.to_owned()])), "{fields}");
        }
    }

    #[test]
    fn what_is_no_preflight_is_forwarded() {
        let policy = CorsPolicy::compile(&cors(&["*"]), true).unwrap();
        let whole = ask(APP, "PUT");
        let is = |method, fields: &str| {
            with_view(method, "/x", fields, |view| policy.preflight(view).is_some())
        };
        assert!(is("OPTIONS", &whole));
        assert!(!is("GET", &whole));
        for part in whole.lines() {
            assert!(!is("OPTIONS", &format!("{part}\r\n")), "{part}");
        }
    }

    #[test]
    fn older_fields_of_limits_are_exposed_where_a_limit_has_them() {
        for legacy in [false, true] {
            let policy = CorsPolicy::compile(&cors(&["*"]), legacy).unwrap();
            let told = with_view("GET", "/x", "", |view| policy.edits(view));
            let told = String::from_utf8_lossy(&told.lines).into_owned();
            assert_eq!(told.contains(EXPOSED_LEGACY), legacy, "{told}");
            assert!(told.contains(EXPOSED), "{told}");
        }
    }

    #[test]
    fn responses_name_the_origin_and_say_that_they_do() {
        let exposed = format!("access-control-expose-headers: X-Mine, {EXPOSED}");
        let origin = |origin: &str| format!("Origin: {origin}\r\n");
        let named = format!("access-control-allow-origin: {APP}");
        let vary = "vary: Origin";
        let (named, exposed) = (named.as_str(), exposed.as_str());
        let list = cors(&["https://api.openclaw.example", APP]);
        assert_eq!(actual(&list, &origin(APP)), [named, exposed, vary]);
        let wild = cors(&["https://*.openclaw.example"]);
        assert_eq!(actual(&wild, &origin(APP)), [named, exposed, vary]);
        assert_eq!(actual(&wild, &origin("https://openclaw.example")), [vary]);
        let twice = origin(APP) + &origin(APP);
        for stranger in ["", "Origin: null\r\n", "Origin: https://evil.example\r\n", &twice] {
            assert_eq!(actual(&list, stranger), [vary], "{stranger}");
        }
        let star = "access-control-allow-origin: *";
        for any in ["", "Origin: null\r\n", &origin(APP)] {
            assert_eq!(actual(&cors(&["*"]), any), [star, exposed], "{any}");
        }
    }

    #[test]
    fn with_credentials_a_star_is_the_origin_itself() {
        let any = Cors { credentials: true, ..cors(&["*"]) };
        let got = actual(&any, &format!("Origin: {APP}\r\n"));
        assert_eq!(got[0], format!("access-control-allow-origin: {APP}"));
        assert_eq!(got[1], "access-control-allow-credentials: true");
        assert_eq!(got.last().unwrap(), "vary: Origin");
        for other in ["null", "file://", "https://", "https://a b", "https://a,https://b", "x"] {
            assert_eq!(actual(&any, &format!("Origin: {other}\r\n")), ["vary: Origin"], "{other}");
        }
    }
}
