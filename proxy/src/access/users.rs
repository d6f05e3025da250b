//! The users of a route, and the question whether a password is theirs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use config::model::{PasswordEntry, PasswordHash};

use super::credentials::Credentials;
use super::schemes;

/// A password table, compiled.
pub struct Users {
    entries: HashMap<Box<[u8]>, PasswordHash>,
    /// What a password of nobody is verified against, so that its time does not tell who exists:
    /// a hash with the most frequent scheme and cost. `None`: the table is empty.
    dummy: Option<PasswordHash>,
}

impl Users {
    /// Of lines with the same user the first counts.
    pub fn new(lines: &[PasswordEntry]) -> Users {
        let mut entries = HashMap::with_capacity(lines.len());
        for line in lines {
            let user = line.user.as_bytes().into();
            entries.entry(user).or_insert_with(|| line.hash.clone());
        }
        Users { entries, dummy: most_frequent(lines).cloned() }
    }

    fn find(&self, user: &[u8]) -> Option<&PasswordHash> {
        self.entries.get(user)
    }
}

fn most_frequent(lines: &[PasswordEntry]) -> Option<&PasswordHash> {
    let mut costs: HashMap<&str, usize> = HashMap::new();
    for line in lines {
        *costs.entry(schemes::cost(&line.hash)).or_default() += 1;
    }
    // Of equally frequent ones the last in the order of texts: the same at each load.
    let cost = costs.into_iter().max_by_key(|(cost, count)| (*count, *cost))?.0;
    lines.iter().map(|line| &line.hash).find(|hash| schemes::cost(hash) == cost)
}

/// Whether credentials are right for a table. What is asked of `Passwords`.
#[derive(Clone)]
pub struct Question {
    users: Arc<Users>,
    credentials: Credentials,
}

impl Question {
    pub fn new(users: Arc<Users>, credentials: Credentials) -> Question {
        Question { users, credentials }
    }

    /// Hashes the password: slow, on the verification thread only.
    pub(super) fn check(&self) -> bool {
        let known = self.users.find(self.credentials.user());
        let Some(hash) = known.or(self.users.dummy.as_ref()) else { return false };
        schemes::verify(hash, self.credentials.password()) & known.is_some()
    }

    /// Wrong without being hashed, whoever the user is.
    pub(super) fn hopeless(&self) -> bool {
        self.credentials.password().len() > schemes::MAX_PASSWORD
    }

    /// Everything that the verdict depends on, in a form that no other question has: the user's
    /// own line as it is in the table now, and what was sent. So a verdict stays true whatever
    /// happens to the table, and a changed line is another question.
    pub(super) fn content(&self, mut part: impl FnMut(&[u8])) {
        let hash = self.users.find(self.credentials.user()).map_or("", schemes::text);
        for text in [hash.as_bytes(), self.credentials.user()] {
            part(&(text.len() as u64).to_be_bytes());
            part(text);
        }
        part(self.credentials.password());
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[question]")
    }
}
