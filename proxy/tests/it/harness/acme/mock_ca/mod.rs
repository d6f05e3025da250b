//! A scriptable ACME server (RFC 8555, RFC 9773, profiles) over plain HTTP on loopback: for rate
//! limits, broken answers, hangs, moving windows and whatever else no real CA does on demand. It
//! checks what it is sent (signature, nonce, URL, form) as strictly as Pebble, marks challenges
//! valid at once unless told to fetch, and logs every request.

mod accounts;
mod answer;
mod certs;
mod endpoint;
mod fault;
mod jws;
mod knobs;
mod orders;
mod server;
mod sign;
mod state;
mod validate;

use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};

use rustls::pki_types::CertificateDer;

pub use answer::{Answer, Problem};
pub use certs::Issued;
pub use endpoint::Endpoint;
pub use fault::{Fault, http_date};
pub use knobs::{Knobs, Replaces, Validation};
pub use orders::Ordered;
pub use state::Entry;

use super::port::Port;
use crate::harness::{Tls, eventually, wait_until};
use state::{Shared, State};

pub struct MockCa {
    port: Port,
    shared: Arc<Shared>,
    server: server::Server,
}

impl MockCa {
    pub fn start() -> MockCa {
        MockCa::with(|_| ())
    }

    /// With knobs set before the first request.
    pub fn with(set: impl FnOnce(&mut Knobs)) -> MockCa {
        let port = Port::reserve();
        let listener = std::net::TcpListener::bind(port.addr).unwrap();
        let shared = Arc::new(Shared::new(port.addr));
        set(&mut shared.state().knobs);
        let server = server::Server::start(listener, shared.clone());
        MockCa { port, shared, server }
    }

    pub fn directory(&self) -> String {
        format!("http://{}/directory", self.port.addr)
    }

    /// What it issues is trusted by this root; the same for the CA's whole life.
    pub fn issuing_root(&self) -> CertificateDer<'static> {
        self.shared.authority.root()
    }

    /// For a client of the edge at `https` that trusts what is issued.
    pub fn trusted(&self, https: SocketAddr) -> Tls {
        Tls::trusting(https, [self.issuing_root()], rustls::ALL_VERSIONS)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    // === what it does ===

    /// Changes how it behaves from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.state().knobs);
    }

    /// The next `n` requests to this endpoint meet the fault, after those told before.
    pub fn next(&self, endpoint: Endpoint, n: usize, fault: &Fault) {
        let mut state = self.state();
        state.faults.entry(endpoint).or_default().extend(std::iter::repeat_n(fault.clone(), n));
    }

    /// Every request to this endpoint meets the fault, until [`MockCa::heal`].
    pub fn always(&self, endpoint: Endpoint, fault: &Fault) {
        self.state().lasting.insert(endpoint, fault.clone());
    }

    /// The same for every endpoint: the CA is down.
    pub fn down(&self, fault: &Fault) {
        for endpoint in Endpoint::ALL {
            self.always(endpoint, fault);
        }
    }

    /// The `n`th request of all, counted from 0, meets the fault.
    pub fn nth(&self, n: usize, fault: &Fault) {
        self.state().nth.insert(n, fault.clone());
    }

    /// No fault any more, neither counted nor lasting. What hangs, hangs on.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.lasting.clear();
        state.nth.clear();
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    /// Nobody listens at its address; connections are cut.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Listens again at the same address, with all its memory.
    pub fn resume(&mut self) {
        let listener = std::net::TcpListener::bind(self.port.addr).unwrap();
        self.server = server::Server::start(listener, self.shared.clone());
    }

    /// All accounts are gone: `accountDoesNotExist`.
    pub fn forget_accounts(&self) {
        self.state().accounts.clear();
    }

    /// All orders and authorizations are gone: 404.
    pub fn forget_orders(&self) {
        let mut state = self.state();
        // The indices of what there is stay what they are.
        state.orders.iter_mut().for_each(|order| order.gone = true);
        state.authorizations.iter_mut().for_each(|authorization| authorization.gone = true);
    }

    /// Every order that is `processing` is valid with the next look at it.
    pub fn finish_processing(&self) {
        self.state().orders.iter_mut().for_each(|order| order.polls_left = 0);
    }

    // === what it saw ===

    /// Every request, oldest first.
    pub fn log(&self) -> Vec<Entry> {
        self.state().log.clone()
    }

    pub fn requests(&self, endpoint: Endpoint) -> Vec<Entry> {
        let mut log = self.log();
        log.retain(|entry| entry.endpoint == Some(endpoint));
        log
    }

    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.requests(endpoint).len()
    }

    /// Waits until the endpoint has been asked `n` times in all (answered or not).
    pub fn wait_count(&self, endpoint: Endpoint, n: usize) {
        wait_until(&format!("{n} requests to {endpoint:?}"), || self.count(endpoint) >= n);
    }

    /// Waits until the `n`th request of all, counted from 0, met its fault: what a fault does before
    /// it hangs is done.
    pub fn wait_hung(&self, n: usize) {
        wait_until(&format!("request {n} to hang"), || self.log().get(n).is_some_and(|e| e.hung));
    }

    /// Every token that it gave out for a name, the oldest first.
    pub fn tokens(&self, name: &str) -> Vec<String> {
        let state = self.state();
        let of_name = state.authorizations.iter().filter(|one| one.name == name);
        of_name.map(|one| one.token.clone()).collect()
    }

    pub fn accounts(&self) -> usize {
        self.state().accounts.len()
    }

    /// The orders that it accepted.
    pub fn orders(&self) -> Vec<Ordered> {
        self.state().ordered()
    }

    /// Every certificate that it signed.
    pub fn issued(&self) -> Vec<Issued> {
        self.state().issued.clone()
    }

    pub fn wait_issued(&self, n: usize) -> Vec<Issued> {
        eventually(&format!("{n} certificates"), || {
            Some(self.issued()).filter(|issued| issued.len() >= n)
        })
    }

    /// Names whose authorizations are valid, pending and so on: `(name, status)`.
    pub fn authorizations(&self) -> Vec<(String, String)> {
        let state = self.state();
        let each = state.authorizations.iter().map(|a| (a.name.clone(), a.status.to_owned()));
        each.collect()
    }

    /// What it would have refused as malformed, badly signed or out of form: none with a good
    /// client. Problems that faults and knobs made are not in it.
    pub fn complaints(&self) -> Vec<String> {
        self.state().complaints.clone()
    }
}
