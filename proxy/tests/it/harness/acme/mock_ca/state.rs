//! What the CA knows, behind one lock.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::accounts::Account;
use super::certs::Issued;
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::jws;
use super::knobs::Knobs;
use super::orders::{Authorization, Order};
use super::sign::Authority;

pub struct Shared {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    pub authority: Authority,
    state: Mutex<State>,
}

impl Shared {
    pub fn new(addr: SocketAddr) -> Shared {
        let state = Mutex::default();
        Shared { base: format!("http://{addr}"), authority: Authority::new(), state }
    }

    /// A test that failed meanwhile is no reason to fail here.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn url(&self, endpoint: Endpoint, id: impl std::fmt::Display) -> String {
        format!("{}{}/{id}", self.base, endpoint.path())
    }
}

/// Objects are named by their index, so nothing is ever removed from a list but accounts.
#[derive(Default)]
pub struct State {
    pub knobs: Knobs,
    pub faults: HashMap<Endpoint, VecDeque<Fault>>,
    pub lasting: HashMap<Endpoint, Fault>,
    /// By the place in the log.
    pub nth: BTreeMap<usize, Fault>,
    pub nonces: HashSet<String>,
    /// By id.
    pub accounts: HashMap<String, Account>,
    pub eab_used: HashSet<String>,
    pub authorizations: Vec<Authorization>,
    pub orders: Vec<Order>,
    pub issued: Vec<Issued>,
    pub log: Vec<Entry>,
    pub complaints: Vec<String>,
}

/// One request as it came.
#[allow(dead_code, reason = "the rest is shown when a test fails")]
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Instant,
    pub unix: i64,
    pub method: String,
    pub path: String,
    /// None for a path that there is not.
    pub endpoint: Option<Endpoint>,
    /// The account's id, "" for a request without one.
    pub account: String,
    /// The names that it is about, as far as they can be told.
    pub names: Vec<String>,
    pub payload: Value,
    pub user_agent: String,
    /// A fault met it.
    pub faulty: bool,
    /// It hangs, and what was to be done before is done.
    pub hung: bool,
    /// None as long as there is no answer; for ever when it was hung up on.
    pub status: Option<u16>,
    /// The type of the problem it was answered with, without the prefix.
    pub problem: Option<String>,
}

impl State {
    /// By its own clock.
    pub fn now(&self) -> i64 {
        self.knobs.clock.as_ref().map_or_else(now, |clock| clock.load(Ordering::SeqCst))
    }

    pub fn nonce(&mut self) -> String {
        let nonce = jws::random();
        self.nonces.insert(nonce.clone());
        nonce
    }

    pub fn fault(&mut self, endpoint: Endpoint) -> Option<Fault> {
        if let Some(fault) = self.nth.remove(&self.log.len()) {
            return Some(fault);
        }
        let counted = self.faults.get_mut(&endpoint).and_then(VecDeque::pop_front);
        counted.or_else(|| self.lasting.get(&endpoint).cloned())
    }

    /// Which names an object of this endpoint is about.
    pub fn names(&self, endpoint: Endpoint, id: &str, payload: &Value) -> Vec<String> {
        let index = id.split('/').next().and_then(|id| id.parse::<usize>().ok());
        let of_order = |index: Option<usize>| {
            index.and_then(|i| self.orders.get(i)).map_or_else(Vec::new, |o| o.names.clone())
        };
        match endpoint {
            Endpoint::NewOrder => names_of(payload),
            Endpoint::Order | Endpoint::Finalize => of_order(index),
            Endpoint::Certificate => {
                of_order(index.and_then(|i| self.issued.get(i)).map(|issued| issued.order))
            }
            Endpoint::Authorization | Endpoint::Challenge => {
                let one = index.and_then(|i| self.authorizations.get(i));
                one.map(|authorization| authorization.name.clone()).into_iter().collect()
            }
            Endpoint::RenewalInfo => {
                let one = self.issued.iter().find(|issued| issued.cert_id == id);
                one.map_or_else(Vec::new, |issued| issued.names.clone())
            }
            _ => Vec::new(),
        }
    }
}

/// The identifiers of a new order.
pub fn names_of(payload: &Value) -> Vec<String> {
    let identifiers = payload["identifiers"].as_array().into_iter().flatten();
    identifiers.filter_map(|one| one["value"].as_str()).map(str::to_owned).collect()
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
