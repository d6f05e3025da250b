//! `endpoints:` of an upstream.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::super::{At, Cx, keys};
use crate::model::{EndpointAddress, EndpointSpec};
use crate::node::{Kind, Node};
use crate::value;

impl Cx<'_> {
    pub(super) fn endpoints(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<EndpointSpec>> {
        let mut seen = BTreeSet::new();
        self.list(node, at, 1..=MAX_ENDPOINTS, |cx, node, at| cx.endpoint(node, at, &mut seen))
    }

    /// `host:port`, or `{ address, weight }`.
    fn endpoint(
        &mut self,
        node: &Node,
        at: &At<'_>,
        seen: &mut BTreeSet<EndpointAddress>,
    ) -> Option<EndpointSpec> {
        let endpoint = match &node.kind {
            Kind::Map(_) => {
                let fields = self.fields(node, at, &keys::ENDPOINT)?;
                let address = self.required(&fields, "address", Self::address);
                let weight =
                    self.field(&fields, "weight", |cx, node, at| cx.number(node, at, WEIGHT));
                let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
                EndpointSpec { address: address?, weight }
            }
            _ => EndpointSpec { address: self.address(node, at)?, weight: 1 },
        };
        if !seen.insert(endpoint.address.clone()) {
            let help = "write it once, with a `weight`";
            self.error(node.pos, at, "this endpoint is written twice", Some(help.into()));
        }
        Some(endpoint)
    }

    fn address(&mut self, node: &Node, at: &At<'_>) -> Option<EndpointAddress> {
        self.value(node, at, value::endpoint)
    }
}

/// Most entries of one upstream; a name may stand for many addresses.
const MAX_ENDPOINTS: usize = 10_000;
const WEIGHT: RangeInclusive<u64> = 1..=1000;
