//! Bytes that a peer has not taken yet. Empty, and without a buffer, whenever the peer keeps up.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::buffers::Charge;
use crate::io::Stream;
use crate::local::Local;

/// The waiting bytes of one direction; counted against the process-wide cap while they wait.
pub struct Outbox {
    local: Rc<Local>,
    bytes: Vec<u8>,
    at: usize,
    /// Something was written since the last question.
    progress: bool,
    charge: Charge,
}

impl Outbox {
    pub fn new(local: &Rc<Local>) -> Outbox {
        let charge = Charge::new(&local.shared);
        Outbox { local: local.clone(), bytes: Vec::new(), at: 0, progress: false, charge }
    }

    pub fn local(&self) -> &Rc<Local> {
        &self.local
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The vector to append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = self.local.buffers.take();
        }
        &mut self.bytes
    }

    /// Writes until nothing waits. `Ready(Ok(true))`: something was written.
    pub fn poll_drain<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut S,
    ) -> Poll<io::Result<bool>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(false));
        }
        while self.at < self.bytes.len() {
            match to.poll_write(cx, &self.bytes[self.at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.at += n;
                    self.progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.charge.set(self.bytes.capacity());
                    return Poll::Pending;
                }
            }
        }
        self.clear();
        Poll::Ready(Ok(true))
    }

    /// Whether the peer has taken anything since this was last asked.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Writes `data` straight from the caller's buffer; what is not taken waits here.
    pub fn write_through<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut S,
        mut data: &[u8],
    ) -> io::Result<()> {
        debug_assert!(self.is_empty());
        while !data.is_empty() {
            match to.poll_write(cx, data) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => data = &data[n..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.buffer().extend_from_slice(data);
                    self.charge.set(self.bytes.capacity());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub fn clear(&mut self) {
        self.at = 0;
        self.charge.set(0);
        self.local.buffers.give(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.clear();
    }
}
