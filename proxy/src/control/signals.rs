//! Signals to what they ask for.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Installed before anything slow, so that SIGHUP never ends a process that is starting.
pub struct Signals {
    hangup: Stream,
    terminate: Stream,
    interrupt: Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    End,
}

impl Signals {
    /// # Errors
    /// The process cannot have handlers (no file descriptor left).
    pub fn install() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal. Several of one kind in a row may count once.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}
