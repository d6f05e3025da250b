//! Where passwords are verified: one thread for all tables, with a short queue before it and a
//! memory of verdicts, so that a known customer never waits and a guess never stalls traffic.
//!
//! Never held: a password after its verdict, or a hash of one that could be tried without this
//! process's random key.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::oneshot;

use super::users::Question;
use super::verdicts::{Guesses, Verdicts};
use crate::clock::process_ms;

/// The verification thread, seen from workers. Starts the thread with the first question that
/// needs it; the thread ends with this.
pub struct Passwords {
    key: hmac::Key,
    desk: Arc<Desk>,
    jobs: Mutex<Option<SyncSender<Job>>>,
}

/// What `ask` says at once.
#[derive(Debug)]
pub enum Answer {
    /// Asked before.
    Known(bool),
    /// Under way.
    Wait(Waiting),
    /// The queue is full, or another password of the same client is under way: try again in a
    /// second.
    Busy,
    /// Too many wrong guesses.
    Limited { retry_after: Duration },
}

/// The verdict to come; to be bounded by a deadline. Dropping it takes the question back, unless
/// others wait for the same.
#[derive(Debug)]
pub struct Waiting(oneshot::Receiver<bool>);

impl Future for Waiting {
    /// `None`: there will be none (a panic of ours, or the end of the process).
    type Output = Option<bool>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

/// What workers and the thread share; locked for updates only.
struct Desk {
    books: Mutex<Books>,
    check: Box<dyn Fn(&Question) -> bool + Send + Sync>,
}

struct Books {
    verdicts: Verdicts,
    guesses: Guesses,
    /// Queued or being verified, by client.
    open: HashMap<u64, Open>,
}

/// The one question of a client.
struct Open {
    key: u128,
    /// A browser asks for several things at once.
    waiting: Vec<oneshot::Sender<bool>>,
}

struct Job {
    client: u64,
    key: u128,
    question: Question,
}

impl Passwords {
    pub fn new() -> Passwords {
        Passwords::with(Question::check)
    }

    fn with(check: impl Fn(&Question) -> bool + Send + Sync + 'static) -> Passwords {
        let mut random = [0; 32];
        // It fails only where there is no random source at all; TLS would not have come up.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let books =
            Books { verdicts: Verdicts::new(), guesses: Guesses::new(), open: HashMap::new() };
        let desk = Desk { books: Mutex::new(books), check: Box::new(check) };
        Passwords {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random),
            desk: Arc::new(desk),
            jobs: Mutex::default(),
        }
    }

    /// Never blocks. `client`: a hash of the client's address prefix; it may have one question at
    /// a time.
    pub fn ask(&self, question: Question, client: u64) -> Answer {
        self.ask_at(question, client, process_ms())
    }

    /// Questions queued or being verified.
    pub fn waiting(&self) -> usize {
        self.desk.lock().open.len()
    }

    fn ask_at(&self, question: Question, client: u64, now: u64) -> Answer {
        if question.hopeless() {
            return Answer::Known(false);
        }
        let key = self.key(&question);
        let mut books = self.desk.lock();
        if let Some(right) = books.verdicts.recall(key, now) {
            return Answer::Known(right);
        }
        if let Some(ms) = books.guesses.wait_ms(client, now) {
            return Answer::Limited { retry_after: Duration::from_millis(ms) };
        }
        let (reply, answer) = oneshot::channel();
        if let Some(open) = books.open.get_mut(&client) {
            if open.key != key || open.waiting.len() >= MAX_SAME {
                return Answer::Busy;
            }
            open.waiting.push(reply);
            return Answer::Wait(Waiting(answer));
        }
        // The books stay locked: the thread settles the job only when it is in them.
        if books.open.len() >= MAX_OPEN || !self.submit(Job { client, key, question }) {
            return Answer::Busy;
        }
        books.open.insert(client, Open { key, waiting: vec![reply] });
        Answer::Wait(Waiting(answer))
    }

    /// Whoever sees a key learns nothing: it is cut from a MAC with a key that nobody has.
    fn key(&self, question: &Question) -> u128 {
        let mut mac = hmac::Context::with_key(&self.key);
        question.content(|part| mac.update(part));
        let mut key = [0; 16];
        key.copy_from_slice(&mac.sign().as_ref()[..16]);
        u128::from_be_bytes(key)
    }

    /// False: no thread can be started now.
    fn submit(&self, job: Job) -> bool {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_none() {
            *jobs = start(self.desk.clone());
        }
        jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords::new()
    }
}

fn start(desk: Arc<Desk>) -> Option<SyncSender<Job>> {
    let (jobs, queue) = sync_channel(MAX_OPEN);
    let work = move || desk.work(&queue);
    match std::thread::Builder::new().name("passwords".into()).spawn(work) {
        Ok(_) => Some(jobs),
        Err(error) => {
            tracing::error!(%error, "no thread to verify passwords");
            None
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the thread: until the last sender is gone.
    fn work(&self, queue: &Receiver<Job>) {
        step_back();
        while let Ok(job) = queue.recv() {
            if let Some(verdict) = self.still_open(&job) {
                let verdict = verdict.or_else(|| self.verify(&job));
                self.settle(&job, verdict);
            }
        }
    }

    /// `None`: nobody waits for it any more, and it is closed. `Some(Some(_))`: another client has
    /// asked the same meanwhile.
    fn still_open(&self, job: &Job) -> Option<Option<bool>> {
        let mut books = self.lock();
        let open = books.open.get_mut(&job.client)?;
        open.waiting.retain(|reply| !reply.is_closed());
        if open.waiting.is_empty() {
            books.open.remove(&job.client);
            return None;
        }
        Some(books.verdicts.recall(job.key, process_ms()))
    }

    /// `None`: a panic, which ends this question only.
    fn verify(&self, job: &Job) -> Option<bool> {
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.check)(&job.question)));
        if verdict.is_err() {
            tracing::error!("a panic while a password was verified");
        }
        verdict.ok()
    }

    fn settle(&self, job: &Job, verdict: Option<bool>) {
        let mut books = self.lock();
        let open = books.open.remove(&job.client);
        if let Some(right) = verdict {
            let now = process_ms();
            books.verdicts.learn(job.key, right, now);
            if !right {
                books.guesses.wrong(job.client, now);
            }
        }
        drop(books);
        // Without a verdict the senders are dropped, which says so.
        if let (Some(open), Some(right)) = (open, verdict) {
            for reply in open.waiting {
                let _ = reply.send(right);
            }
        }
    }
}

/// Traffic comes first. On Linux a thread has a priority of its own.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
}

/// Questions queued or being verified at once, over all clients.
pub const MAX_OPEN: usize = 64;
/// Requests of one client that wait for the same verdict.
const MAX_SAME: usize = 64;
