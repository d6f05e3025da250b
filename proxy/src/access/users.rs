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
        let known = self.users.find(self.credentials.user());
        // The dummy's for nobody, so that this takes the same time too.
        let hash = known.or(self.users.dummy.as_ref()).map_or("", schemes::text);
        part(&[u8::from(known.is_some())]);
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

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::schemes::tests::hash;
    use super::*;

    /// Of `user` and hash.
    pub fn users(lines: &[(&str, &str)]) -> Arc<Users> {
        let entry = |(user, text): &(&str, &str)| PasswordEntry {
            user: (*user).to_owned(),
            hash: hash(text),
        };
        Arc::new(Users::new(&lines.iter().map(entry).collect::<Vec<_>>()))
    }

    pub fn question(users: &Arc<Users>, user: &str, password: &str) -> Question {
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Question::new(users.clone(), Credentials::parse(value.as_bytes()).unwrap())
    }

    /// SHA-1 of `right`, and of `other`.
    pub const RIGHT: &str = "{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=";
    pub const OTHER: &str = "{SHA}0JQeaNqPOBUf+Gph/Fn3xc+fyqI=";

    fn content(question: &Question) -> Vec<u8> {
        let mut all = Vec::new();
        question.content(|part| all.extend_from_slice(part));
        all
    }

    #[test]
    fn only_a_known_users_own_password_is_right() {
        let table = users(&[("ann", RIGHT), ("bob", OTHER), ("ann", OTHER)]);
        for (user, password, right) in [
            ("ann", "right", true),
            // The first line counts.
            ("ann", "other", false),
            ("bob", "other", true),
            ("bob", "right", false),
            ("Ann", "right", false),
            // The dummy's password opens nothing.
            ("eve", "right", false),
            ("", "right", false),
            ("", "", false),
        ] {
            assert_eq!(question(&table, user, password).check(), right, "{user} {password}");
        }
        assert!(!question(&users(&[]), "ann", "right").check());
    }

    #[test]
    fn nobody_costs_what_most_users_cost() {
        let cheap = "$2y$05$3v4JhkYY03S/8gFNY368RODJsmqK1TynQoVAVr1srewvv6ASyC5Fy";
        let dear = "$2y$06$zaSQxZFAagjwJp5JJ4NDmerTlLuhQrNnUPL20BA9.6Xg8dXhEBxm.";
        for (lines, expected) in [
            (vec![("a", RIGHT), ("b", dear), ("c", dear), ("d", cheap)], dear),
            (vec![("a", cheap), ("b", cheap), ("c", dear)], cheap),
            (vec![("a", RIGHT)], RIGHT),
        ] {
            let dummy = users(&lines).dummy.clone().unwrap();
            assert_eq!(schemes::text(&dummy), expected);
        }
        assert!(users(&[]).dummy.is_none());
    }

    #[test]
    fn no_two_questions_are_the_same() {
        let (one, two) = (users(&[("ann", RIGHT)]), users(&[("ann", OTHER), ("x", RIGHT)]));
        let questions = [
            question(&one, "ann", "right"),
            question(&two, "ann", "right"),
            question(&one, "annr", "ight"),
            question(&one, "annri", "ght"),
            question(&one, "ann", "Right"),
            question(&one, "", "right"),
            question(&two, "x", "right"),
        ];
        for (n, question) in questions.iter().enumerate() {
            assert!(questions[..n].iter().all(|other| content(other) != content(question)), "{n}");
        }
        // The same line in another table.
        let again = users(&[("bob", OTHER), ("ann", RIGHT)]);
        assert_eq!(content(&question(&again, "ann", "right")), content(&questions[0]));
    }

    #[test]
    fn nothing_prints() {
        let question = question(&users(&[("ann", RIGHT)]), "ann", "right");
        assert_eq!(format!("{question:?}"), "[question]");
    }
}
