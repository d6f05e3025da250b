//! Regular expressions of the configuration: linear in time, bounded in size.

use std::fmt;

use super::{ValueError, quote};

/// An expression over the bytes of a path.
#[derive(Clone)]
pub struct Regex(regex::bytes::Regex);

/// Bytes of a compiled expression, at most.
const MAX_COMPILED: usize = 1024 * 1024;
const MAX_TEXT: usize = 4096;

impl Regex {
    /// # Errors
    /// When the text is no expression of crate `regex`, or a large one: 4 KiB of text, 1 MiB
    /// compiled.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let error = |message: String| ValueError::new("a regular expression", message);
        if text.len() > MAX_TEXT {
            return Err(error("the regular expression is longer than 4 KiB".to_owned()));
        }
        let built = regex::bytes::RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        match built {
            Ok(regex) => Ok(Regex(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                let help = "make repetitions smaller";
                Err(error(format!("{} is too large when compiled", quote(text))).help(help))
            }
            Err(why) => {
                // The last line says what is wrong, those above draw the place.
                let why = why.to_string();
                let why = why.lines().last().unwrap_or("").trim_start_matches("error: ");
                Err(error(format!("{} is no regular expression: {why}", quote(text))))
            }
        }
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn get(&self) -> &regex::bytes::Regex {
        &self.0
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_checked_and_bounded() {
        assert_eq!(Regex::parse("^/v[12]/(.*)$").unwrap().as_str(), "^/v[12]/(.*)$");
        let unclosed = Regex::parse("(").unwrap_err().message;
        assert!(unclosed.contains("unclosed group"), "{unclosed}");
        assert!(Regex::parse("(?=x)").is_err());
        let large = Regex::parse("(\\w{1000}){1000}").unwrap_err().message;
        assert!(large.contains("too large"), "{large}");
        assert!(Regex::parse(&"x".repeat(5000)).is_err());
    }
}
