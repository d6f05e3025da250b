//! ARI (RFC 9773): the window in which the CA wants a certificate to be renewed.

use serde::{Deserialize, Serialize};

use super::{Leaf, part, unit};

/// The CA's window for one certificate, with the moment in it that was drawn for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AriWindow {
    /// The certificate that it is for (RFC 9773 §4.1).
    pub cert_id: String,
    pub start: i64,
    pub end: i64,
    /// Drawn once, uniformly in the window (RFC 9773 §4.2), and kept.
    pub selected: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation_url: Option<String>,
    /// When the CA is asked again.
    pub poll_at: i64,
}

impl AriWindow {
    /// A window that the CA gave. `former`: the one known before; while the CA does not move its
    /// window, what was drawn stays. `random`: 0 to 1, new for each call.
    pub fn new(
        cert_id: &str,
        (start, end): (i64, i64),
        explanation_url: Option<String>,
        poll_at: i64,
        random: f64,
        former: Option<&AriWindow>,
    ) -> AriWindow {
        let same = former.filter(|former| {
            former.cert_id == cert_id && (former.start, former.end) == (start, end)
        });
        let drawn = start.saturating_add(part(end.saturating_sub(start).max(0), unit(random)));
        let selected = same.map_or(drawn, |former| former.selected);
        AriWindow { cert_id: cert_id.to_owned(), start, end, selected, explanation_url, poll_at }
    }

    /// When the leaf is due by this window. `None`: the window is of another certificate, makes
    /// no sense, or too little life is left to leave it to the CA.
    ///
    /// A window in the past means at once; only a certificate of a few minutes is left alone. The
    /// ledger bounds a CA that says so of every certificate.
    pub(super) fn due(&self, leaf: &Leaf, leaf_id: &str, now: i64) -> Option<i64> {
        let last = leaf.not_after.saturating_sub(leaf.life() / 20);
        let usable = self.cert_id == leaf_id && self.start < self.end && self.end <= leaf.not_after;
        if !usable || now >= last {
            return None;
        }
        let selected = self.selected.clamp(self.start, self.end);
        Some(selected.min(last).max(leaf.from().saturating_add(leaf.least_age())))
    }
}
