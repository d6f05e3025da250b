//! The CA's directory (RFC 8555 §7.1.1): what it offers and what it demands.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::text::clean;

/// What matters to us of the directory's `meta`. Text is cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub terms_of_service: Option<String>,
    /// Registering needs an [`Eab`](super::Eab).
    pub external_account_required: bool,
    /// What a CAA record must name to allow this CA (RFC 8659).
    pub caa_identities: Vec<String>,
    /// Sorted. Empty: the CA knows none.
    pub profiles: Vec<String>,
    /// The CA tells when it wants a certificate renewed (RFC 9773).
    pub renewal_info: bool,
}

/// A directory that was read: what it says, and what the library needs of it.
#[derive(Debug)]
pub(super) struct Read {
    pub directory: Directory,
    pub renewal_info: Option<String>,
    /// A directory with nothing in it but the addresses, for `instant-acme`: it refuses the
    /// whole document for one odd field in `meta`.
    pub addresses: Bytes,
}

pub(super) fn read(body: &[u8]) -> Result<Read, String> {
    let value: Value = serde_json::from_slice(body).map_err(|_| not_a_directory("not JSON"))?;
    let mut addresses = Map::new();
    for (key, needed) in [
        ("newNonce", true),
        ("newAccount", true),
        ("newOrder", true),
        ("revokeCert", false),
        ("keyChange", false),
        ("renewalInfo", false),
    ] {
        match value[key].as_str().filter(|url| !url.is_empty()) {
            Some(url) => drop(addresses.insert(key.to_owned(), json!(url))),
            None if needed => return Err(not_a_directory(&format!("no {key:?}"))),
            None => {}
        }
    }
    let renewal_info = addresses.get("renewalInfo").and_then(Value::as_str).map(str::to_owned);
    let meta = &value["meta"];
    let directory = Directory {
        terms_of_service: meta["termsOfService"].as_str().map(|url| clean(url, 500)),
        external_account_required: meta["externalAccountRequired"].as_bool().unwrap_or(false),
        caa_identities: list(meta["caaIdentities"].as_array()),
        profiles: profiles(&meta["profiles"]),
        renewal_info: renewal_info.is_some(),
    };
    let addresses = Bytes::from(Value::Object(addresses).to_string());
    Ok(Read { directory, renewal_info, addresses })
}

fn not_a_directory(why: &str) -> String {
    format!("this is not the directory of an ACME server: {why}")
}

fn list(values: Option<&Vec<Value>>) -> Vec<String> {
    let texts = values.into_iter().flatten().filter_map(Value::as_str);
    texts.take(100).map(|text| clean(text, 253)).collect()
}

fn profiles(meta: &Value) -> Vec<String> {
    let names = meta.as_object().into_iter().flat_map(Map::keys);
    let mut names: Vec<String> = names.take(100).map(|name| clean(name, 100)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_directory() {
        let read = read(
            br#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o",
            "renewalInfo":"https://ca/ari","newAuthz":7,"meta":{"termsOfService":"https://ca/tos",
            "externalAccountRequired":true,"caaIdentities":["ca.example"],
            "profiles":{"tlsserver":"x","classic":{"odd":1}}}}"#,
        )
        .unwrap();
        let expected = Directory {
            terms_of_service: Some("https://ca/tos".to_owned()),
            external_account_required: true,
            caa_identities: vec!["ca.example".to_owned()],
            profiles: vec!["classic".to_owned(), "tlsserver".to_owned()],
            renewal_info: true,
        };
        assert_eq!(read.directory, expected);
        assert_eq!(read.renewal_info.as_deref(), Some("https://ca/ari"));
        let kept: Value = serde_json::from_slice(&read.addresses).unwrap();
        assert_eq!(kept["newOrder"], "https://ca/o");
        assert_eq!(kept["meta"], Value::Null);
    }

    #[test]
    fn the_least_directory_and_what_is_none() {
        let least =
            br#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"}"#;
        assert_eq!(read(least).unwrap().directory, Directory::default());
        assert!(read(br#"{"newNonce":"https://ca/n"}"#).unwrap_err().contains("newAccount"));
        assert!(read(b"<html>").unwrap_err().contains("not JSON"));
        assert!(read(b"[1]").is_err());
    }
}
