//! A real DNS server (challtestsrv) and small HTTP servers on loopback addresses.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// The DNS server; ends with the test.
pub struct Zone {
    child: Child,
    pub dns: SocketAddr,
    management: SocketAddr,
}

impl Zone {
    pub fn start() -> Zone {
        // Ports cannot be had from it, so another process may take one before it does.
        (0..5).find_map(|_| Zone::try_start()).expect("pebble-challtestsrv does not start")
    }

    fn try_start() -> Option<Zone> {
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let management = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("pebble-challtestsrv")
            .args(["-management", &management.to_string(), "-dns01", &dns.to_string()])
            .args(["-defaultIPv4", "", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble-challtestsrv is needed (Debian package pebble)");
        let mut zone = Zone { child, dns, management };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if zone.child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(management).is_ok() && zone.answers() {
                return Some(zone);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// To a question for the A record of `x`, by UDP: its TCP side does not always come up.
    fn answers(&self) -> bool {
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01x\0\0\x01\0\x01";
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket.send_to(question, self.dns).unwrap();
        socket.recv(&mut [0; 512]).is_ok()
    }

    fn tell(&self, path: &str, body: serde_json::Value) {
        let mut stream = TcpStream::connect(self.management).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }

    pub fn address(&self, host: &str, address: &str) {
        let kind = if address.contains(':') { "add-aaaa" } else { "add-a" };
        self.tell(kind, serde_json::json!({"host": host, "addresses": [address]}));
    }

    pub fn caa(&self, host: &str, tag: &str, value: &str) {
        let policies = serde_json::json!([{"tag": tag, "value": value}]);
        self.tell("add-caa", serde_json::json!({"host": host, "policies": policies}));
    }

    pub fn alias(&self, host: &str, target: &str) {
        self.tell("set-cname", serde_json::json!({"host": host, "target": target}));
    }

    pub fn broken(&self, host: &str) {
        self.tell("set-servfail", serde_json::json!({"host": host}));
    }

    /// Loopback counts as this machine, and the CA as one of the inside.
    pub fn context(&self, http_port: u16) -> Context {
        Context {
            nameservers: vec![self.dns],
            http_port,
            public_ca: false,
            patience: Duration::from_secs(5),
            ca_identities: vec!["letsencrypt.org".to_owned()],
            ..Context::default()
        }
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process under examination would answer: shared by its servers.
#[derive(Clone, Default)]
pub struct Edge {
    pub tokens: Arc<Mutex<HashMap<String, String>>>,
    pub refuses: Option<String>,
}

impl Probe for Edge {
    fn plant<'a>(&'a self, host: &'a str, token: &'a str) -> Planted<'a> {
        Box::pin(async move {
            if let Some(why) = &self.refuses {
                return Err(why.clone());
            }
            let answer = format!("{token}.answer-of-{host}");
            self.tokens.lock().unwrap().insert(format!("{host} {token}"), answer.clone());
            Ok(answer)
        })
    }

    fn lift(&self, host: &str, token: &str) {
        self.tokens.lock().unwrap().remove(&format!("{host} {token}"));
    }
}

impl Edge {
    pub fn is_empty(&self) -> bool {
        self.tokens.lock().unwrap().is_empty()
    }

    /// The raw response to a raw request head.
    pub fn answer(&self, head: &str) -> String {
        let path = head.split(' ').nth(1).unwrap();
        let token = path.rsplit('/').next().unwrap();
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        match self.tokens.lock().unwrap().get(&format!("{host} {token}")) {
            Some(answer) => reply("200 OK", "Server: edge", &format!("{answer}\n")),
            None => reply("404 Not Found", "Server: edge", "no such token"),
        }
    }
}

pub fn reply(status: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub fn redirect(to: &str) -> String {
    reply("302 Found", &format!("Location: {to}"), "")
}

/// The same free port on each address.
pub async fn listeners(addresses: &[&str]) -> (u16, Vec<TcpListener>) {
    'next: for _ in 0..50 {
        let first = TcpListener::bind((ip(addresses[0]), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for address in &addresses[1..] {
            let Ok(one) = TcpListener::bind((ip(address), port)).await else { continue 'next };
            all.push(one);
        }
        return (port, all);
    }
    panic!("no port is free on {addresses:?}");
}

/// A port that is taken and where nothing listens.
pub fn closed_port(address: &str) -> (u16, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip(address), 0).into()).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// Answers every request of every connection once.
pub fn serve<F>(listener: TcpListener, answer: F)
where
    F: Fn(&str) -> String + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { answer_one(stream, &*answer).await });
        }
    });
}

/// The same behind TLS with a certificate that nobody trusts.
pub fn serve_tls<F>(listener: TcpListener, answer: F)
where
    F: Fn(&str) -> String + Send + Sync + 'static,
{
    let made = rcgen::generate_simple_self_signed(vec!["untrusted.example".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            answer_one(acceptor.accept(stream).await.unwrap(), &answer).await;
        }
    });
}

async fn answer_one<S, F>(mut stream: S, answer: &F)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    F: Fn(&str) -> String,
{
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(count) if count > 0 => head.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
    let reply = answer(&String::from_utf8(head).unwrap());
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}
