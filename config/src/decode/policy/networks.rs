//! Lists of client networks.

use ipnet::IpNet;

use super::super::read::shown;
use super::super::{At, Cx};
use crate::node::{Kind, Node, Pos};
use crate::value::{looks_like_a_network, network};

/// A network and where it stands.
pub(crate) struct Listed {
    pub net: IpNet,
    pub pos: Pos,
    /// For a message.
    pub shown: String,
}

impl Cx<'_> {
    /// Networks of clients. An empty list is refused: some would read it as everybody, others as
    /// nobody.
    pub(crate) fn networks(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<Listed>> {
        self.list(node, at, 1..=MAX_NETWORKS, |cx, node, at| {
            let net = cx.value(node, at, network)?;
            let without_prefix =
                matches!(&node.kind, Kind::Scalar(scalar) if !scalar.text.contains('/'));
            if without_prefix && looks_like_a_network(&net) {
                let message = format!("{} is one address", shown(node, &net.addr().to_string()));
                let help = format!(
                    "write `/{}` behind it if that is meant, else the prefix of the network",
                    net.prefix_len()
                );
                cx.warn(node.pos, at, message, Some(help));
            }
            let text = if is_address(&net) { net.addr().to_string() } else { net.to_string() };
            Some(Listed { net, pos: node.pos, shown: shown(node, &text) })
        })
    }
}

fn is_address(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

pub(super) fn nets(listed: Option<Vec<Listed>>) -> Vec<IpNet> {
    listed.unwrap_or_default().into_iter().map(|listed| listed.net).collect()
}

/// Most networks in one list.
const MAX_NETWORKS: usize = 10_000;
