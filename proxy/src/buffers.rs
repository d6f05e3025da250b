//! Buffers of one worker. A waiting connection holds none: what is read goes through one scratch
//! buffer inside a single poll, and output vectors are taken when there is something to write.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::state::Shared;

/// One read takes at most this much; four TLS records.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// A read whose bytes are written anew (heads, chunked bodies): with what is added they still fit
/// into a vector that is kept.
pub const REWRITE_BYTES: usize = 32 * 1024;
/// Vectors kept for reuse per worker.
const KEPT: usize = 64;
/// A vector that grew beyond this is freed instead of kept.
const KEPT_CAPACITY: usize = 64 * 1024;
/// What a new vector starts with: most heads fit.
const FIRST_CAPACITY: usize = 2 * 1024;

/// Client, host, path and user agent of most requests.
const TEXT_CAPACITY: usize = 256;

/// The buffers of one worker.
pub struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    free: RefCell<Vec<Vec<u8>>>,
    /// Small vectors for the texts of requests under way: a stream may hold one for hours.
    texts: RefCell<Vec<Vec<u8>>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers {
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            free: RefCell::default(),
            texts: RefCell::default(),
        }
    }
}

impl Buffers {
    /// Lends the scratch buffer for the length of one synchronous step.
    pub fn with_scratch<R>(&self, step: impl FnOnce(&mut [u8]) -> R) -> R {
        step(&mut self.scratch.borrow_mut())
    }

    /// An empty vector with some capacity.
    pub fn take(&self) -> Vec<u8> {
        let kept = self.free.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(FIRST_CAPACITY))
    }

    /// An empty vector for the text of one request.
    pub fn take_text(&self) -> Vec<u8> {
        let kept = self.texts.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(TEXT_CAPACITY))
    }

    pub fn give_text(&self, mut text: Vec<u8>) {
        let mut texts = self.texts.borrow_mut();
        if text.capacity() <= 4 * TEXT_CAPACITY && texts.len() < KEPT {
            text.clear();
            texts.push(text);
        }
    }

    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_CAPACITY && free.len() < KEPT {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// Bytes counted against the process-wide cap (design.md #17) for as long as this lives.
pub struct Charge {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Charge {
    pub fn new(shared: &Arc<Shared>) -> Charge {
        Charge { shared: shared.clone(), bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts `bytes` instead of what was counted before.
    pub fn set(&mut self, bytes: usize) {
        let buffered = &self.shared.gauges.buffered;
        if bytes > self.bytes {
            buffered.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            buffered.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}
