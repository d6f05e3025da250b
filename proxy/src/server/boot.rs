//! The configuration that a process starts with: the file, and where the file is broken what was
//! last accepted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::merge::{Accepted, merge};

use super::Refusal;
use crate::control::reload::{self, Reading, ReloadOutcome};
use crate::control::status::Status;
use crate::control::watch::{Digest, Watch};
use crate::control::{last_good, outcome, reject, tell_quarantined};

/// What a start begins with.
pub struct Boot {
    pub accepted: Arc<Accepted>,
    pub watch: Watch,
    pub outcome: ReloadOutcome,
    /// Of the file, where it serves.
    pub hash: String,
    /// Files that the configuration refers to, as they were read.
    pub files: BTreeMap<PathBuf, Option<Digest>>,
}

/// Reads the file. Bad entries and a file that is bad as a whole fall back on what the state
/// directory holds.
pub fn load(file: &Path) -> Result<Boot, Refusal> {
    // First, so that a change during the start is seen.
    let watch = Watch::new(file);
    let Reading { text, hash, files, result, absent } = reload::read(file);
    let errors = match result {
        Ok(candidate) => {
            let former = last_good::load(&candidate.global.state_dir);
            let accepted = Arc::new(merge(former.as_ref(), candidate));
            tell_quarantined(&accepted);
            let outcome = outcome(&accepted);
            return Ok(Boot { accepted, watch, outcome, hash, files });
        }
        Err(errors) => errors,
    };
    let name = file.display().to_string();
    // A wrong path is no broken file: serving something else would hide the mistake.
    if absent {
        return Err(format!("{name}: there is no such file"));
    }
    let Some(accepted) = last_good::load(&last_good::state_dir_of(&text)) else {
        return Err(format!("the configuration is refused\n{}", errors.render(&name, &text)));
    };
    reject("start with what was last accepted", &name, &errors.0);
    tell_quarantined(&accepted);
    let outcome = ReloadOutcome::Rejected { errors: errors.0 };
    Ok(Boot { accepted: Arc::new(accepted), watch, outcome, hash: String::new(), files })
}

impl Boot {
    /// Shows the admin API where the configuration comes from.
    pub fn note(&self, file: &Path, status: &Status) {
        let broken = matches!(self.outcome, ReloadOutcome::Rejected { .. });
        status.update_config(|config| {
            config.file = file.to_path_buf();
            config.source = if broken { "last_good" } else { "file" };
        });
    }
}
