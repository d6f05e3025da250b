//! Bytes of an answer between the stream and the driver: never more than one frame.

use bytes::Bytes;
use h2::RecvStream;

use crate::http1::chunked::write_size;

/// Bytes for the driver: what we write, then a piece of body, then the end of its chunk.
#[derive(Default)]
pub struct Staged {
    /// Appended to by whoever has something to say.
    pub head: Vec<u8>,
    at: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Staged {
    pub fn len(&self) -> usize {
        self.head.len() - self.at + self.data.len() + self.tail.len()
    }

    /// A piece of body; its room in the windows is given back.
    pub fn data(&mut self, stream: &mut RecvStream, data: Bytes, chunk: bool) -> bool {
        // It fails only with the stream.
        let _ = stream.flow_control().release_capacity(data.len());
        if chunk && !data.is_empty() {
            write_size(&mut self.head, data.len());
            self.tail = b"\r\n";
        }
        self.data = data;
        true
    }

    /// Moves bytes to `buf`.
    pub fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut copy = |from: &[u8]| {
            let n = from.len().min(buf.len() - filled);
            buf[filled..filled + n].copy_from_slice(&from[..n]);
            filled += n;
            n
        };
        self.at += copy(&self.head[self.at..]);
        if self.at < self.head.len() {
            return filled;
        }
        self.head.clear();
        self.at = 0;
        let n = copy(&self.data);
        let _ = self.data.split_to(n);
        if self.data.is_empty() {
            let n = copy(self.tail);
            self.tail = &self.tail[n..];
        }
        filled
    }
}
