//! Keeps what is wanted: orders, renews, retries, publishes.
//!
//! One thread of its own, so that nothing in here can disturb traffic: a CA that hangs, a disk
//! that is full, a task that panics. It tells what it has by a [`View`] that is replaced as a
//! whole, and says when there is a new one.

mod clock;
mod command;
mod finish;
mod key;
mod library;
#[cfg(test)]
mod loop_tests;
mod order;
mod run;
mod session;
mod slot;
mod start;
mod tell;
mod verify;
mod view;
mod wanted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

pub use command::{Renewal, Revoked};
pub use slot::Told;
pub use view::{FORMER, IMPORTED, OrderResult, Role, Row, SKEW_ALARM, View};
pub use wanted::{Issuer, KeyKind, Wanted, WantedCertificate};

use crate::ca::{Asked, Revocation};
use crate::challenge::Challenges;
use command::Command;

/// The keeper's handle. The thread ends with it.
pub struct Keeper {
    commands: mpsc::UnboundedSender<Command>,
    view: Arc<ArcSwap<View>>,
}

/// What a keeper works with.
pub struct Settings {
    /// Its `acme/` is the store.
    pub state_dir: PathBuf,
    pub challenges: Arc<Challenges>,
    /// Called on the keeper's thread after every new [`View`].
    pub changed: Box<dyn Fn() + Send>,
    /// Hears of each request to a CA, with the name of an issuer that has its directory.
    pub asked: Hears,
    /// Unix seconds.
    pub clock: Box<dyn Fn() -> i64 + Send + Sync>,
    /// Since any moment, never set: what the clock is compared with.
    pub uptime: Uptime,
    /// A process that has not the right to order asks for it this often, and looks for accounts.
    pub poll: Duration,
}

/// Called on the keeper's thread.
pub type Hears = Arc<dyn Fn(&str, Asked) + Send + Sync>;

/// Time since any moment, never set.
pub type Uptime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Usual [`Settings::poll`].
pub const POLL: Duration = Duration::from_millis(500);

impl Keeper {
    /// Starts the thread. Touches nothing before the first [`want`](Self::want).
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(settings: Settings) -> std::io::Result<Keeper> {
        let (commands, queue) = mpsc::unbounded_channel();
        let view = Arc::new(ArcSwap::from_pointee(View::default()));
        let seen = view.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Keys are made there, and names looked up.
            .max_blocking_threads(4)
            .build()?;
        std::thread::Builder::new().name("acme".into()).spawn(move || {
            runtime.block_on(run::Run::new(settings, queue, seen).run());
            runtime.shutdown_background();
        })?;
        Ok(Keeper { commands, view })
    }

    /// Keeps this from now on. Returns what is stored for it, once that is loaded; `None`: not
    /// within 5 s, it follows.
    pub fn want(&self, wanted: Wanted) -> Option<Arc<View>> {
        let (reply, loaded) = std::sync::mpsc::channel();
        // The thread ends only with this handle.
        let _ = self.commands.send(Command::Want(wanted, reply));
        loaded.recv_timeout(LOADED_WITHIN).ok()
    }

    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Gives the right to order away, at once: another process goes on. What is under way is left
    /// as it is on disk.
    pub fn release(&self) {
        let _ = self.commands.send(Command::Release);
    }

    /// Renews a certificate, found by its label or a name, whatever its age. `force`: also where
    /// this program's own budget for that set of names is used up.
    ///
    /// # Errors
    /// A sentence: unknown, or not this process's to order.
    pub async fn renew(&self, which: String, force: bool) -> Result<Renewal, String> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Renew { which, force, reply });
        answer.await.unwrap_or_else(|_| Err(GONE.to_owned()))
    }

    /// Revokes the certificate that serves and orders another one.
    ///
    /// # Errors
    /// A sentence: unknown, imported, or what the CA said.
    pub async fn revoke(&self, which: String, reason: Revocation) -> Result<Revoked, String> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Revoke { which, reason, reply });
        answer.await.unwrap_or_else(|_| Err(GONE.to_owned()))
    }

    /// Stores a certificate that was made elsewhere and serves it where it is the best one.
    /// Returns its names.
    ///
    /// # Errors
    /// A sentence: chain and key do not match, or they cannot be stored.
    pub async fn import(&self, chain: String, key: String) -> Result<Vec<String>, String> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Import { chain, key, reply });
        answer.await.unwrap_or_else(|_| Err(GONE.to_owned()))
    }
}

const LOADED_WITHIN: Duration = Duration::from_secs(5);
const GONE: &str = "the certificate thread has ended";
