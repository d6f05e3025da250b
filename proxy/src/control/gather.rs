//! Changed names until their upstreams are rebuilt. Usually that is at once; where it takes long
//! (ten thousand endpoints over many names), further changes are gathered until the rebuilding has
//! had no more than a `SHARE`th of the time.

use std::collections::HashSet;
use std::time::Duration;

use super::resolve::Question;
use crate::clock;

#[derive(Default)]
pub struct Gather {
    questions: HashSet<Question>,
    /// Process microseconds.
    not_before: u64,
}

impl Gather {
    pub fn add(&mut self, question: Question) {
        self.questions.insert(question);
    }

    /// Waits until something is to be rebuilt, and now. Can be dropped and called again.
    pub async fn due(&self) {
        if self.questions.is_empty() {
            return std::future::pending().await;
        }
        let wait = self.not_before.saturating_sub(clock::process_us());
        if wait > 0 {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
    }

    /// Hands everything gathered to `rebuild`.
    pub fn rebuild<T>(&mut self, rebuild: impl FnOnce(&HashSet<Question>) -> T) -> T {
        let questions = std::mem::take(&mut self.questions);
        let started = clock::process_us();
        let done = rebuild(&questions);
        let ended = clock::process_us();
        self.not_before = ended + (ended - started).saturating_mul(SHARE).min(MOST_US);
        done
    }
}

const SHARE: u64 = 100;
/// However long it took: a change is not held back for longer than this.
const MOST_US: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_due(gather: &Gather) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut due = std::pin::pin!(gather.due());
            std::future::poll_fn(|cx| std::task::Poll::Ready(due.as_mut().poll(cx).is_ready()))
                .await
        })
    }

    #[test]
    fn the_first_change_is_due_at_once_and_after_long_work_the_next_ones_wait() {
        let question = |name: &str| Question::Host(name.into());
        let mut gather = Gather::default();
        assert!(!is_due(&gather), "there is nothing to do");
        gather.add(question("a"));
        gather.add(question("a"));
        assert!(is_due(&gather));
        gather.rebuild(|questions| {
            assert_eq!(questions.len(), 1);
            std::thread::sleep(Duration::from_millis(20));
        });
        gather.add(question("b"));
        gather.add(question("c"));
        let left = gather.not_before.saturating_sub(clock::process_us());
        assert!(left > 0 && left <= MOST_US && !is_due(&gather));
        gather.not_before = 0;
        assert!(is_due(&gather));
        assert_eq!(gather.rebuild(HashSet::len), 2);
        assert!(!is_due(&gather));
    }
}
