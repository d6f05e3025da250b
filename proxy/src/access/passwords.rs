//! Where passwords are verified: one thread for all tables, with a short queue before it and a
//! memory of verdicts, so that a known customer never waits and a guess never stalls traffic.
//!
//! Never held: a password after its verdict, or a hash of one that could be tried without this
//! process's random key.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::oneshot;

use super::books::{Books, MAX_OPEN, Opened};
use super::users::Question;
use crate::clock::process_ms;

/// The verification thread, seen from workers. Starts the thread with the first question that
/// needs it; the thread ends with this.
pub struct Passwords {
    key: hmac::Key,
    desk: Arc<Desk>,
    jobs: OnceLock<SyncSender<Job>>,
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

/// What workers and the thread share.
struct Desk {
    books: Books,
    check: Box<dyn Fn(&Question) -> bool + Send + Sync>,
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
        let desk = Desk { books: Books::new(), check: Box::new(check) };
        Passwords {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random),
            desk: Arc::new(desk),
            jobs: OnceLock::new(),
        }
    }

    /// Never blocks. `client`: a hash of the client's address prefix; it may have one question at
    /// a time.
    pub fn ask(&self, question: Question, client: u64) -> Answer {
        self.ask_at(question, client, process_ms())
    }

    /// Questions queued or being verified.
    pub fn waiting(&self) -> usize {
        self.desk.books.waiting()
    }

    fn ask_at(&self, question: Question, client: u64, now: u64) -> Answer {
        if question.hopeless() {
            return Answer::Known(false);
        }
        let key = self.key(&question);
        let books = &self.desk.books;
        if let Some(right) = books.recall(key, now) {
            return Answer::Known(right);
        }
        let (reply, answer) = oneshot::channel();
        let submit = || self.submit(Job { client, key, question });
        match books.open(client, key, now, reply, submit) {
            Opened::Waits => Answer::Wait(Waiting(answer)),
            Opened::Busy => Answer::Busy,
            Opened::Limited { ms } => Answer::Limited { retry_after: Duration::from_millis(ms) },
        }
    }

    /// Whoever sees a key learns nothing: it is cut from a MAC with a key that nobody has.
    fn key(&self, question: &Question) -> u128 {
        let mut mac = hmac::Context::with_key(&self.key);
        question.content(|part| mac.update(part));
        let mut key = [0; 16];
        key.copy_from_slice(&mac.sign().as_ref()[..16]);
        u128::from_be_bytes(key)
    }

    /// False: no thread can be started now. Of two that start one at once, one has nothing to do
    /// and ends.
    fn submit(&self, job: Job) -> bool {
        if self.jobs.get().is_none()
            && let Some(jobs) = start(self.desk.clone())
        {
            let _ = self.jobs.set(jobs);
        }
        self.jobs.get().is_some_and(|jobs| jobs.try_send(job).is_ok())
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
    /// The life of the thread: until the last sender is gone.
    fn work(&self, queue: &Receiver<Job>) {
        step_back();
        while let Ok(job) = queue.recv() {
            let (client, key) = (job.client, job.key);
            if self.books.still_open(client) {
                // Another client may have asked the same meanwhile.
                let known = self.books.recall(key, process_ms());
                let verdict = known.or_else(|| self.verify(&job));
                self.books.settle(client, key, verdict, process_ms());
            }
        }
    }

    /// `None`: a panic, which ends this question only.
    fn verify(&self, job: &Job) -> Option<bool> {
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.check)(&job.question)));
        if verdict.is_err() {
            tracing::error!("a panic while a password was verified");
        }
        verdict.ok()
    }
}

/// Traffic comes first. On Linux a thread has a priority of its own.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};

    use super::super::books::MAX_SAME;
    use super::super::users::Users;
    use super::super::users::tests::{OTHER, RIGHT, question, users};
    use super::super::verdicts::MAX_WRONG;
    use super::*;

    fn table() -> Arc<Users> {
        users(&[("ann", RIGHT)])
    }

    fn wait(answer: Answer) -> Option<bool> {
        match answer {
            Answer::Wait(waiting) => waiting.0.blocking_recv().ok(),
            other => panic!("{other:?}"),
        }
    }

    /// Verification stands still until a word is sent for each; also counts them.
    fn held() -> (Passwords, Sender<()>, Arc<AtomicUsize>) {
        let (go, gate) = channel();
        let gate = Mutex::new(gate);
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let passwords = Passwords::with(move |question| {
            counter.fetch_add(1, Ordering::SeqCst);
            // The end of the test lets all go.
            let _ = gate.lock().unwrap().recv();
            question.check()
        });
        (passwords, go, count)
    }

    #[test]
    fn a_verdict_is_found_out_once() {
        let (passwords, go, count) = held();
        (0..2).for_each(|_| go.send(()).unwrap());
        assert_eq!(wait(passwords.ask(question(&table(), "ann", "right"), 1)), Some(true));
        assert_eq!(wait(passwords.ask(question(&table(), "ann", "wrong"), 1)), Some(false));
        // By whomever, and with the table of a reload.
        for client in 1..100 {
            let (right, wrong) = (("right", true), ("wrong", false));
            for (password, verdict) in [right, wrong] {
                let answer = passwords.ask(question(&table(), "ann", password), client);
                assert!(matches!(answer, Answer::Known(known) if known == verdict), "{answer:?}");
            }
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_changed_line_takes_no_former_password() {
        let passwords = Passwords::new();
        assert_eq!(wait(passwords.ask(question(&table(), "ann", "right"), 1)), Some(true));
        let changed = users(&[("ann", OTHER)]);
        assert_eq!(wait(passwords.ask(question(&changed, "ann", "right"), 1)), Some(false));
        assert_eq!(wait(passwords.ask(question(&changed, "ann", "other"), 1)), Some(true));
        let removed = users(&[("bob", RIGHT)]);
        assert_eq!(wait(passwords.ask(question(&removed, "ann", "right"), 1)), Some(false));
    }

    /// With a real, slow scheme.
    #[test]
    fn a_known_customer_does_not_wait_behind_a_hundred_guesses() {
        // `htpasswd -B -C 12` of `right`.
        let slow = users(&[
            ("ann", RIGHT),
            ("bob", "$2y$12$pNUVMgtQ20W6rrcCDQ0KmOKbMYFGkGFptZGXR2AX3/7N2QIGjOxYa"),
        ]);
        let passwords = Passwords::new();
        assert_eq!(wait(passwords.ask(question(&slow, "bob", "right"), 0)), Some(true));
        let guess = |n: u64| passwords.ask(question(&slow, "bob", &format!("guess {n}")), n);
        let guesses: Vec<Answer> = (1..=100).map(guess).collect();
        assert!(passwords.waiting() > 0);
        let answer = passwords.ask(question(&slow, "bob", "right"), 1);
        assert!(matches!(answer, Answer::Known(true)), "{answer:?}");
        // What was not taken was refused.
        let refused = |answer: &&Answer| matches!(answer, Answer::Busy);
        assert!(guesses.iter().filter(refused).count() > 0);
    }

    #[test]
    fn the_queue_is_bounded() {
        let (passwords, go, _) = held();
        let ask = |n: u64| passwords.ask(question(&table(), "ann", &format!("guess {n}")), n);
        let mut waiting: Vec<Answer> = (0..MAX_OPEN as u64).map(ask).collect();
        assert!(waiting.iter().all(|answer| matches!(answer, Answer::Wait(_))));
        assert_eq!(passwords.waiting(), MAX_OPEN);
        assert!(matches!(ask(1000), Answer::Busy));
        // A place is free after the first verdict.
        go.send(()).unwrap();
        assert_eq!(wait(waiting.remove(0)), Some(false));
        assert!(matches!(ask(1001), Answer::Wait(_)));
        assert!(matches!(ask(1002), Answer::Busy));
    }

    #[test]
    fn a_client_has_one_question_at_a_time_and_may_repeat_it() {
        let (passwords, go, count) = held();
        let first = passwords.ask(question(&table(), "ann", "right"), 1);
        assert!(matches!(passwords.ask(question(&table(), "ann", "guess"), 1), Answer::Busy));
        let again: Vec<Answer> =
            (1..MAX_SAME).map(|_| passwords.ask(question(&table(), "ann", "right"), 1)).collect();
        assert!(matches!(passwords.ask(question(&table(), "ann", "right"), 1), Answer::Busy));
        assert_eq!(passwords.waiting(), 1);
        go.send(()).unwrap();
        assert_eq!(wait(first), Some(true));
        assert!(again.into_iter().all(|answer| wait(answer) == Some(true)));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // Settled before it was answered.
        assert_eq!(passwords.waiting(), 0);
        let next = passwords.ask(question(&table(), "ann", "guess"), 1);
        assert!(matches!(next, Answer::Wait(_)));
    }

    #[test]
    fn who_leaves_is_not_hashed_for() {
        let (passwords, go, count) = held();
        let first = passwords.ask(question(&table(), "ann", "1"), 1);
        let left = passwords.ask(question(&table(), "ann", "2"), 2);
        let last = passwords.ask(question(&table(), "ann", "3"), 3);
        assert!(matches!(left, Answer::Wait(_)));
        drop(left);
        (0..2).for_each(|_| go.send(()).unwrap());
        assert_eq!((wait(first), wait(last)), (Some(false), Some(false)));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(passwords.waiting(), 0);
    }

    #[test]
    fn a_panic_ends_one_question_only() {
        let passwords = Passwords::with(|question| {
            assert!(!question.hopeless());
            let mut right = false;
            question.content(|part| {
                assert_ne!(part, b"boom");
                right |= part == b"right";
            });
            right
        });
        assert_eq!(wait(passwords.ask(question(&table(), "ann", "boom"), 1)), None);
        assert_eq!(wait(passwords.ask(question(&table(), "ann", "right"), 1)), Some(true));
        // No verdict, no memory of one.
        assert_eq!(wait(passwords.ask(question(&table(), "ann", "boom"), 1)), None);
        assert_eq!(passwords.waiting(), 0);
    }

    #[test]
    fn a_guesser_is_held_off_and_his_neighbours_are_not() {
        let passwords = Passwords::new();
        let ask = |password: &str, client, now| {
            passwords.ask_at(question(&table(), "ann", password), client, now)
        };
        assert_eq!(wait(ask("right", 2, process_ms())), Some(true));
        for n in 0..MAX_WRONG {
            assert_eq!(wait(ask(&format!("guess {n}"), 1, process_ms())), Some(false));
        }
        let now = process_ms();
        let Answer::Limited { retry_after } = ask("guess", 1, now) else { panic!("a guess") };
        assert!(retry_after <= Duration::from_secs(60) && retry_after > Duration::ZERO);
        // What is known needs no guess: neither from there nor again.
        assert!(matches!(ask("right", 1, now), Answer::Known(true)));
        assert!(matches!(ask("guess 0", 1, now), Answer::Known(false)));
        assert_eq!(wait(ask("guess", 2, now)), Some(false));
        // Another guess: that one is known by now.
        assert_eq!(wait(ask("another", 1, now + 60_000)), Some(false));
    }

    #[test]
    fn an_endless_password_is_wrong_at_once() {
        let passwords = Passwords::new();
        let answer = passwords.ask(question(&table(), "ann", &"a".repeat(1025)), 1);
        assert!(matches!(answer, Answer::Known(false)), "{answer:?}");
        assert!(passwords.jobs.get().is_none());
    }

    #[test]
    fn the_thread_ends_with_its_owner_and_leaves_the_workers_their_time() {
        let desk = {
            let passwords = Passwords::with(|_| {
                let thread = Some(rustix::thread::gettid());
                rustix::process::getpriority_process(thread).is_ok_and(|nice| nice >= 10)
            });
            let answer = passwords.ask(question(&table(), "ann", "right"), 1);
            assert_eq!(wait(answer), Some(true));
            passwords.desk.clone()
        };
        while Arc::strong_count(&desk) > 1 {
            std::thread::yield_now();
        }
    }
}
