//! What a route demands of requests before it serves them.

mod access;
mod limits;
mod networks;
mod pacing;
mod warnings;

use super::{Cx, Fields};
use crate::model::{Access, Pacing, PathRule, RateLimit};

/// What stands in a route of it.
pub(crate) struct Demands {
    pub rate_limits: Vec<RateLimit>,
    pub access: Option<Access>,
    pub pacing: Option<Pacing>,
}

impl Cx<'_> {
    pub(crate) fn demands(&mut self, fields: &Fields<'_, '_>, path: &PathRule) -> Demands {
        let rate_limits = self.field(fields, "rate_limits", Self::rate_limits);
        let access = self.field(fields, "access", Self::access);
        if let Some(access) = &access {
            self.warn_about_exceptions(fields, path, access);
        }
        let pacing = self.field(fields, "pacing", Self::pacing);
        Demands { rate_limits: rate_limits.unwrap_or_default(), access, pacing }
    }
}
