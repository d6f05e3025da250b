//! One CA with our account there, made when first needed and renewed once a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::wanted::Issuer;
use super::{Hears, Uptime};
use crate::ca::{Account, Ca, Class, Failure, Listener, Step};
use crate::store::Store;

/// Sessions by directory URL. Only one task at a time opens a directory, so that no two register.
pub struct Sessions {
    open: std::sync::Mutex<HashMap<String, Arc<Mutex<Option<Session>>>>>,
    /// When accounts were given up, by directory URL.
    forgotten: std::sync::Mutex<HashMap<String, Vec<Duration>>>,
    uptime: Uptime,
    asked: Hears,
    /// After this time other processes on the same directory know of a new account.
    seen_by_others: Duration,
}

/// A CA and our account there.
#[derive(Clone)]
pub struct Session {
    pub ca: Ca,
    pub account: Account,
    since: Instant,
}

impl Sessions {
    pub fn new(uptime: Uptime, asked: Hears, seen_by_others: Duration) -> Sessions {
        let (open, forgotten) = Default::default();
        Sessions { open, forgotten, uptime, asked, seen_by_others }
    }

    /// The session with an issuer; registers an account where there is none.
    pub async fn get(&self, store: &Store, issuer: &Issuer) -> Result<Session, Failure> {
        let place = self.place(&issuer.ca.directory);
        let mut place = place.lock().await;
        if let Some(session) = place.as_ref().filter(|session| session.since.elapsed() < RENEW) {
            return Ok(session.clone());
        }
        let (name, asked) = (issuer.name.clone(), self.asked.clone());
        let listener: Listener = Arc::new(move |request| asked(&name, request));
        let ca = Ca::connect_heard(&issuer.ca, Some(listener)).await?;
        let stored = store.account(&issuer.ca.directory);
        let stored = stored.map_err(|why| Failure::new(Class::Local, Step::Register, why))?;
        let account = match stored {
            Some(stored) => ca.restore(&stored).await?,
            None => self.register(&ca, store, issuer).await?,
        };
        let session = Session { ca, account, since: Instant::now() };
        *place = Some(session.clone());
        Ok(session)
    }

    async fn register(&self, ca: &Ca, store: &Store, issuer: &Issuer) -> Result<Account, Failure> {
        // One that cannot be kept would be registered again at every start: 10 in 3 hours are refused.
        store.probe().map_err(|why| Failure::new(Class::Local, Step::Register, why))?;
        let (account, stored) = ca.register(issuer.contact.as_deref(), issuer.eab.as_ref()).await?;
        if let Some(warning) = account.warning() {
            tracing::warn!("account at {}: {warning}", issuer.ca.directory);
        }
        store
            .put_account(&stored)
            .map_err(|why| Failure::new(Class::Local, Step::Register, why))?;
        tracing::info!("registered with {}", issuer.ca.directory);
        // Another process on the same ports may be asked for what only this account's key can answer.
        tokio::time::sleep(self.seen_by_others).await;
        Ok(account)
    }

    /// The CA has said that it does not know the account: the next [`get`](Self::get) registers a
    /// new one. `stale` is the session that was refused; a newer one is left alone.
    pub async fn forget(&self, store: &Store, issuer: &Issuer, stale: &Session) {
        let place = self.place(&issuer.ca.directory);
        let mut place = place.lock().await;
        if place.as_ref().is_some_and(|session| session.since != stale.since) {
            return;
        }
        *place = None;
        if !self.may_register_again(&issuer.ca.directory) {
            tracing::warn!("{} does not know its newest account either", issuer.ca.directory);
            return;
        }
        if let Err(why) = store.set_account_aside(&issuer.ca.directory) {
            tracing::warn!("the account that {} does not know: {why}", issuer.ca.directory);
        }
    }

    /// Closes every session; returns their directories.
    pub fn close(&self) -> Vec<String> {
        let places = self.places();
        let open = places.iter().filter(|(_, place)| {
            // One that is being opened will tell the time of now.
            place.try_lock().is_ok_and(|mut place| place.take().is_some())
        });
        open.map(|(directory, _)| directory.clone()).collect()
    }

    /// CAs count registrations (Let's Encrypt: 10 in 3 hours): one that forgets every account must
    /// not be asked for another one by each certificate.
    fn may_register_again(&self, directory: &str) -> bool {
        let mut all = self.forgotten.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let times = all.entry(directory.to_owned()).or_default();
        let now = (self.uptime)();
        times.retain(|at| now.saturating_sub(*at) < FORGET_WITHIN);
        let may = times.len() < FORGET_MOST;
        if may {
            times.push(now);
        }
        may
    }

    /// The CA's clock less ours, seconds, as far as any open session knows.
    pub async fn clock_skew(&self) -> Option<i64> {
        let places: Vec<_> = self.places().values().cloned().collect();
        for place in places {
            // One that is being opened has nothing to tell yet.
            let Ok(place) = place.try_lock() else { continue };
            if let Some(skew) = place.as_ref().and_then(|session| session.ca.clock_skew()) {
                return Some(skew);
            }
        }
        None
    }

    fn place(&self, directory: &str) -> Arc<Mutex<Option<Session>>> {
        self.places().entry(directory.to_owned()).or_default().clone()
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Mutex<Option<Session>>>>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether a failure means that the account has to be registered again.
pub fn account_gone(failure: &Failure) -> bool {
    failure.class == Class::AccountGone
}

/// Directories change: endpoints, profiles, terms.
const RENEW: Duration = Duration::from_secs(24 * 3600);
/// Accounts given up within [`FORGET_WITHIN`], at most.
const FORGET_MOST: usize = 5;
const FORGET_WITHIN: Duration = Duration::from_secs(3 * 3600);
