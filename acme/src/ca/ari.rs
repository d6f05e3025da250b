//! When the CA wants a certificate renewed: ACME Renewal Information, RFC 9773.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::RETRY_AFTER;
use http::response::Parts;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::Ca;
use super::failure::{Class, Failure, Step};
use super::http::{clock, unix_now};
use super::text::clean;
use super::wait;

/// Until the window is asked for again, in seconds, when the CA does not say (RFC 9773 §4.3.3).
const RETRY_DEFAULT: i64 = 6 * 3600;
const RETRY_LEAST: i64 = 3600;
const RETRY_MOST: i64 = 24 * 3600;

/// What a certificate is called in renewal information and in `replaces` (RFC 9773 §4.1):
/// the authority key identifier and the serial number, each in base64url, with a dot between.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertId(String);

impl CertId {
    /// None for a certificate that does not name the key of its authority.
    pub fn of(leaf_der: &[u8]) -> Option<CertId> {
        let (_, leaf) = X509Certificate::from_der(leaf_der).ok()?;
        let key_id = leaf.extensions().iter().find_map(|ext| match ext.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(aki) => aki.key_identifier.as_ref(),
            _ => None,
        })?;
        let serial = leaf.tbs_certificate.raw_serial();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Some(CertId(format!("{}.{}", encode(key_id.0), encode(serial))))
    }

    /// One that was stored.
    pub fn parse(text: &str) -> Option<CertId> {
        let part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let (key_id, serial) = text.split_once('.')?;
        (text.len() <= 200 && part(key_id) && part(serial)).then(|| CertId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_acme(&self) -> instant_acme::CertificateIdentifier<'_> {
        let (key_id, serial) = self.0.split_once('.').unwrap_or_default();
        instant_acme::CertificateIdentifier {
            authority_key_identifier: key_id.into(),
            serial: serial.into(),
        }
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CertId> for String {
    fn from(id: CertId) -> String {
        id.0
    }
}

impl TryFrom<String> for CertId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<CertId, &'static str> {
        CertId::parse(&text).ok_or("not a certificate identifier of RFC 9773")
    }
}

/// The window in which the CA wants the renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// Unix seconds.
    pub start: i64,
    /// Unix seconds, after `start`.
    pub end: i64,
    /// A page that tells why, for people.
    pub explanation_url: Option<String>,
    /// Seconds from now until the window should be asked for again; 1 h to 24 h.
    pub retry_after: i64,
}

impl Ca {
    /// The window of one certificate. Needs no account.
    pub async fn renewal_info(&self, id: &CertId) -> Result<RenewalInfo, Failure> {
        let step = Step::RenewalInfo;
        let Some(base) = self.renewal_info_url() else {
            let why = "the CA does not offer renewal information";
            return Err(Failure::new(Class::Refused, step, why));
        };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let answer = self.http().get(&url).await;
        let (parts, body) = answer.map_err(|fault| Failure::from_fault(step, fault))?;
        window(&parts, &body, unix_now()).map_err(|why| Failure::new(Class::Unavailable, step, why))
    }
}

pub(super) fn window(parts: &Parts, body: &[u8], now: i64) -> Result<RenewalInfo, String> {
    let value: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON")?;
    let time = |key: &str| {
        let text = value["suggestedWindow"][key].as_str().unwrap_or_default();
        OffsetDateTime::parse(text, &Rfc3339)
            .map(OffsetDateTime::unix_timestamp)
            .map_err(|_| format!("the window's {key:?} is not a time"))
    };
    let (start, end) = (time("start")?, time("end")?);
    if end <= start {
        return Err("the window ends before it starts".to_owned());
    }
    let ca_now = clock(&parts.headers).unwrap_or(now);
    let asked = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = asked
        .and_then(|value| wait::retry_after(value, ca_now))
        .unwrap_or(RETRY_DEFAULT)
        .clamp(RETRY_LEAST, RETRY_MOST);
    let page = value["explanationURL"].as_str().map(|url| clean(url, 500));
    let explanation_url =
        page.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    Ok(RenewalInfo { start, end, explanation_url, retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9773, appendix A.
    const EXAMPLE: &str = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
";

    #[test]
    fn the_example_of_the_rfc() {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject;
        let leaf = CertificateDer::from_pem_slice(EXAMPLE.as_bytes()).unwrap();
        let id = CertId::of(&leaf).unwrap();
        assert_eq!(id.as_str(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        assert_eq!(id.to_acme().to_string(), id.as_str());
        assert_eq!(CertId::parse(id.as_str()), Some(id));
    }

    #[test]
    fn without_an_authority_key_there_is_no_id() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["app.openclaw.example".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        assert_eq!(CertId::of(leaf.der()), None);
        assert_eq!(CertId::of(b"not DER"), None);
    }

    #[test]
    fn what_is_stored_is_checked() {
        for bad in ["", ".", "a.", ".b", "a.b.c", "a/b.c", "a.b c", "ab"] {
            assert_eq!(CertId::parse(bad), None, "{bad:?}");
        }
        assert!(serde_json::from_str::<CertId>("\"../x.y\"").is_err());
        assert_eq!(serde_json::from_str::<CertId>("\"a.b\"").unwrap().as_str(), "a.b");
    }

    fn read(retry_after: Option<&str>, body: &str) -> Result<RenewalInfo, String> {
        let mut response = http::Response::builder();
        if let Some(value) = retry_after {
            response = response.header(RETRY_AFTER, value);
        }
        window(&response.body(()).unwrap().into_parts().0, body.as_bytes(), 1_000_000)
    }

    const WINDOW: &str = r#"{"suggestedWindow":{"start":"2026-11-22T10:00:00Z",
        "end":"2026-11-23T12:00:00.5+02:00"},"explanationURL":"https://ca.example/why"}"#;

    #[test]
    fn a_window() {
        let info = read(Some("7200"), WINDOW).unwrap();
        assert_eq!(info.start, 1_795_341_600);
        assert_eq!(info.end, 1_795_341_600 + 24 * 3600);
        assert_eq!(info.explanation_url.as_deref(), Some("https://ca.example/why"));
        assert_eq!(info.retry_after, 7200);
    }

    #[test]
    fn the_next_question_comes_within_bounds() {
        for (value, expected) in [
            (None, RETRY_DEFAULT),
            (Some("soon"), RETRY_DEFAULT),
            (Some("1"), RETRY_LEAST),
            (Some("9999999"), RETRY_MOST),
            (Some("Mon, 12 Jan 1970 15:46:40 GMT"), 2 * 3600),
        ] {
            assert_eq!(read(value, WINDOW).unwrap().retry_after, expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_window() {
        let twisted = WINDOW.replace("2026-11-23T", "2026-11-21T");
        let script = WINDOW.replace("https://ca.example/why", "javascript:alert(1)");
        assert!(read(None, &twisted).unwrap_err().contains("before it starts"));
        assert!(read(None, r#"{"suggestedWindow":{"start":"now"}}"#).is_err());
        assert!(read(None, "<html>").is_err());
        assert!(read(None, "[]").is_err());
        assert_eq!(read(None, &script).unwrap().explanation_url, None);
    }
}
