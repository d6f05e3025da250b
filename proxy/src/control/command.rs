//! What the operator asks of the control thread through the admin server: a bounded queue of
//! commands, each with its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use config::value::Name;
use tokio::sync::{mpsc, oneshot};

use super::shifts::Shown;
use crate::clock;

/// One command and where its answer goes. An answer that nobody waits for any more means that the
/// command is not carried out.
pub enum Command {
    Drain { of: EndpointOf, force: bool, tell: Tell<Drained> },
    Undrain { of: EndpointOf, tell: Tell<Drained> },
    Shift { route: String, weights: BTreeMap<Name, u32>, lasts: Lasts, tell: Tell<Shown> },
    Unshift { route: String, tell: Tell<Shown> },
}

pub type Tell<T> = oneshot::Sender<Result<T, Refusal>>;

/// An endpoint as the operator names it: the upstream, and the address as `upstreams` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointOf {
    pub upstream: String,
    pub endpoint: String,
}

/// How long a shift lasts; `None`: until its split changes or the process ends.
pub type Lasts = Option<Duration>;

/// What a drain or its end came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// False: it was so already.
    pub changed: bool,
    /// Requests under way at the endpoint.
    pub requests: usize,
}

/// Why a command is not carried out, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is named is not there.
    Unknown(String),
    /// It is there and cannot be done.
    Conflict(String),
    /// The control thread has too much to do, or is on its way out.
    Busy(String),
}

/// The admin server's end.
#[derive(Clone, Debug)]
pub struct Commands {
    queue: mpsc::Sender<Command>,
    patience: Duration,
}

/// The control thread's end.
pub struct Inbox(mpsc::Receiver<Command>);

/// What the control thread wakes up for.
pub enum Event {
    Command(Command),
    /// A shift has run out.
    Expired,
}

pub fn channel() -> (Commands, Inbox) {
    let (queue, inbox) = mpsc::channel(QUEUE);
    (Commands { queue, patience: PATIENCE }, Inbox(inbox))
}

impl Commands {
    /// Has a command carried out.
    ///
    /// # Errors
    /// It is refused, or nobody answers within 10 s.
    pub async fn ask<T>(&self, make: impl FnOnce(Tell<T>) -> Command) -> Result<T, Refusal> {
        let (tell, answer) = oneshot::channel();
        if self.queue.try_send(make(tell)).is_err() {
            return Err(Refusal::Busy("too much is asked at once".to_owned()));
        }
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::Busy("the process ends".to_owned())),
            Err(_) => Err(Refusal::Busy(format!(
                "not carried out within {} s, and dropped",
                self.patience.as_secs()
            ))),
        }
    }
}

impl Inbox {
    /// The next command, or `Expired` at `end` (process milliseconds).
    pub async fn next(&mut self, end: Option<u64>) -> Event {
        let expired = async {
            match end {
                Some(end) => {
                    let left = end.saturating_sub(clock::process_ms());
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(command) = self.0.recv() => Event::Command(command),
            () = expired => Event::Expired,
        }
    }
}

/// As many as the admin server answers at once.
const QUEUE: usize = 64;
/// A reload may wait for certificates meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    async fn unshift(commands: &Commands) -> Result<Shown, Refusal> {
        commands.ask(|tell| Command::Unshift { route: "r".to_owned(), tell }).await
    }

    #[tokio::test]
    async fn answers_refusals_and_silence() {
        let (commands, mut inbox) = channel();
        let refusal = Refusal::Unknown("no such route".to_owned());
        let (told, ()) = tokio::join!(unshift(&commands), async {
            let Event::Command(Command::Unshift { route, tell }) = inbox.next(None).await else {
                panic!()
            };
            assert_eq!(route, "r");
            tell.send(Err(refusal.clone())).unwrap();
        });
        assert_eq!(told, Err(refusal));
        // Nobody answers: what is asked is dropped.
        let commands = Commands { patience: Duration::from_millis(20), ..commands };
        let Err(Refusal::Busy(why)) = unshift(&commands).await else { panic!() };
        assert!(why.contains("dropped"), "{why}");
        let Event::Command(Command::Unshift { tell, .. }) = inbox.next(None).await else {
            panic!()
        };
        assert!(tell.is_closed());
        drop((tell, inbox));
        assert!(matches!(unshift(&commands).await, Err(Refusal::Busy(_))));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let (commands, _inbox) = channel();
        for _ in 0..QUEUE {
            let (tell, _) = oneshot::channel();
            let command = Command::Unshift { route: "r".to_owned(), tell };
            assert!(commands.queue.try_send(command).is_ok());
        }
        let told = unshift(&commands).await;
        assert_eq!(told, Err(Refusal::Busy("too much is asked at once".to_owned())));
    }

    #[tokio::test]
    async fn an_end_wakes_the_control_thread() {
        let (_commands, mut inbox) = channel();
        let soon = clock::process_ms() + 20;
        assert!(matches!(inbox.next(Some(soon)).await, Event::Expired));
        assert!(clock::process_ms() >= soon);
    }
}
