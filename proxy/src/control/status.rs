//! What the admin server tells: written by `control` and `server`, read by `admin`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use config::error::Diagnostic;
use config::merge::Accepted;
use config::value::Name;

use super::certs::Problem;
use super::command::Commands;
use super::resolve::NameState;
use super::shifts::Shown;
use crate::admin::pages::timestamp;
use crate::route::table::BoundAddress;
use crate::wording::counted;

/// The state of the process as far as it is no metric.
#[derive(Default)]
pub struct Status {
    pub config: ArcSwap<ConfigStatus>,
    pub listeners: OnceLock<Vec<BoundAddress>>,
    /// What is known of the names of endpoints, at most a second ago.
    pub names: ArcSwap<Vec<NameState>>,
    admin: Mutex<AdminAddresses>,
    /// Orders and renewals; set once the process has started.
    pub acme: OnceLock<Arc<acme::keeper::Keeper>>,
    /// What the operator asks for goes there; set once the process has started.
    pub commands: OnceLock<Commands>,
    /// What the operator has taken out, endpoint now or not, as (upstream, address).
    pub drains: ArcSwap<Vec<(Name, String)>>,
    /// Routes whose split is shifted now.
    pub shifts: ArcSwap<BTreeMap<Name, Shown>>,
    certificates_loaded: AtomicBool,
    serving: AtomicBool,
}

/// The last reading of the config file, and what serves.
#[derive(Clone, Default)]
pub struct ConfigStatus {
    pub file: PathBuf,
    /// Of the table that serves; 0: none yet.
    pub generation: u64,
    /// Of the content that serves, as in `edge_config_info`.
    pub hash: String,
    /// `file`, or `last_good` after a start with a broken file.
    pub source: &'static str,
    /// Of the last reading: `applied`, `partial`, `unchanged` or `rejected`.
    pub outcome: &'static str,
    /// Of the last reading, Unix milliseconds.
    pub read_at: u64,
    /// When what serves was accepted, Unix milliseconds.
    pub loaded_at: u64,
    /// Why the last reading was rejected.
    pub errors: Vec<Diagnostic>,
    pub accepted: Option<Arc<Accepted>>,
    pub certificate_problems: Vec<Problem>,
}

/// Where the admin server answers now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminAddresses {
    pub tcp: Option<SocketAddr>,
    pub socket: Option<PathBuf>,
}

impl Status {
    pub fn update_config(&self, change: impl FnOnce(&mut ConfigStatus)) {
        let mut status = ConfigStatus::clone(&self.config.load());
        change(&mut status);
        self.config.store(Arc::new(status));
    }

    pub fn admin(&self) -> AdminAddresses {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn update_admin(&self, change: impl FnOnce(&mut AdminAddresses)) {
        change(&mut self.admin.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The first attempt at every certificate has ended.
    pub fn set_certificates_loaded(&self) {
        self.certificates_loaded.store(true, Ordering::Release);
    }

    /// All workers accept.
    pub fn set_serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// The line that `systemctl status` shows.
    pub fn line(&self) -> String {
        let config = self.config.load();
        let count = |n: Option<usize>| n.unwrap_or_default();
        let accepted = config.accepted.as_deref();
        let routes = count(accepted.map(|accepted| accepted.routes.len()));
        let routes = counted(routes, "route", "routes");
        let quarantined = count(accepted.map(|accepted| accepted.quarantined.len()));
        let read_at = timestamp(config.read_at).unwrap_or_default();
        let Some(first) = config.errors.first() else {
            let outcome = config.outcome;
            return format!(
                "serving {routes}, {quarantined} quarantined; read {read_at}: {outcome}"
            );
        };
        let errors = counted(config.errors.len(), "error", "errors");
        let first = match first.line {
            0 => String::new(),
            line => format!(", the first in line {line}"),
        };
        format!(
            "serving {routes}, {quarantined} quarantined; read {read_at}: the file is \
             refused ({errors}{first})"
        )
    }

    /// What is missing before the process is ready to serve; empty: it is.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.config.load().generation == 0 {
            missing.push("no configuration is live");
        }
        if !self.certificates_loaded.load(Ordering::Acquire) {
            missing.push("certificates are being loaded");
        }
        if !self.serving.load(Ordering::Acquire) {
            missing.push("listeners are not open");
        }
        missing
    }
}
