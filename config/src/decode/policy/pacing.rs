//! `pacing:` of a route.

use std::ops::RangeInclusive;

use super::super::{At, Cx, keys};
use crate::model::Pacing;
use crate::node::Node;
use crate::value::{ByteSize, ValueError, quote, speed};

impl Cx<'_> {
    pub(crate) fn pacing(&mut self, node: &Node, at: &At<'_>) -> Option<Pacing> {
        self.mapping(node, at, "write `{ download: 1MiB/s }`")?;
        let fields = self.fields(node, at, &keys::PACING)?;
        let download = self.field(&fields, "download", Self::speed);
        let upload = self.field(&fields, "upload", Self::speed);
        let after = self.field(&fields, "after", |cx, node, at| cx.size(node, at, 0..=MOST));
        if !fields.has("download") && !fields.has("upload") {
            let help = "write `download: 1MiB/s`, `upload: 1MiB/s`, or both";
            self.error(node.pos, at, "nothing is paced", Some(help.into()));
        }
        Some(Pacing { download, upload, after: after.unwrap_or(0) })
    }

    fn speed(&mut self, node: &Node, at: &At<'_>) -> Option<u64> {
        self.value(node, at, |text| {
            let bytes = speed(text)?;
            if SPEED.contains(&bytes) {
                return Ok(bytes);
            }
            let (least, most) = (ByteSize(*SPEED.start()), ByteSize(*SPEED.end()));
            let message = format!("{} is out of range: {least}/s to {most}/s", quote(text));
            Err(ValueError::new("a speed in its range", message))
        })
    }
}

const MOST: u64 = 1 << 40;
const SPEED: RangeInclusive<u64> = 1024..=MOST;
