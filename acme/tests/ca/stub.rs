//! An HTTP server that answers as the test says, on 127.0.0.1 and on a port of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme::ca::CaConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// The whole head, lower case.
    pub head: String,
    /// The JWS, if it is one: its payload.
    pub payload: Value,
}

pub enum Reply {
    /// Status, fields (each with its line end), body.
    Whole(u16, String, Vec<u8>),
    /// These bytes, and then nothing for ever.
    Stalled(Vec<u8>),
}

pub struct Stub {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Gets the request and the server's own address.
type Answer = dyn Fn(&Asked, &str) -> Reply + Send + Sync;

impl Stub {
    pub async fn start(answer: impl Fn(&Asked, &str) -> Reply + Send + Sync + 'static) -> Stub {
        Stub::listen(None, Arc::new(answer)).await
    }

    pub async fn start_tls(acceptor: TlsAcceptor) -> Stub {
        let answer = |asked: &Asked, base: &str| directory(asked, base).unwrap();
        Stub::listen(Some(acceptor), Arc::new(answer)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answer: Arc<Answer>) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log, tls) = (answer.clone(), log.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, port, answer, log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, port, answer, log).await;
                            }
                        }
                    }
                });
            }
        });
        Stub { port, asked }
    }

    pub fn config(&self) -> CaConfig {
        let mut config = CaConfig::new(format!("http://127.0.0.1:{}/dir", self.port));
        config.limits.request = Duration::from_secs(10);
        config.limits.poll = Duration::from_millis(10);
        config
    }

    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }
}

pub fn reply(status: u16, fields: &str, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Whole(status, fields.to_owned(), body.into())
}

pub fn problem(status: u16, fields: &str, kind: &str, detail: &str) -> Reply {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    let body = json!({ "type": kind, "detail": detail }).to_string();
    let fields = format!("content-type: application/problem+json\r\n{fields}");
    reply(status, &fields, body)
}

/// The answers that every test needs: the directory and nonces.
pub fn directory(asked: &Asked, base: &str) -> Option<Reply> {
    let addresses = json!({
        "newNonce": format!("{base}/nonce"),
        "newAccount": format!("{base}/account"),
        "newOrder": format!("{base}/order"),
        "renewalInfo": format!("{base}/ari/"),
    });
    match asked.path.as_str() {
        "/dir" => Some(reply(200, "", addresses.to_string())),
        "/nonce" => Some(reply(200, "replay-nonce: abc\r\n", "")),
        _ => None,
    }
}

async fn serve<S>(mut stream: S, port: u16, answer: Arc<Answer>, log: Arc<Mutex<Vec<Asked>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let base = format!("http://127.0.0.1:{port}");
    while let Some(asked) = read(&mut stream).await {
        log.lock().unwrap().push(asked.clone());
        let bytes = match answer(&asked, &base) {
            Reply::Whole(status, fields, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\n{fields}content-length: {length}\r\n\r\n");
                let body = if asked.method == "HEAD" { Vec::new() } else { body };
                [head.into_bytes(), body].concat()
            }
            Reply::Stalled(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                std::future::pending().await
            }
        };
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let whole_head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut first = whole_head.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let head = whole_head.to_lowercase();
    let length = head
        .split_once("content-length: ")
        .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { method, path, head, payload: payload(&bytes[end..]) })
}

fn payload(body: &[u8]) -> Value {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(jws["payload"].as_str().unwrap_or_default());
    serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
}
