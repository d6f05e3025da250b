//! `maintenance:` of a route.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::{At, Cx, keys};
use crate::model::Maintenance;
use crate::node::{Kind, Node};

impl Cx<'_> {
    /// `on`, `off` (`Some(None)`), or a mapping.
    pub(super) fn maintenance(&mut self, node: &Node, at: &At<'_>) -> Option<Option<Maintenance>> {
        if let Kind::Scalar(_) = node.kind {
            let words = [("on", Some(Maintenance::default())), ("off", None)];
            return self.word_or(node, at, &words, |text| {
                Some(match text.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "enabled" | "1" => "write `on`",
                    "false" | "no" | "disabled" | "none" | "0" => "write `off`",
                    _ => HELP,
                })
            });
        }
        self.mapping(node, at, HELP)?;
        let fields = self.fields(node, at, &keys::MAINTENANCE)?;
        let mut maintenance = Maintenance::default();
        if let Some(time) = self.field(&fields, "retry_after", |cx, node, at| {
            let time = cx.duration(node, at, RETRY_AFTER)?;
            if time.subsec_nanos() > 0 {
                cx.error(node.pos, at, "`Retry-After` is in whole seconds", None);
            }
            Some(time)
        }) {
            maintenance.retry_after = time;
        }
        maintenance.allow = self
            .field(&fields, "allow", |cx, node, at| cx.list(node, at, 0..=1000, Self::subnet))
            .unwrap_or_default();
        if let Some(every) = maintenance.allow.iter().find(|net| net.prefix_len() == 0) {
            let family = if every.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("every {family} client is served: the route is not closed");
            let help = "name the addresses that may pass, or write `maintenance: off`";
            self.warn(fields.pos_of("allow"), &at.key("allow"), message, Some(help.into()));
        }
        Some(Some(maintenance))
    }
}

const HELP: &str = "write `on`, `off` or `{ retry_after: 5m, allow: [10.0.0.0/8] }`";
const RETRY_AFTER: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
