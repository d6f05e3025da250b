//! What is done about endpoints that fail or are full: `ejection`, `retries`, `queue`, `limits`,
//! `timeouts`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::listener::TIMEOUT;
use super::super::read::is_off;
use super::super::{At, Cx, Fields, keys};
use crate::model::{Ejection, Queue, Retries, UpstreamLimits, UpstreamTimeouts};
use crate::node::Node;
use crate::value::percent;

impl Cx<'_> {
    /// `Some(None)`: switched off.
    pub(super) fn ejection(&mut self, node: &Node, at: &At<'_>) -> Option<Option<Ejection>> {
        if is_off(node) {
            return Some(None);
        }
        self.mapping(node, at, "write `{ failures: 5, time: 10s }`, or `off`")?;
        let fields = self.fields(node, at, &keys::EJECTION_POLICY)?;
        let mut ejection = Ejection::default();
        if let Some(failures) = self.small(&fields, "failures", 1..=1000) {
            ejection.failures = failures;
        }
        for (name, slot) in [("time", &mut ejection.time), ("max_time", &mut ejection.max_time)] {
            let read = self.field(&fields, name, |cx, node, at| cx.duration(node, at, EJECTED));
            *slot = read.unwrap_or(*slot);
        }
        if ejection.max_time < ejection.time {
            if fields.has("max_time") {
                let message = "`max_time` is less than `time`, the first ejection";
                self.error(fields.pos_of("max_time"), &at.key("max_time"), message, None);
            } else {
                ejection.max_time = ejection.time;
            }
        }
        if let Some(share) = self.field(&fields, "max_share", Self::share) {
            ejection.max_share = share;
        }
        if ejection.max_share == 0 {
            let at = at.key("max_share");
            let help = "write `ejection: off`";
            let message = "no endpoint could ever be ejected";
            self.error(fields.pos_of("max_share"), &at, message, Some(help.into()));
        }
        Some(Some(ejection))
    }

    pub(super) fn retries(&mut self, node: &Node, at: &At<'_>) -> Option<Retries> {
        self.mapping(node, at, "write `{ attempts: 2 }`; 0 switches retries off")?;
        let fields = self.fields(node, at, &keys::RETRIES)?;
        let mut retries = Retries::default();
        if let Some(attempts) = self.small(&fields, "attempts", 0..=10) {
            retries.attempts = attempts;
        }
        if let Some(budget) = self.field(&fields, "budget", Self::share) {
            retries.budget = budget;
        }
        Some(retries)
    }

    pub(super) fn queue(&mut self, node: &Node, at: &At<'_>) -> Option<Queue> {
        self.mapping(node, at, "write `{ size: 128, timeout: 2s }`; size 0 switches waiting off")?;
        let fields = self.fields(node, at, &keys::QUEUE)?;
        let mut queue = Queue::default();
        let size = self.field(&fields, "size", |cx, node, at| cx.count(node, at, 0..=100_000));
        queue.size = size.unwrap_or(queue.size);
        let timeout = self.field(&fields, "timeout", |cx, node, at| cx.duration(node, at, WAITING));
        queue.timeout = timeout.unwrap_or(queue.timeout);
        Some(queue)
    }

    pub(super) fn upstream_limits(&mut self, node: &Node, at: &At<'_>) -> Option<UpstreamLimits> {
        let fields = self.fields(node, at, &keys::UPSTREAM_LIMITS)?;
        let mut limits = UpstreamLimits::default();
        for (name, slot) in [
            ("connections", &mut limits.connections),
            ("requests", &mut limits.requests),
            ("endpoint_connections", &mut limits.endpoint_connections),
            ("endpoint_requests", &mut limits.endpoint_requests),
        ] {
            *slot = self.field(&fields, name, |cx, node, at| cx.count(node, at, 1..=1_000_000));
        }
        Some(limits)
    }

    pub(super) fn upstream_timeouts(
        &mut self,
        node: &Node,
        at: &At<'_>,
        timeouts: &mut UpstreamTimeouts,
    ) -> Option<()> {
        let fields = self.fields(node, at, &keys::UPSTREAM_TIMEOUTS)?;
        for (name, slot) in [
            ("connect", &mut timeouts.connect),
            ("first_byte", &mut timeouts.first_byte),
            ("idle", &mut timeouts.idle),
            ("stream_idle", &mut timeouts.stream_idle),
            ("keep_alive", &mut timeouts.keep_alive),
        ] {
            let read = self.field(&fields, name, |cx, node, at| cx.duration(node, at, TIMEOUT));
            *slot = read.unwrap_or(*slot);
        }
        // `off` takes back what `defaults` say.
        let total = self.field(&fields, "total", |cx, node, at| match is_off(node) {
            true => Some(None),
            false => cx.duration(node, at, TIMEOUT).map(Some),
        });
        timeouts.total = total.unwrap_or(timeouts.total);
        Some(())
    }

    fn share(&mut self, node: &Node, at: &At<'_>) -> Option<u8> {
        self.value(node, at, percent)
    }

    fn small(
        &mut self,
        fields: &Fields<'_, '_>,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u32> {
        let number = self.field(fields, name, |cx, node, at| cx.number(node, at, range))?;
        u32::try_from(number).ok()
    }
}

const EJECTED: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
const WAITING: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
