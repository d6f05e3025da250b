//! Who may use a route: by address, by password, or both. It knows no request heads and no
//! sockets; `request` asks it and answers.
//!
//! - [`addresses`]: lists of networks.
//! - [`credentials`]: what the client says who it is.
//! - [`users`], `schemes`: a password table, and how passwords are kept in one.
//! - [`passwords`], `books`, `verdicts`: the thread that verifies them, who waits for it, and what
//!   is remembered.

pub mod addresses;
mod books;
pub mod credentials;
pub mod passwords;
mod schemes;
pub mod users;
mod verdicts;

use std::net::IpAddr;
use std::sync::Arc;

use config::model::{self, PathRule, Satisfy};
use prometheus::IntCounter;

use crate::metrics::{Kept, Metrics};
use crate::route::find::path_matches;
use addresses::Addresses;
use credentials::Credentials;
use users::{Question, Users};

/// What a route demands, compiled.
pub struct Access {
    addresses: Addresses,
    passwords: Option<Table>,
    except: Vec<PathRule>,
    /// The address or the password is enough.
    any: bool,
    /// The series of what was said.
    said: Kept<Decision, IntCounter>,
}

struct Table {
    users: Arc<Users>,
    realm: Arc<str>,
}

/// What the address alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByAddress {
    /// Nothing more is asked.
    Granted,
    /// 403.
    Denied,
    /// Ask [`Access::by_password`].
    NeedsPassword,
}

/// What is known without hashing a password.
#[derive(Debug)]
pub enum Judgement {
    Granted,
    /// 403: the address.
    Denied,
    /// The password decides: a wrong one is 401 with [`Access::realm`].
    NeedsPassword(Question),
    /// 401 with this realm: no credentials, or none that can be read.
    Unauthorized(Arc<str>),
}

impl Access {
    pub fn new(model: &model::Access) -> Access {
        let passwords = model.basic_auth.as_ref().map(|auth| Table {
            users: Arc::new(Users::new(&auth.users)),
            realm: auth.realm.as_str().into(),
        });
        Access {
            addresses: Addresses::new(&model.allow, &model.deny),
            // Of one demand there is nothing to choose.
            any: model.satisfy == Satisfy::Any && passwords.is_some(),
            passwords,
            except: model.except.clone(),
            said: Kept::default(),
        }
    }

    /// Counts what was said to a request on this route, by its label.
    pub fn count(&self, metrics: &Metrics, route: &str, decision: Decision) {
        self.said.get(decision, || metrics.auth_decisions_of(route, decision)).inc();
    }

    /// Whether paths are read.
    pub fn has_exceptions(&self) -> bool {
        !self.except.is_empty()
    }

    /// Whether nothing is asked for this path (normalised, design.md #15).
    pub fn excepted(&self, path: &[u8]) -> bool {
        self.except.iter().any(|rule| path_matches(rule, path))
    }

    /// The first step: paths and addresses. With `satisfy: any` an address has to be in `allow` to
    /// do without a password; one that is denied may still bring one.
    pub fn by_address(&self, address: IpAddr, path: &[u8]) -> ByAddress {
        if self.excepted(path) {
            ByAddress::Granted
        } else if self.any {
            match self.addresses.listed(address) {
                Some(true) => ByAddress::Granted,
                _ => ByAddress::NeedsPassword,
            }
        } else if !self.addresses.allows(address) {
            ByAddress::Denied
        } else if self.passwords.is_some() {
            ByAddress::NeedsPassword
        } else {
            ByAddress::Granted
        }
    }

    /// The second step, where the first one asks for it. `authorization`: the field's value.
    pub fn by_password(&self, authorization: Option<&[u8]>) -> Judgement {
        let Some(table) = &self.passwords else { return Judgement::Granted };
        match authorization.and_then(Credentials::parse) {
            Some(sent) => Judgement::NeedsPassword(Question::new(table.users.clone(), sent)),
            None => Judgement::Unauthorized(table.realm.clone()),
        }
    }

    /// Both steps.
    pub fn judge(&self, address: IpAddr, path: &[u8], authorization: Option<&[u8]>) -> Judgement {
        match self.by_address(address, path) {
            ByAddress::Granted => Judgement::Granted,
            ByAddress::Denied => Judgement::Denied,
            ByAddress::NeedsPassword => self.by_password(authorization),
        }
    }

    /// Of the password table, for a wrong password's 401.
    pub fn realm(&self) -> Option<&Arc<str>> {
        self.passwords.as_ref().map(|table| &table.realm)
    }
}

/// How a request fared; the label `result` of `edge_auth_decisions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Granted,
    /// 403: the address.
    Denied,
    /// 401: no credentials or wrong ones.
    Wrong,
    /// 429: too many wrong guesses.
    Limited,
    /// 503: no verdict in time.
    Busy,
}

impl Decision {
    pub fn label(self) -> &'static str {
        match self {
            Decision::Granted => "granted",
            Decision::Denied => "denied",
            Decision::Wrong => "wrong",
            Decision::Limited => "limited",
            Decision::Busy => "busy",
        }
    }
}

#[cfg(test)]
mod tests {
    use config::model::BasicAuth;
    use config::value::NormPath;

    use super::*;

    const INSIDE: &str = "192.0.2.1";
    const SHUT_OUT: &str = "192.0.2.66";
    const ELSEWHERE: &str = "198.51.100.1";

    fn access(satisfy: Satisfy, lists: bool, password: bool) -> Access {
        let nets = |net: &str| if lists { vec![net.parse().unwrap()] } else { Vec::new() };
        let norm = |path| NormPath::parse(path).unwrap();
        Access::new(&model::Access {
            allow: nets("192.0.2.0/24"),
            deny: nets("192.0.2.66/32"),
            basic_auth: password
                .then(|| BasicAuth { users: Vec::new(), realm: "nango".to_owned() }),
            satisfy,
            except: vec![
                PathRule::Exact(norm("/oauth/callback")),
                PathRule::Prefix(norm("/webhook")),
            ],
        })
    }

    /// In short: granted, denied, password, 401.
    fn judge(access: &Access, ip: &str, path: &str, authorization: Option<&str>) -> char {
        let authorization = authorization.map(str::as_bytes);
        match access.judge(ip.parse().unwrap(), path.as_bytes(), authorization) {
            Judgement::Granted => 'g',
            Judgement::Denied => 'd',
            Judgement::NeedsPassword(_) => 'p',
            Judgement::Unauthorized(realm) => {
                assert_eq!((&*realm, access.realm()), ("nango", Some(&realm)));
                '4'
            }
        }
    }

    #[test]
    fn every_combination_of_demands() {
        let (all, any) = (Satisfy::All, Satisfy::Any);
        // From an allowed, a denied and another address, without and with credentials.
        for (satisfy, lists, password, expected) in [
            (all, true, true, "4p dd dd"),
            (all, true, false, "gg dd dd"),
            (all, false, true, "4p 4p 4p"),
            (all, false, false, "gg gg gg"),
            (any, true, true, "gg 4p 4p"),
            // Without a password the addresses decide alone,
            (any, true, false, "gg dd dd"),
            // and without an allowed one the password.
            (any, false, true, "4p 4p 4p"),
            (any, false, false, "gg gg gg"),
        ] {
            let access = access(satisfy, lists, password);
            let judged: Vec<String> = [INSIDE, SHUT_OUT, ELSEWHERE]
                .iter()
                .map(|ip| {
                    let sent = [None, Some("Basic YTpi")];
                    sent.iter().map(|sent| judge(&access, ip, "/", *sent)).collect()
                })
                .collect();
            assert_eq!(judged.join(" "), expected, "{satisfy:?} {lists} {password}");
        }
    }

    #[test]
    fn other_credentials_are_none() {
        let access = access(Satisfy::All, true, true);
        for sent in ["Bearer YTpi", "Basic", "Basic junk!", ""] {
            assert_eq!(judge(&access, INSIDE, "/", Some(sent)), '4', "{sent:?}");
        }
    }

    #[test]
    fn excepted_paths_are_open_to_all_and_their_neighbours_are_not() {
        let access = access(Satisfy::All, true, true);
        for (path, judged) in [
            ("/oauth/callback", 'g'),
            ("/webhook", 'g'),
            ("/webhook/a/b", 'g'),
            ("/oauth/callback/", 'd'),
            ("/oauth/callbackx", 'd'),
            ("/webhooks", 'd'),
            ("/WEBHOOK", 'd'),
            ("/", 'd'),
        ] {
            assert_eq!(judge(&access, ELSEWHERE, path, None), judged, "{path}");
        }
    }
}
