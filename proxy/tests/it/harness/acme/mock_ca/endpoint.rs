//! The resources of RFC 8555 §7.1 by their paths.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    Directory,
    NewNonce,
    NewAccount,
    Account,
    NewOrder,
    Order,
    Authorization,
    Challenge,
    Finalize,
    Certificate,
    Revoke,
    RenewalInfo,
}

impl Endpoint {
    pub const ALL: [Endpoint; 12] = [
        Endpoint::Directory,
        Endpoint::NewNonce,
        Endpoint::NewAccount,
        Endpoint::Account,
        Endpoint::NewOrder,
        Endpoint::Order,
        Endpoint::Authorization,
        Endpoint::Challenge,
        Endpoint::Finalize,
        Endpoint::Certificate,
        Endpoint::Revoke,
        Endpoint::RenewalInfo,
    ];

    /// The endpoint's folder; what follows it is the id of one object.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Directory => "/directory",
            Endpoint::NewNonce => "/new-nonce",
            Endpoint::NewAccount => "/new-account",
            Endpoint::Account => "/account",
            Endpoint::NewOrder => "/new-order",
            Endpoint::Order => "/order",
            Endpoint::Authorization => "/authorization",
            Endpoint::Challenge => "/challenge",
            Endpoint::Finalize => "/finalize",
            Endpoint::Certificate => "/certificate",
            Endpoint::Revoke => "/revoke",
            Endpoint::RenewalInfo => "/renewal-info",
        }
    }

    /// With the id: the rest after the folder, "" for none.
    pub fn of(path: &str) -> Option<(Endpoint, &str)> {
        let (folder, id) = match path[1..].find('/') {
            Some(at) => (&path[..=at], &path[at + 2..]),
            None => (path, ""),
        };
        let endpoint = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == folder)?;
        Some((endpoint, id))
    }

    /// Asked by POST with a signed body; the others by GET or HEAD.
    pub fn is_signed(self) -> bool {
        !matches!(self, Endpoint::Directory | Endpoint::NewNonce | Endpoint::RenewalInfo)
    }
}
