//! `openclaw-edge backup` and `restore`: what a state directory must not lose, as one file.
//!
//! Accounts and their keys, certificates with theirs, orders under way, the ledger, the internal
//! CA, the last accepted configuration. A backup needs no lock and disturbs nobody; a restore
//! needs the lock, and a directory that nobody serves from.

mod archive;
mod collect;
mod layout;
mod restore;
mod save;

use std::path::PathBuf;

use clap::Args;
use config::merge::Accepted;

use super::place::{End, Place};

pub use restore::{RestoreArgs, restore};
pub use save::{BackupArgs, backup};

/// Which state directory.
#[derive(Debug, Args)]
struct State {
    #[command(flatten)]
    config: super::ConfigArg,
    /// The state directory, instead of the configuration's `state_dir`
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl State {
    /// The directory, and the configuration where it can be read.
    fn find(&self) -> Result<(PathBuf, Option<Accepted>), End> {
        let place = Place { config: self.config.config.clone(), socket: None };
        let accepted = place.accepted_or("the state directory with --state-dir DIR");
        match (&self.state_dir, accepted) {
            (Some(dir), accepted) => Ok((dir.clone(), accepted.ok())),
            (None, Ok(accepted)) => Ok((accepted.global.state_dir.clone(), Some(accepted))),
            (None, Err(why)) => Err(End::No(why)),
        }
    }
}
