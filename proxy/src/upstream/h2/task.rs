//! The task of one HTTP/2 connection: crate `h2` speaks the protocol, we keep the time.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};

use super::link::{Link, LinkIo};
use crate::buffers::Charge;
use crate::local::Local;
use crate::timer::{Fired, Timer};

/// Closed after so long without a stream.
const IDLE_MS: u64 = 60_000;
/// Silence after which the endpoint is asked whether it is there, and how long it may take to say.
const PING_AFTER_MS: u64 = 20_000;
const PING_TIMEOUT_MS: u64 = 20_000;
/// Until it is asked again while nothing else comes: gRPC servers close connections that ping more
/// often than every five minutes while they have nothing to send. Dead hosts are found by TCP.
const PING_AGAIN_MS: u64 = 330_000;
/// After our good-bye without any streams, for the endpoint's own.
const LINGER_MS: u64 = 2_000;

/// Drives a connection until it ends.
pub struct Task {
    pub local: Rc<Local>,
    pub link: Rc<Link>,
    endpoint: u32,
    connection: Connection<LinkIo, Bytes>,
    ping: Option<PingPong>,
    timer: Timer,
    /// When a ping was sent that is not answered.
    pinged: Option<u64>,
    /// When the last answer came.
    ponged: Option<u64>,
    /// Since when there has been no stream.
    idle: Option<u64>,
    /// Bytes received that nobody has read, as of the last tick.
    unread: Charge,
    counted_at: u64,
    /// The connection's place in limits and gauges.
    _books: Box<dyn Any>,
}

/// What there is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Ping,
    /// The endpoint does not answer.
    Dead,
    Leave,
    /// It has left, and lingers.
    Gone,
}

impl Task {
    pub fn new(
        local: &Rc<Local>,
        link: Rc<Link>,
        endpoint: u32,
        mut connection: Connection<LinkIo, Bytes>,
        books: Box<dyn Any>,
    ) -> Task {
        Task {
            ping: connection.ping_pong(),
            unread: Charge::new(&local.shared),
            timer: local.timers.timer(),
            local: local.clone(),
            link,
            endpoint,
            connection,
            pinged: None,
            ponged: None,
            idle: None,
            counted_at: 0,
            _books: books,
        }
    }

    /// Until the endpoint's SETTINGS are here and applied: how many streams it takes, and which
    /// extensions. An error: it ended, or does not speak HTTP/2.
    pub fn poll_settings(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        match Pin::new(&mut self.connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if self.link.seen.settings.get() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if Pin::new(&mut self.connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let now_ms = self.timer.now_ms();
            if let Some(ping) = &mut self.ping
                && self.pinged.is_some()
                && ping.poll_pong(cx).is_ready()
            {
                self.pinged = None;
                self.ponged = Some(now_ms);
            }
            self.idle = self.link.is_idle().then(|| self.idle.unwrap_or(now_ms));
            self.count(now_ms);
            if self.link.open() {
                let over = self.idle.is_some() && self.local.draining();
                if over || self.link.refused(cx) {
                    self.leave(now_ms);
                    continue;
                }
            }
            *self.link.task.borrow_mut() = Some(cx.waker().clone());
            let (at_ms, due) = self.next_deadline();
            self.timer.set_at(at_ms);
            match (self.timer.check(cx), due) {
                (None, _) => return Poll::Pending,
                (Some(Fired::Deadline), Due::Ping) => self.send_ping(now_ms),
                (Some(Fired::Deadline), Due::Leave) => self.leave(now_ms),
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Counts, once per tick, what waits in the windows of streams whose clients do not read on.
    fn count(&mut self, now_ms: u64) {
        let seen = &self.link.seen;
        if !seen.fresh.get() && self.unread.bytes() == 0 {
            return;
        }
        if self.counted_at != now_ms {
            self.counted_at = now_ms;
            seen.fresh.set(false);
            self.unread.set(self.link.unread());
            self.link.held.set(self.unread.bytes());
        }
        self.timer.poll_at_tick();
    }

    /// Takes no new streams; the connection ends with its last one.
    fn leave(&mut self, now_ms: u64) {
        self.local.h2.remove(self.endpoint, &self.link);
        self.link.leave();
        if self.idle.is_some() {
            // From here on it lingers.
            self.idle = Some(now_ms);
        }
    }

    fn send_ping(&mut self, now_ms: u64) {
        self.pinged = Some(now_ms);
        if let Some(ping) = &mut self.ping {
            // It fails only where one is under way already.
            let _ = ping.send_ping(Ping::opaque());
        }
    }

    fn next_deadline(&self) -> (u64, Due) {
        Waits {
            read_at: self.link.seen.read_at.get(),
            pinged: self.pinged,
            ponged: self.ponged,
            idle: self.idle,
            open: self.link.open(),
        }
        .next()
    }
}

/// What a connection waits for, in worker milliseconds.
#[derive(Clone, Copy, Default)]
struct Waits {
    read_at: u64,
    pinged: Option<u64>,
    ponged: Option<u64>,
    idle: Option<u64>,
    open: bool,
}

impl Waits {
    /// The next moment at which something must be done, and what.
    fn next(self) -> (u64, Due) {
        let ping = match (self.pinged, self.ponged) {
            // Whatever it sends shows that it is there.
            (Some(sent), _) => (sent.max(self.read_at) + PING_TIMEOUT_MS, Due::Dead),
            (None, Some(ponged)) if ponged >= self.read_at => (ponged + PING_AGAIN_MS, Due::Ping),
            (None, _) => (self.read_at + PING_AFTER_MS, Due::Ping),
        };
        let idle = self.idle.map(|since| match self.open {
            true => (since + IDLE_MS, Due::Leave),
            false => (since + LINGER_MS, Due::Gone),
        });
        idle.filter(|(at, _)| *at <= ping.0).unwrap_or(ping)
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.step(cx)
    }
}

impl Drop for Task {
    /// Streams that are left see an error; nobody opens another.
    fn drop(&mut self) {
        self.local.h2.remove(self.endpoint, &self.link);
        self.link.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_next() {
        let quiet = Waits { read_at: 1000, open: true, ..Waits::default() };
        for (waits, expected) in [
            (quiet, (21_000, Due::Ping)),
            (Waits { pinged: Some(21_000), ..quiet }, (41_000, Due::Dead)),
            // Bytes after the ping count as an answer.
            (Waits { pinged: Some(21_000), read_at: 30_000, ..quiet }, (50_000, Due::Dead)),
            // The answer was the last that came: nothing is asked again for long.
            (Waits { ponged: Some(21_100), read_at: 21_100, ..quiet }, (351_100, Due::Ping)),
            (Waits { ponged: Some(21_100), read_at: 22_000, ..quiet }, (42_000, Due::Ping)),
            // Without streams.
            (Waits { idle: Some(1000), read_at: 50_000, ..quiet }, (61_000, Due::Leave)),
            (Waits { idle: Some(1000), ..quiet }, (21_000, Due::Ping)),
            (Waits { idle: Some(1000), open: false, ..quiet }, (3000, Due::Gone)),
            // Leaving, with streams: as before.
            (Waits { open: false, ..quiet }, (21_000, Due::Ping)),
        ] {
            assert_eq!(waits.next(), expected);
        }
    }
}
