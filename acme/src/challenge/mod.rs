//! What the data plane answers to a validating CA: HTTP-01 tokens and TLS-ALPN-01 certificates.
//!
//! The control side writes, workers read. A read takes no lock: each table is immutable and
//! replaced as a whole. Writes are rare (a few per order) and copy the table of hosts.

mod alpn;
mod hits;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;

pub use alpn::{ALPN_PROTOCOL, alpn_certificate};
pub use hits::Hits;

use crate::name::canonical;
use hits::Counter;

/// The path under which HTTP-01 tokens are asked for (RFC 8555 §8.3).
pub const PATH_PREFIX: &str = "/.well-known/acme-challenge/";

/// Tokens held at once, and likewise TLS-ALPN-01 certificates.
pub const MAX_PENDING: usize = 10_000;

/// Seconds for which a token is answered after its challenge is over: a CA may look from further
/// places, and a person may want to see it work.
pub const KEEP_DONE: i64 = 600;

/// Challenges that are under way, shared by the control side and every worker.
#[derive(Default)]
pub struct Challenges {
    tokens: ArcSwap<Tokens>,
    stateless: ArcSwap<HashMap<Box<str>, Stateless>>,
    alpn: ArcSwap<HashMap<Box<str>, AlpnEntry>>,
    /// Entries of `alpn`: read at every handshake.
    alpn_count: AtomicUsize,
    /// Writers take turns.
    writer: Mutex<()>,
}

#[derive(Clone, Default)]
struct Tokens {
    hosts: HashMap<Box<str>, Host>,
    /// Tokens of all hosts.
    count: usize,
}

#[derive(Clone, Default)]
struct Host {
    tokens: HashMap<Box<str>, Token>,
    hits: Arc<Counter>,
}

#[derive(Clone)]
struct Token {
    key_authorization: Arc<str>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Over; answered until this Unix time.
    DoneUntil(i64),
    /// Over; the next sweep says until when.
    Done,
    Pending,
}

struct Stateless {
    thumbprint: Box<str>,
    hits: Arc<Counter>,
}

#[derive(Clone)]
struct AlpnEntry {
    host: Box<str>,
    certificate: Arc<CertifiedKey>,
    hits: Arc<Counter>,
}

/// Why a challenge was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// [`MAX_PENDING`] are under way.
    Full,
    /// Not of the form `[A-Za-z0-9_-]{16,256}`: the CA's token is not answered as it is.
    Token,
    /// No name that a certificate can carry.
    Host,
}

impl Challenges {
    /// Answers `token` on `host` with `key_authorization` from now on.
    ///
    /// # Errors
    /// [`Refused`]; tokens that are done make room for new ones.
    pub fn offer(&self, host: &str, token: &str, key_authorization: &str) -> Result<(), Refused> {
        if !is_token(token) {
            return Err(Refused::Token);
        }
        let host = canonical(host).map_err(|_| Refused::Host)?;
        let _turn = self.turn();
        let mut tokens = Tokens::clone(&self.tokens.load());
        if !tokens.contains(&host, token) && tokens.count >= MAX_PENDING && !tokens.forget_one() {
            return Err(Refused::Full);
        }
        let entry = Token { key_authorization: key_authorization.into(), state: State::Pending };
        let of_host = tokens.hosts.entry(host.into()).or_default();
        if of_host.tokens.insert(token.into(), entry).is_none() {
            tokens.count += 1;
        }
        self.tokens.store(Arc::new(tokens));
        Ok(())
    }

    /// The challenge is over, well or not. The token is answered for [`KEEP_DONE`] seconds more,
    /// counted from the next [`sweep`](Self::sweep).
    pub fn done(&self, host: &str, token: &str) {
        let Ok(host) = canonical(host) else { return };
        let _turn = self.turn();
        let mut tokens = Tokens::clone(&self.tokens.load());
        let entry = tokens.hosts.get_mut(host.as_str()).and_then(|host| host.tokens.get_mut(token));
        let Some(entry) = entry.filter(|entry| entry.state == State::Pending) else { return };
        entry.state = State::Done;
        self.tokens.store(Arc::new(tokens));
    }

    /// Forgets tokens whose time is over at `now` (Unix seconds). To be called now and then; a
    /// clock that was set back does not make a token stay longer than [`KEEP_DONE`] anew.
    pub fn sweep(&self, now: i64) {
        let _turn = self.turn();
        let current = self.tokens.load();
        let pending = |token: &Token| token.state == State::Pending;
        if current.hosts.values().all(|host| host.tokens.values().all(pending)) {
            return;
        }
        let mut tokens = Tokens::clone(&current);
        tokens.sweep(now);
        self.tokens.store(Arc::new(tokens));
    }

    /// From now on any well-formed token is answered for these hosts (each with the thumbprint of
    /// the account key that orders for it): for a process that does not order itself and cannot
    /// know the tokens. Safe, because the answer is bound to that account's key (RFC 8555 §8.1).
    /// Replaces the former set; names that no certificate can carry are left out.
    pub fn set_stateless(&self, thumbprints: HashMap<String, String>) {
        let _turn = self.turn();
        let former = self.stateless.load();
        let entry = |(host, thumbprint): (String, String)| {
            let host: Box<str> = canonical(&host).ok()?.into();
            let hits = former.get(&host).map(|former| former.hits.clone()).unwrap_or_default();
            Some((host, Stateless { thumbprint: thumbprint.into(), hits }))
        };
        let table = thumbprints.into_iter().filter_map(entry).collect();
        self.stateless.store(Arc::new(table));
    }

    /// The key authorization for a token asked of a host (lower case, without port and trailing
    /// dot; an IPv6 address may be in brackets). Tokens that were offered come first.
    pub fn answer(&self, host: &str, token: &str) -> Option<String> {
        self.answer_to(host, token, None)
    }

    /// The same, counted as a hit from `peer`.
    pub fn answer_to(&self, host: &str, token: &str, peer: Option<IpAddr>) -> Option<String> {
        let count = |hits: &Counter| {
            if let Some(peer) = peer {
                hits.count(peer);
            }
        };
        if !is_token(token) {
            return None;
        }
        let name = without_brackets(host);
        let host = name.as_ref();
        let tokens = self.tokens.load();
        let known =
            tokens.hosts.get(host).and_then(|found| Some((found, found.tokens.get(token)?)));
        if let Some((found, token)) = known {
            count(&found.hits);
            return Some(token.key_authorization.as_ref().to_owned());
        }
        let stateless = self.stateless.load();
        let found = stateless.get(host)?;
        count(&found.hits);
        Some(format!("{token}.{}", found.thumbprint))
    }

    /// Shows this certificate to a CA that asks for `host` by TLS-ALPN-01.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Host`].
    pub fn offer_alpn(&self, host: &str, certificate: Arc<CertifiedKey>) -> Result<(), Refused> {
        let host = canonical(host).map_err(|_| Refused::Host)?;
        let _turn = self.turn();
        let mut table = HashMap::clone(&self.alpn.load());
        let server_name = alpn::server_name(&host);
        if table.len() >= MAX_PENDING && !table.contains_key(server_name.as_str()) {
            return Err(Refused::Full);
        }
        let former = table.get(server_name.as_str());
        let hits = former.map(|former| former.hits.clone()).unwrap_or_default();
        let entry = AlpnEntry { host: host.into(), certificate, hits };
        table.insert(server_name.into(), entry);
        self.store_alpn(table);
        Ok(())
    }

    /// The challenge is over: the certificate is not shown any more.
    pub fn done_alpn(&self, host: &str) {
        let Ok(host) = canonical(host) else { return };
        let _turn = self.turn();
        let mut table = HashMap::clone(&self.alpn.load());
        if table.remove(alpn::server_name(&host).as_str()).is_some() {
            self.store_alpn(table);
        }
    }

    /// Whether any TLS-ALPN-01 challenge is under way. One relaxed load.
    pub fn alpn_pending(&self) -> bool {
        self.alpn_count.load(Ordering::Relaxed) > 0
    }

    /// The certificate for a server name (lower case) that a CA asks for by TLS-ALPN-01.
    pub fn alpn_certificate(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
        Some(self.alpn.load().get(server_name)?.certificate.clone())
    }

    /// A TLS-ALPN-01 handshake for this server name was finished.
    pub fn count_alpn(&self, server_name: &str, peer: IpAddr) {
        if let Some(entry) = self.alpn.load().get(server_name) {
            entry.hits.count(peer);
        }
    }

    /// Who asked for this host's challenges and was answered. Kept as long as the host has a
    /// challenge here, so to be read before the last one is swept.
    pub fn hits(&self, host: &str) -> Hits {
        let mut hits = Hits::default();
        let Ok(host) = canonical(host) else { return hits };
        if let Some(found) = self.tokens.load().hosts.get(host.as_str()) {
            found.hits.add_to(&mut hits);
        }
        if let Some(found) = self.stateless.load().get(host.as_str()) {
            found.hits.add_to(&mut hits);
        }
        for entry in self.alpn.load().values().filter(|entry| *entry.host == *host) {
            entry.hits.add_to(&mut hits);
        }
        hits
    }

    fn store_alpn(&self, table: HashMap<Box<str>, AlpnEntry>) {
        let count = table.len();
        self.alpn.store(Arc::new(table));
        self.alpn_count.store(count, Ordering::Relaxed);
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // Nothing is half done under the lock: tables are replaced as a whole.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn contains(&self, host: &str, token: &str) -> bool {
        self.hosts.get(host).is_some_and(|host| host.tokens.contains_key(token))
    }

    /// Forgets the token that has been done for longest. `false`: every token is pending.
    fn forget_one(&mut self) -> bool {
        let all = self.hosts.iter().flat_map(|(host, of_host)| {
            of_host.tokens.iter().map(move |(token, entry)| (entry.state, host, token))
        });
        let oldest = all.filter(|(state, ..)| *state != State::Pending).min();
        let Some((host, token)) = oldest.map(|(_, host, token)| (host.clone(), token.clone()))
        else {
            return false;
        };
        self.retain(|h, t, _| *h != *host || *t != *token);
        true
    }

    fn sweep(&mut self, now: i64) {
        let latest = now.saturating_add(KEEP_DONE);
        for token in self.hosts.values_mut().flat_map(|host| host.tokens.values_mut()) {
            token.state = match token.state {
                State::Pending => State::Pending,
                State::Done => State::DoneUntil(latest),
                // The clock was set back: not longer than from now.
                State::DoneUntil(until) => State::DoneUntil(until.min(latest)),
            };
        }
        self.retain(|_, _, state| !matches!(state, State::DoneUntil(until) if until <= now));
    }

    fn retain(&mut self, keep: impl Fn(&str, &str, State) -> bool) {
        self.hosts.retain(|host, of_host| {
            of_host.tokens.retain(|token, entry| keep(host, token, entry.state));
            !of_host.tokens.is_empty()
        });
        self.count = self.hosts.values().map(|host| host.tokens.len()).sum();
    }
}

/// How many there are, never what they say.
impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges")
            .field("tokens", &self.tokens.load().count)
            .field("stateless", &self.stateless.load().len())
            .field("alpn", &self.alpn.load().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full => "too many challenges are under way",
            Refused::Token => "the challenge's token is malformed",
            Refused::Host => "the challenge's host is no name for a certificate",
        })
    }
}

impl std::error::Error for Refused {}

/// base64url, as RFC 8555 §8.1 has it, of a sensible length.
fn is_token(token: &str) -> bool {
    (16..=256).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A Host's IPv6 literal as [`canonical`] spells it; anything else as it is.
fn without_brackets(host: &str) -> std::borrow::Cow<'_, str> {
    match host.starts_with('[').then(|| canonical(host)) {
        Some(Ok(name)) => name.into(),
        _ => host.into(),
    }
}

#[cfg(test)]
mod tests;
