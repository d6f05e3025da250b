//! `endpoints:` of an upstream.

use std::ops::RangeInclusive;

use super::super::{At, Cx, keys};
use crate::model::{EndpointAddress, EndpointSpec};
use crate::node::{Kind, Node};
use crate::value;

impl Cx<'_> {
    pub(super) fn endpoints(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<EndpointSpec>> {
        let address = |endpoint: &EndpointSpec| endpoint.address.clone();
        self.distinct_by(node, at, 1..=MAX_ENDPOINTS, Self::endpoint, address, |_, _| {
            let help = "write it once, with a `weight`";
            ("this endpoint is written twice".to_owned(), Some(help.to_owned()))
        })
    }

    /// `host:port`, or `{ address, weight }`.
    fn endpoint(&mut self, node: &Node, at: &At<'_>) -> Option<EndpointSpec> {
        Some(match &node.kind {
            Kind::Map(_) => {
                let fields = self.fields(node, at, &keys::ENDPOINT)?;
                let address = self.required(&fields, "address", Self::address);
                let weight =
                    self.field(&fields, "weight", |cx, node, at| cx.number(node, at, WEIGHT));
                let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
                EndpointSpec { address: address?, weight }
            }
            _ => EndpointSpec { address: self.address(node, at)?, weight: 1 },
        })
    }

    fn address(&mut self, node: &Node, at: &At<'_>) -> Option<EndpointAddress> {
        self.value(node, at, value::endpoint)
    }
}

/// Most entries of one upstream; a name may stand for many addresses.
const MAX_ENDPOINTS: usize = 10_000;
const WEIGHT: RangeInclusive<u64> = 1..=1000;
