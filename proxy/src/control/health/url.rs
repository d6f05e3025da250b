//! One question to a URL, asked as its users ask: their name, their TLS, HTTP/1.1. Redirects are
//! answers and are not followed.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, header};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};

use super::connect::{Connection, Speak, handshake};
use super::failure::{Failure, Reason};
use super::http1;
use super::probe::{Deadline, Expected};
use super::request::USER_AGENT;

/// `http://` or `https://`, a host, and nothing secret before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    https: bool,
    authority: Authority,
    target: PathAndQuery,
}

/// What is asked, and of whom.
pub struct Question {
    pub url: Url,
    /// In place of those that the host's name leads to.
    pub address: Option<IpAddr>,
    /// For https.
    pub tls: Option<Arc<ClientConfig>>,
    /// Good statuses, inclusive.
    pub status: (u16, u16),
}

/// Asks once. Returns the status.
///
/// # Errors
/// No answer within `timeout`, or not the one that is expected.
pub async fn ask(question: &Question, timeout: Duration) -> Result<u16, Failure> {
    let deadline = Deadline::after(timeout);
    let connection = deadline.within(connect(question)).await?;
    let expected = Expected { status: question.status, body: None };
    http1::ask(connection, question.url.request()?, &expected, deadline).await
}

async fn connect(question: &Question) -> Result<Connection, Failure> {
    let (host, port) = (question.url.host(), question.url.port());
    let addresses: Vec<SocketAddr> = match question.address {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => lookup_host((host, port)).await.map_err(|why| unreachable(host, &why))?.collect(),
    };
    let socket = first_of(host, &addresses).await?;
    let Some(tls) = question.tls.clone().filter(|_| question.url.https) else {
        return Ok(Box::new(socket));
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|why| Failure::new(Reason::TlsFailed, format!("TLS: {host}: {why}")))?;
    handshake(tls, name, Box::new(socket), Speak::Http1).await
}

/// The first that accepts; the last one's error otherwise.
async fn first_of(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(why) => failed = Some(unreachable(&address.to_string(), &why)),
        }
    }
    Err(failed.unwrap_or_else(|| unreachable(host, &io::Error::other("no address"))))
}

fn unreachable(whom: &str, why: &io::Error) -> Failure {
    Failure::new(Reason::ConnectFailed, format!("{whom}: {why}"))
}

impl Url {
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
    }

    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.https { 443 } else { 80 })
    }

    fn request(&self) -> Result<Request<()>, Failure> {
        Request::get(self.target.clone())
            .header(header::HOST, self.authority.as_str())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(())
            .map_err(|why| Failure::new(Reason::Local, why.to_string()))
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let uri: Uri = text.parse().map_err(|why| format!("{why}"))?;
        let parts = uri.into_parts();
        let https = match &parts.scheme {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("it begins with neither https:// nor http://".to_owned()),
        };
        let authority = parts.authority.ok_or("it has no host")?;
        if authority.as_str().contains('@') {
            return Err("user and password in a URL are not sent".to_owned());
        }
        if authority.host().is_empty() {
            return Err("it has no host".to_owned());
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if !port.is_empty() && authority.port_u16().is_none() {
            return Err(format!("{port} is no port"));
        }
        let target = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Url { https, authority, target })
    }
}

/// Without the query, which may hold what is nobody's business.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.target.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_their_parts() {
        for (text, host, port, shown) in [
            (
                "https://a.openclaw.example",
                "a.openclaw.example",
                443,
                "https://a.openclaw.example/",
            ),
            ("http://127.0.0.1:81/x?token=s", "127.0.0.1", 81, "http://127.0.0.1:81/x"),
            ("HTTP://[::1]/h#part", "::1", 80, "http://[::1]/h"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn the_request_has_the_users_host() {
        let url: Url = "https://a.openclaw.example:8443/h?a=b".parse().unwrap();
        let request = url.request().unwrap();
        assert_eq!(request.uri(), "/h?a=b");
        assert_eq!(request.headers()["host"], "a.openclaw.example:8443");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "/healthz",
            "a.openclaw.example",
            "a.openclaw.example:80",
            "ftp://a.openclaw.example/",
            "unix:/run/x",
            "https:///x",
            "https://user:word@a.openclaw.example/",
            "https://a.openclaw.example:70000/",
            "https://a.openclaw.example:/",
            "https://a b/",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
