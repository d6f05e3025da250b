//! What is wrong, where, and what to write instead.

/// One finding in a config file.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// `routes.api.hosts[0]`.
    pub at: String,
    /// 1-based; 0 where unknown (file not readable).
    pub line: u64,
    /// 1-based, in characters; 0 where unknown.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// All findings that refuse a whole file. Never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors(pub Vec<Diagnostic>);
