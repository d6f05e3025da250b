//! Why a health check failed: a label from a closed list and a text for people.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    ConnectFailed,
    Timeout,
    TlsFailed,
    /// Closed before the answer was complete, or no answer in the protocol that was spoken.
    Broken,
    Status,
    Body,
    NotServing,
    /// Something here (file descriptors, local ports): says nothing about the endpoint.
    Local,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub text: String,
}

impl Reason {
    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            Reason::ConnectFailed => "connect_failed",
            Reason::Timeout => "timeout",
            Reason::TlsFailed => "tls_failed",
            Reason::Broken => "broken",
            Reason::Status => "status",
            Reason::Body => "body",
            Reason::NotServing => "not_serving",
            Reason::Local => "local",
        }
    }
}

impl Failure {
    pub fn new(reason: Reason, text: impl Into<String>) -> Failure {
        Failure { reason, text: text.into() }
    }

    pub fn broken(why: impl fmt::Display) -> Failure {
        Failure::new(Reason::Broken, format!("no proper answer: {why}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
