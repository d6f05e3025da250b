//! `upstreams:`.

use std::collections::{BTreeMap, BTreeSet};

use super::global::Defaults;
use super::listener::TIMEOUT;
use super::{At, Cx, Fields, keys};
use crate::model::{EndpointSpec, Entry, Upstream, UpstreamTimeouts};
use crate::node::Node;
use crate::value::{self, Name, ValueError, quote};

impl Cx<'_> {
    pub(crate) fn upstreams(
        &mut self,
        top: &Fields<'_, '_>,
        defaults: &Defaults,
    ) -> BTreeMap<Name, Entry<Upstream>> {
        self.entries(top, "upstreams", |cx, name, node, at| {
            (cx.upstream(name, node, at, defaults), Vec::new())
        })
    }

    fn upstream(
        &mut self,
        name: &Name,
        node: &Node,
        at: &At<'_>,
        defaults: &Defaults,
    ) -> Option<Upstream> {
        let fields = self.fields(node, at, &keys::UPSTREAM)?;
        let mut seen = BTreeSet::new();
        let endpoints = self.required(&fields, "endpoints", |cx, node, at| {
            cx.list(node, at, 1..=256, |cx, node, at| {
                let address = cx.value(node, at, value::endpoint)?;
                if !seen.insert(address.clone()) {
                    cx.error(node.pos, at, "this endpoint is written twice", None);
                }
                Some(EndpointSpec { address, weight: 1 })
            })
        });
        let timeouts = self.field(&fields, "timeouts", |cx, node, at| {
            cx.upstream_timeouts(node, at, &defaults.timeouts)
        });
        self.field(&fields, "balance", Self::balance);
        Some(Upstream {
            timeouts: timeouts.unwrap_or_else(|| defaults.timeouts.clone()),
            ..Upstream::new(name.clone(), endpoints?)
        })
    }

    pub(crate) fn upstream_timeouts(
        &mut self,
        node: &Node,
        at: &At<'_>,
        defaults: &UpstreamTimeouts,
    ) -> Option<UpstreamTimeouts> {
        let fields = self.fields(node, at, &keys::UPSTREAM_TIMEOUTS)?;
        let mut timeouts = defaults.clone();
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
        Some(timeouts)
    }

    /// Round robin is the only one, so that there is nothing to keep.
    fn balance(&mut self, node: &Node, at: &At<'_>) -> Option<()> {
        self.value(node, at, |text| match text {
            "round_robin" => Ok(()),
            "least_request" | "least_conn" | "random" | "ip_hash" | "consistent_hash" => {
                Err(ValueError::new(
                    "`round_robin`",
                    format!("{} is not available in this version", quote(text)),
                )
                .help("remove it; see README, limits"))
            }
            _ => {
                Err(ValueError::new("`round_robin`", format!("{} is not known here", quote(text)))
                    .help("write `round_robin` or remove it"))
            }
        })
    }
}
