//! The request on its way to the endpoint: head, first body bytes, rest of the body. Shared by the
//! HTTP/1.1 and the HTTP/2 driver, which differ only in where body bytes come from.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::outbox::Outbox;
use super::paced::Pace;
use crate::buffers::Charge;
use crate::http1::body::{self, BodyDecoder, BodyEncoder};
use crate::http1::framing::BodyLength;
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::upstream::io::UpstreamIo;

/// A request whose body is longer than this is not kept for another try (issue: retries).
const REPLAY_BYTES: usize = 64 * 1024;
/// Least average rate is judged over this much waiting.
const RATE_WINDOW_MS: u64 = 30_000;

pub struct Upload {
    /// Head and the body bytes that came with it; kept until the answer begins, for a replay.
    first: Vec<u8>,
    sent: usize,
    /// Later body bytes as they were sent, kept for a replay like `first`.
    kept: Option<Kept>,
    /// Later body bytes.
    rest: Outbox,
    pub decoder: BodyDecoder,
    encoder: BodyEncoder,
    /// Body bytes still allowed by the route.
    allowed: u64,
    /// Body bytes received from the client.
    pub received: u64,
    /// Everything that was sent is in `first` and `kept`.
    replayable: bool,
    /// The endpoint takes no more; its answer may still come.
    pub refused: bool,
    /// It tore the connection down.
    reset: bool,
    /// A write failed that may have sent a part: TLS takes bytes before it sends them.
    partly: bool,
    /// Worker milliseconds of the last progress.
    pub progress_ms: u64,
    /// The endpoint has taken bytes since `progress_ms` was last set.
    pub moved: bool,
    pace: Pace,
    /// Pacing holds the body back: nobody is waited for.
    pub held: bool,
    rate: Rate,
}

struct Kept {
    bytes: Vec<u8>,
    /// Of earlier attempts: they are in `first` now.
    moved: usize,
    charge: Charge,
}

/// Bytes per time of waiting for them.
#[derive(Default)]
struct Rate {
    bytes: u64,
    waited_ms: u64,
    since_ms: Option<u64>,
}

impl Upload {
    /// `first` is the written head.
    pub fn new(local: &Rc<Local>, first: Vec<u8>, plan: &Plan) -> Upload {
        let length = plan.body;
        let encoder = match length {
            BodyLength::Sized(_) => BodyEncoder::Plain,
            _ => BodyEncoder::Chunked,
        };
        Upload {
            first,
            sent: 0,
            kept: None,
            rest: Outbox::new(local),
            decoder: BodyDecoder::new(length),
            encoder,
            allowed: plan.route.body_limit,
            received: 0,
            replayable: !matches!(length, BodyLength::Sized(n) if n > REPLAY_BYTES as u64),
            refused: false,
            reset: false,
            partly: false,
            progress_ms: local.timers.now_ms(),
            moved: false,
            pace: Pace::upload(plan),
            held: false,
            rate: Rate::default(),
        }
    }

    /// How much of `wanted` may be read from the client now; 0: the body is held back.
    pub fn room(&mut self, now_ms: u64, wanted: usize) -> usize {
        let room = self.pace.room(now_ms, wanted);
        self.held = room == 0 && wanted > 0;
        room
    }

    /// Takes body bytes that arrived together with the head. Returns how many were used.
    pub fn take_first(&mut self, input: &[u8]) -> Result<usize, Rejection> {
        let room = self.room(self.progress_ms, input.len());
        let input = input.get(..room).unwrap_or(input);
        let taken = body::transfer(&mut self.decoder, self.encoder, input, &mut self.first)
            .map_err(|error| Rejection::bad(error.reason()))?;
        self.pace.passed(taken.consumed);
        self.count(taken.data)?;
        Ok(taken.consumed)
    }

    /// Takes further framed body bytes and writes them on as far as the endpoint takes them.
    pub fn take(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut UpstreamIo,
        input: &[u8],
    ) -> Result<usize, Rejection> {
        if let (BodyDecoder::Sized(left), false) = (&mut self.decoder, self.refused) {
            let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
            *left -= n as u64;
            if *left == 0 {
                self.decoder = BodyDecoder::Done;
            }
            self.pace.passed(n);
            self.count(n as u64)?;
            keep(&mut self.kept, &mut self.replayable, self.rest.local(), &input[..n]);
            if let Err(error) = self.rest.write_through(cx, io, &input[..n]) {
                self.refuse(&error);
            }
            return Ok(n);
        }
        let waiting = self.rest.buffer().len();
        let taken = body::transfer(&mut self.decoder, self.encoder, input, self.rest.buffer())
            .map_err(|error| Rejection::bad(error.reason()))?;
        self.keep_rest(waiting);
        self.pace.passed(taken.consumed);
        self.count(taken.data)?;
        if self.refused {
            self.rest.clear();
        }
        Ok(taken.consumed)
    }

    /// Takes body data without framing (HTTP/2).
    pub fn take_data(&mut self, data: &[u8]) -> Result<(), Rejection> {
        self.pace.passed(data.len());
        self.count(data.len() as u64)?;
        let waiting = self.rest.buffer().len();
        match (&mut self.decoder, self.encoder) {
            (BodyDecoder::Sized(left), _) => {
                let after = left.checked_sub(data.len() as u64);
                *left = after.ok_or(Rejection::bad("body_too_long"))?;
                self.rest.buffer().extend_from_slice(data);
            }
            _ => crate::http1::chunked::encode(self.rest.buffer(), data),
        }
        self.keep_rest(waiting);
        Ok(())
    }

    /// The end of a body without framing, with its trailer lines. `false`: it came too early.
    pub fn end_data(&mut self, trailer_lines: &[u8]) -> bool {
        let whole = !matches!(self.decoder, BodyDecoder::Sized(left) if left > 0);
        if self.encoder == BodyEncoder::Chunked && !self.decoder.is_done() {
            let out = self.rest.buffer();
            let waiting = out.len();
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(trailer_lines);
            out.extend_from_slice(b"\r\n");
            self.keep_rest(waiting);
        }
        self.decoder = BodyDecoder::Done;
        whole
    }

    /// Writes what waits. `Ready(())`: more body is wanted, or everything is written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, io: &mut UpstreamIo) -> Poll<()> {
        if self.refused {
            return Poll::Ready(());
        }
        while self.sent < self.first.len() {
            match Stream::poll_write(io, cx, &self.first[self.sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent += n;
                    self.moved = true;
                }
                Poll::Ready(other) => {
                    self.partly = !io.sends_what_it_takes();
                    self.refuse(&other.err().unwrap_or(ErrorKind::WriteZero.into()));
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let drained = self.rest.poll_drain(cx, io);
        if self.rest.take_progress() {
            self.moved = true;
        }
        match drained {
            Poll::Ready(Ok(_)) => Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                self.refuse(&error);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The endpoint does not read on; what it has to say is still read.
    fn refuse(&mut self, error: &io::Error) {
        self.refused = true;
        self.reset = error.kind() != ErrorKind::BrokenPipe;
        self.rest.clear();
    }

    fn flushed(&self) -> bool {
        self.refused || (self.sent == self.first.len() && self.rest.is_empty())
    }

    /// Everything was received and sent.
    pub fn done(&self) -> bool {
        self.decoder.is_done() && self.flushed() && !self.refused
    }

    /// Whether body bytes are wanted from the client now.
    pub fn wants_body(&self) -> bool {
        !self.decoder.is_done() && self.flushed()
    }

    /// Whether the endpoint is what the request waits for.
    pub fn blocked(&self) -> bool {
        !self.flushed()
    }

    /// A write has met a connection that was torn down, not closed in order.
    pub fn reset(&self) -> bool {
        self.reset
    }

    /// Nothing was handed to the connection: the endpoint cannot have seen the request.
    pub fn untouched(&self) -> bool {
        self.sent == 0 && !self.partly
    }

    /// Whether the request can be sent once more from its beginning.
    pub fn replayable(&self) -> bool {
        self.replayable && !self.first.is_empty()
    }

    /// Begins anew, for another connection. `false`: parts of it are gone.
    pub fn rewind(&mut self) -> bool {
        if !self.replayable() {
            return false;
        }
        if let Some(kept) = &mut self.kept {
            self.first.extend_from_slice(&kept.bytes);
            kept.moved += kept.bytes.len();
            kept.bytes = Vec::new();
        }
        self.rest.clear();
        self.sent = 0;
        (self.refused, self.reset, self.partly) = (false, false, false);
        true
    }

    /// Keeps what `rest` got beyond its first `waiting` bytes.
    fn keep_rest(&mut self, waiting: usize) {
        let local = self.rest.local().clone();
        let fresh = self.rest.buffer().get(waiting..).unwrap_or(&[]);
        keep(&mut self.kept, &mut self.replayable, &local, fresh);
    }

    /// The answer has begun: there will be no replay.
    pub fn release(&mut self, local: &Local) {
        if self.sent >= self.first.len() || self.refused {
            self.replayable = false;
            self.kept = None;
            local.buffers.give(std::mem::take(&mut self.first));
            self.sent = 0;
        }
    }

    fn count(&mut self, data: u64) -> Result<(), Rejection> {
        self.received += data;
        self.rate.bytes += data;
        // Part of it may be in `first`.
        if self.received > REPLAY_BYTES as u64 {
            self.replayable = false;
            self.kept = None;
        }
        self.allowed = self.allowed.checked_sub(data).ok_or(Cause::BodyTooLarge)?;
        Ok(())
    }

    /// We begin to wait for the client (`now_ms`), or go on waiting.
    pub fn waiting(&mut self, now_ms: u64) {
        self.rate.waiting(now_ms);
    }

    /// Pacing holds bytes back, of whichever direction: meanwhile nobody is late (design.md #11).
    pub fn excuse(&mut self, now_ms: u64) {
        self.progress_ms = now_ms;
        self.rate.pause(now_ms);
    }

    /// Bytes came. `false`: on average they are fewer than `min_rate` per second.
    pub fn fast_enough(&mut self, now_ms: u64, min_rate: u64) -> bool {
        self.rate.is_enough(now_ms, min_rate)
    }
}

/// Keeps `fresh` for a replay, or gives up on one when it becomes too much.
fn keep(kept: &mut Option<Kept>, replayable: &mut bool, local: &Local, fresh: &[u8]) {
    if !*replayable || fresh.is_empty() {
        return;
    }
    let kept_bytes = kept.as_ref().map_or(0, |kept| kept.moved + kept.bytes.len());
    if kept_bytes + fresh.len() > REPLAY_BYTES {
        *replayable = false;
        *kept = None;
        return;
    }
    let kept = kept.get_or_insert_with(|| {
        let charge = Charge::new(&local.shared);
        Kept { bytes: Vec::new(), moved: 0, charge }
    });
    kept.bytes.extend_from_slice(fresh);
    kept.charge.set(kept.moved + kept.bytes.capacity());
}

impl Rate {
    fn waiting(&mut self, now_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
    }

    fn pause(&mut self, now_ms: u64) {
        if let Some(since) = self.since_ms.take() {
            self.waited_ms += now_ms.saturating_sub(since);
        }
    }

    /// Judged once per window of waiting, when bytes have come; the next window starts from nothing.
    fn is_enough(&mut self, now_ms: u64, min_rate: u64) -> bool {
        self.pause(now_ms);
        if self.waited_ms < RATE_WINDOW_MS {
            return true;
        }
        let least = min_rate.saturating_mul(self.waited_ms);
        let enough = self.bytes.saturating_mul(1000) >= least;
        *self = Rate::default();
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a client whose bytes come `each` at a time, `every_ms`, is still served after
    /// `windows` windows of waiting for it.
    fn lasts(windows: u64, each: u64, every_ms: u64) -> bool {
        let mut rate = Rate::default();
        let mut now_ms = 1_000_000;
        (0..(windows * RATE_WINDOW_MS).div_ceil(every_ms)).all(|_| {
            rate.waiting(now_ms);
            now_ms += every_ms;
            rate.bytes += each;
            rate.is_enough(now_ms, 240)
        })
    }

    #[test]
    fn the_least_rate_is_enough_and_a_byte_less_is_not() {
        for (each, every_ms) in [(240, 1000), (24, 100), (7200, 30_000), (2400, 10_000)] {
            assert!(lasts(10, each, every_ms), "{each} bytes every {every_ms} ms");
            assert!(!lasts(1, each - 1, every_ms), "{} bytes every {every_ms} ms", each - 1);
        }
    }

    #[test]
    fn a_window_that_is_not_full_is_not_judged() {
        let mut rate = Rate::default();
        rate.waiting(0);
        assert!(rate.is_enough(RATE_WINDOW_MS - 1, 240));
        rate.waiting(RATE_WINDOW_MS - 1);
        assert!(!rate.is_enough(RATE_WINDOW_MS, 240));
    }

    #[test]
    fn what_came_in_an_earlier_window_does_not_count() {
        let mut rate = Rate { bytes: 1 << 30, ..Rate::default() };
        rate.waiting(0);
        assert!(rate.is_enough(RATE_WINDOW_MS, 240));
        rate.waiting(RATE_WINDOW_MS);
        rate.bytes += 1;
        assert!(!rate.is_enough(2 * RATE_WINDOW_MS, 240));
    }

    /// A slow endpoint is not the client's fault.
    #[test]
    fn only_time_of_waiting_counts() {
        let mut rate = Rate::default();
        for hour in 1..100 {
            rate.waiting(hour * 3_600_000);
            rate.waiting(hour * 3_600_000 + 5);
            assert!(rate.is_enough(hour * 3_600_000 + 10, 240));
        }
        assert_eq!(rate.waited_ms, 990);
    }

    /// Nor is pacing, of whichever direction.
    #[test]
    fn time_of_holding_back_does_not_count() {
        let mut rate = Rate::default();
        for hour in 1..100 {
            rate.waiting(hour * 3_600_000);
            rate.pause(hour * 3_600_000 + 10);
            rate.pause(hour * 3_600_000 + 600_000);
            assert!(rate.is_enough(hour * 3_600_000 + 1_000_000, 240));
        }
        assert_eq!(rate.waited_ms, 990);
    }

    #[test]
    fn zero_is_off() {
        let mut rate = Rate::default();
        rate.waiting(0);
        assert!(rate.is_enough(u64::MAX, 0));
    }
}
