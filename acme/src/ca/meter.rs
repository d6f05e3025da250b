//! What is told of each request to a CA: what was asked, how it ended, how long it took.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::Uri;
use ::http::response::Parts;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::http::Fault;

/// A request to a CA that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub action: Action,
    /// The status of the answer; `None`: there was no whole one.
    pub status: Option<u16>,
    /// Name lookup, connecting and TLS included.
    pub took: Duration,
}

/// Hears of each request when it has ended. Called on the thread that asked.
pub type Listener = Arc<dyn Fn(Asked) + Send + Sync>;

/// What was asked for, by the resources of RFC 8555 §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Directory,
    NewNonce,
    NewAccount,
    NewOrder,
    RevokeCert,
    RenewalInfo,
    /// An address that the CA made up: an order, an authorization, a challenge, a certificate.
    Resource,
}

/// Of one CA; clones share what was learnt of its addresses.
#[derive(Clone, Default)]
pub(super) struct Meter {
    listener: Option<Listener>,
    /// Those of the directory, once it has been read.
    addresses: Arc<OnceLock<Vec<(String, Action)>>>,
}

impl Asked {
    /// For a metric: the class of the status, `429` (a limit) by itself, `none` without an answer.
    pub fn code(&self) -> &'static str {
        match self.status {
            None => "none",
            Some(429) => "429",
            Some(..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(500..) => "5xx",
        }
    }
}

impl Action {
    pub fn word(self) -> &'static str {
        match self {
            Action::Directory => "directory",
            Action::NewNonce => "new_nonce",
            Action::NewAccount => "new_account",
            Action::NewOrder => "new_order",
            Action::RevokeCert => "revoke_cert",
            Action::RenewalInfo => "renewal_info",
            Action::Resource => "resource",
        }
    }
}

impl Meter {
    pub fn new(listener: Option<Listener>) -> Meter {
        Meter { listener, addresses: Arc::default() }
    }

    /// The addresses of a directory that was read.
    pub fn learn(&self, addresses: &Bytes) {
        let known: Map<String, Value> = serde_json::from_slice(addresses).unwrap_or_default();
        let address = |(key, action): (&str, Action)| Some((known.get(key)?.as_str()?, action));
        let addresses = [
            ("newNonce", Action::NewNonce),
            ("newAccount", Action::NewAccount),
            ("newOrder", Action::NewOrder),
            ("revokeCert", Action::RevokeCert),
            ("renewalInfo", Action::RenewalInfo),
        ];
        let addresses = addresses.into_iter().filter_map(address);
        // A directory is read once per client.
        let _ =
            self.addresses.set(addresses.map(|(url, action)| (url.to_owned(), action)).collect());
    }

    pub fn action(&self, uri: &Uri) -> Action {
        let Some(addresses) = self.addresses.get() else { return Action::Directory };
        let uri = uri.to_string();
        let asked = |(url, action): &&(String, Action)| match action {
            // The certificate's id follows (RFC 9773 §4.1).
            Action::RenewalInfo => uri.starts_with(url.as_str()),
            _ => uri == *url,
        };
        addresses.iter().find(asked).map_or(Action::Resource, |(_, action)| *action)
    }

    pub fn tell(&self, action: Action, begun: Instant, ended: &Result<(Parts, Bytes), Fault>) {
        let Some(listener) = &self.listener else { return };
        let status = match ended {
            Ok((parts, _)) => Some(parts.status.as_u16()),
            Err(Fault::Answer { status, .. }) => Some(*status),
            Err(Fault::Network(_)) => None,
        };
        listener(Asked { action, status, took: begun.elapsed() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_those_of_the_directory() {
        let meter = Meter::default();
        let action = |uri: &str| meter.action(&uri.parse().unwrap());
        assert_eq!(action("https://ca.openclaw.example/dir"), Action::Directory);
        meter.learn(&Bytes::from_static(
            br#"{"newNonce":"https://ca.openclaw.example/n","newOrder":"https://ca.openclaw.example/o",
            "renewalInfo":"https://ca.openclaw.example/ari"}"#,
        ));
        assert_eq!(action("https://ca.openclaw.example/n"), Action::NewNonce);
        assert_eq!(action("https://ca.openclaw.example/o"), Action::NewOrder);
        assert_eq!(action("https://ca.openclaw.example/o/17"), Action::Resource);
        assert_eq!(action("https://ca.openclaw.example/ari/a.b"), Action::RenewalInfo);
    }

    #[test]
    fn codes_are_a_closed_list() {
        let code = |status| {
            let took = Duration::ZERO;
            Asked { action: Action::Resource, status, took }.code()
        };
        let told: Vec<&str> =
            [None, Some(201), Some(302), Some(404), Some(429), Some(503), Some(999)]
                .map(code)
                .to_vec();
        assert_eq!(told, ["none", "2xx", "3xx", "4xx", "429", "5xx", "5xx"]);
    }
}
