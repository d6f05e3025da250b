//! How the CA behaves; may be changed at any time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::answer::Problem;

#[derive(Clone, Debug)]
pub struct Knobs {
    /// Seconds that a certificate lives from now.
    pub lifetime: i64,
    /// Seconds that notBefore lies in the past (negative: in the future).
    pub backdate: i64,
    /// Profiles that the directory lists, with their lifetimes in seconds. A name in an order that
    /// is not among them is refused with `invalidProfile`.
    pub profiles: BTreeMap<String, i64>,
    /// External Account Binding that a new account needs: key id and HMAC key.
    pub eab: Option<(String, Vec<u8>)>,
    /// A key id is good for one account.
    pub eab_once: bool,
    /// Every contact is refused with `invalidContact`.
    pub refuse_contact: bool,
    pub validation: Validation,
    /// Names whose challenges fail, and why.
    pub invalid: BTreeMap<String, Problem>,
    /// A failed order tells its error itself (Pebble), not only its authorizations (Boulder).
    pub order_error: bool,
    /// Names that no order may have; refused with a subproblem each.
    pub rejected: BTreeMap<String, Problem>,
    /// How often an order is polled after finalize before it is valid.
    pub processing_polls: u32,
    /// Seconds in the Retry-After of orders and authorizations that are not done.
    pub poll_retry_after: Option<u64>,
    /// The directory lists `renewalInfo`.
    pub renewal_info: bool,
    /// ARI window (Unix seconds) for every certificate; by default 60 to 70 % of its life.
    pub window: Option<(i64, i64)>,
    /// The same for one certificate by its id; goes before `window`.
    pub windows: BTreeMap<String, (i64, i64)>,
    pub explanation: Option<String>,
    /// Of renewalInfo; None leaves the field out.
    pub renewal_retry_after: Option<String>,
    pub replaces: Replaces,
    /// The same account gets its pending or ready order for the same names again.
    pub reuse_orders: bool,
    /// A new order reuses the account's valid authorizations.
    pub reuse_authorizations: bool,
    /// What it takes for the time, Unix seconds; the machine's clock by default. The Date field is
    /// always of the machine's.
    pub clock: Option<Arc<AtomicI64>>,
    /// Seconds that the Date field is ahead of the true time.
    pub date_ahead: i64,
    pub caa_identities: Vec<String>,
}

/// How challenges are validated, unless a name is in [`Knobs::invalid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Valid at once, nothing is fetched.
    Trust,
    /// HTTP-01 is fetched here, with the name as Host.
    Fetch(SocketAddr),
    /// Stays `processing`.
    Never,
}

/// What becomes of `replaces` in an order (RFC 9773 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// Told back; 409 `alreadyReplaced` the second time.
    Honour,
    /// Accepted and not told back.
    Ignore,
    /// 409 `alreadyReplaced` always.
    Refuse,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            lifetime: 90 * 86_400,
            backdate: 0,
            profiles: BTreeMap::new(),
            eab: None,
            eab_once: false,
            refuse_contact: false,
            validation: Validation::Trust,
            invalid: BTreeMap::new(),
            order_error: false,
            rejected: BTreeMap::new(),
            processing_polls: 0,
            poll_retry_after: None,
            renewal_info: true,
            window: None,
            windows: BTreeMap::new(),
            explanation: None,
            renewal_retry_after: Some("21600".to_owned()),
            replaces: Replaces::Honour,
            reuse_orders: false,
            reuse_authorizations: false,
            clock: None,
            date_ahead: 0,
            caa_identities: Vec::new(),
        }
    }
}
