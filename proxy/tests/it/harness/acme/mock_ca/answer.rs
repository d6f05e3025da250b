//! What the CA answers: bodies, fields and problem documents (RFC 7807, RFC 8555 §6.7).

use bytes::Bytes;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// The type of the problem that it tells, without the prefix.
    pub problem: Option<String>,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let fields = vec![("content-type", content_type.to_owned())];
        Answer { status, fields, body: body.into(), problem: None }
    }

    pub fn empty(status: u16) -> Answer {
        Answer { status, fields: Vec::new(), body: Bytes::new(), problem: None }
    }

    pub fn json(status: u16, value: &Value) -> Answer {
        Answer::new(status, "application/json", value.to_string())
    }

    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }
}

/// A problem document.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: u16,
    /// Without `urn:ietf:params:acme:error:`.
    pub kind: String,
    pub detail: String,
    /// `(name, kind, detail)`
    pub subproblems: Vec<(String, String, String)>,
    pub retry_after: Option<String>,
}

impl Problem {
    pub fn new(status: u16, kind: &str, detail: impl Into<String>) -> Problem {
        let (kind, detail) = (kind.to_owned(), detail.into());
        Problem { status, kind, detail, subproblems: Vec::new(), retry_after: None }
    }

    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(400, "malformed", detail)
    }

    pub fn not_found() -> Problem {
        Problem::new(404, "malformed", "there is no such object")
    }

    /// In seconds or as a date.
    pub fn retry_after(mut self, value: impl Into<String>) -> Problem {
        self.retry_after = Some(value.into());
        self
    }

    pub fn subproblem(mut self, name: &str, kind: &str, detail: &str) -> Problem {
        self.subproblems.push((name.to_owned(), kind.to_owned(), detail.to_owned()));
        self
    }

    pub fn json(&self) -> Value {
        let urn = |kind: &str| format!("urn:ietf:params:acme:error:{kind}");
        let mut value =
            json!({ "type": urn(&self.kind), "detail": self.detail, "status": self.status });
        if !self.subproblems.is_empty() {
            let one = |(name, kind, detail): &(String, String, String)| {
                let identifier = json!({ "type": "dns", "value": name });
                json!({ "type": urn(kind), "detail": detail, "identifier": identifier })
            };
            value["subproblems"] = self.subproblems.iter().map(one).collect();
        }
        value
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Answer {
        let body = problem.json().to_string();
        let mut answer = Answer::new(problem.status, "application/problem+json", body);
        if let Some(value) = problem.retry_after {
            answer = answer.field("retry-after", value);
        }
        answer.problem = Some(problem.kind);
        answer
    }
}
