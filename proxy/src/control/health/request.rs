//! The head of a question.

use http::uri::Scheme;
use http::{Method, Request, Uri, header};

use super::failure::{Failure, Reason};
use super::probe::Plan;
use crate::upstream::endpoint::{Endpoint, Target};

/// Whom it goes to.
pub struct Asked<'a> {
    pub plan: &'a Plan,
    pub endpoint: &'a Endpoint,
    /// Host field; `None`: the endpoint as written.
    pub host: Option<&'a str>,
}

impl Asked<'_> {
    /// # Errors
    /// The path or the host can stand in no request.
    pub fn http1(&self, path: &str) -> Result<Request<()>, Failure> {
        let request = Request::get(path)
            .header(header::HOST, self.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        request.body(()).map_err(|why| unsendable(&why))
    }

    /// # Errors
    /// The path or the host can stand in no request.
    pub fn http2(&self, method: Method, path: &str) -> Result<Request<()>, Failure> {
        let uri = Uri::builder().scheme(self.scheme()).authority(self.authority());
        let uri = uri.path_and_query(path).build().map_err(|why| unsendable(&why))?;
        let request = Request::builder().method(method).uri(uri);
        request.header(header::USER_AGENT, USER_AGENT).body(()).map_err(|why| unsendable(&why))
    }

    /// The port is left out where it is the scheme's own (RFC 9110 §4.2).
    fn authority(&self) -> String {
        if let Some(host) = self.host {
            return host.to_owned();
        }
        let host = &*self.endpoint.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let Target::Tcp(address) = &self.endpoint.target else { return host };
        let own = if self.scheme() == Scheme::HTTPS { 443 } else { 80 };
        match self.plan.check.port.unwrap_or(address.port()) {
            port if port == own => host,
            port => format!("{host}:{port}"),
        }
    }

    fn scheme(&self) -> Scheme {
        self.plan.transport.scheme()
    }
}

fn unsendable(why: &http::Error) -> Failure {
    Failure::new(Reason::Local, format!("the question cannot be asked: {why}"))
}

pub const USER_AGENT: &str = "openclaw-edge-health";
