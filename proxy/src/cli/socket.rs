//! HTTP over the admin socket of a running process.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::place::{End, Place};

/// A running process's admin server.
#[derive(Clone, Debug)]
pub struct Socket {
    path: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Silence {
    /// Nobody listens: there is no process, as far as this socket tells.
    Nobody(io::Error),
    Unreachable(String),
    TimedOut,
}

impl Socket {
    pub fn new(path: impl Into<PathBuf>) -> Socket {
        Socket { path: path.into() }
    }

    /// The one of `place`.
    ///
    /// # Errors
    /// The configuration cannot be read, or names none.
    pub fn of(place: &Place) -> Result<Socket, End> {
        match place.socket().map_err(End::Unreachable)? {
            Some(path) => Ok(Socket::new(path)),
            None => Err(End::Unreachable(format!(
                "{} has no admin.socket, through which a running process is asked; set it and \
                 restart, or name one with --socket PATH",
                place.config.display()
            ))),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The body of a 200, as JSON.
    ///
    /// # Errors
    /// What to tell: no process, no answer, or what the process refuses.
    pub async fn get(&self, path: &str) -> Result<Value, End> {
        self.answer(Method::GET, path, None).await
    }

    /// The same with a JSON body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, End> {
        self.answer(Method::POST, path, Some(body)).await
    }

    async fn answer(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, End> {
        match self.ask(method, path, body).await {
            Ok((StatusCode::OK, value)) => Ok(value),
            Ok((StatusCode::GATEWAY_TIMEOUT, value)) => Err(End::TimedOut(said(&value))),
            Ok((_, value)) => Err(End::No(said(&value))),
            Err(silence) => Err(self.told(silence)),
        }
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Silence> {
        let stream = UnixStream::connect(&self.path).await.map_err(|why| match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Silence::Nobody(why),
            _ => Silence::Unreachable(why.to_string()),
        })?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("connection", "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|why| Silence::Unreachable(why.to_string()))?;
        match tokio::time::timeout(PATIENCE, converse(stream, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(Silence::Unreachable(why)),
            Err(_) => Err(Silence::TimedOut),
        }
    }

    /// For people, with the exit code.
    pub fn told(&self, silence: Silence) -> End {
        let path = self.path.display();
        match silence {
            Silence::Nobody(why) => End::Unreachable(format!(
                "no process answers on the admin socket {path} ({why}); is openclaw-edge running \
                 with this configuration? --config FILE or --socket PATH name another one"
            )),
            Silence::Unreachable(why) => End::Unreachable(format!(
                "the admin socket {path} cannot be used ({why}); it belongs to the user that runs \
                 openclaw-edge. --config FILE or --socket PATH name another one"
            )),
            Silence::TimedOut => End::TimedOut(format!(
                "the process on {path} has not answered within {} s",
                PATIENCE.as_secs()
            )),
        }
    }
}

async fn converse(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Value), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|why| why.to_string())?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|why| why.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        let bytes = body.collect().await.map_err(|why| why.to_string())?.to_bytes();
        let value = serde_json::from_slice(&bytes)
            .map_err(|_| format!("{status} without JSON: this is no admin socket"))?;
        Ok((status, value))
    };
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        // It ends with the last answer's head; what was read is still there.
        _ = connection => talk.await,
    }
}

/// What a refusal says.
fn said(value: &Value) -> String {
    value["error"].as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A little more than the server's own.
const PATIENCE: Duration = Duration::from_secs(110);
/// Bytes: 10,000 certificates in full.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    async fn against(answer: &'static str) -> Result<Value, End> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = io.read(&mut asked).await.unwrap();
            io.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked[..read].to_vec()).unwrap()
        });
        let told = Socket::new(&path).post("/x", &serde_json::json!({ "a": 1 })).await;
        let asked = server.await.unwrap();
        assert!(asked.starts_with("POST /x HTTP/1.1\r\n") && asked.ends_with("{\"a\":1}"));
        told
    }

    #[tokio::test]
    async fn answers_and_refusals() {
        let good = against("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"b\":2}").await;
        assert_eq!(good.unwrap()["b"], 2);
        let refused =
            against("HTTP/1.1 409 Conflict\r\nconnection: close\r\n\r\n{\"error\":\"no\"}").await;
        assert_eq!(refused.unwrap_err(), End::No("no".to_owned()));
        let other = against("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        assert!(matches!(other.unwrap_err(), End::Unreachable(_)));
        let none = against("").await;
        assert!(matches!(none.unwrap_err(), End::Unreachable(_)));
    }

    #[tokio::test]
    async fn nobody_is_told_with_what_was_tried() {
        let end = Socket::new("/nonexistent/admin.sock").get("/x").await.unwrap_err();
        let End::Unreachable(text) = end else { panic!("{end:?}") };
        assert!(text.contains("/nonexistent/admin.sock") && text.contains("--socket"), "{text}");
    }
}
