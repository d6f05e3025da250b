//! The demo's four backends: plain HTTP/1.1 on free loopback ports, in one background thread.

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};

use super::tokens::EventStream;
use super::{Failure, websocket};

/// The port of each backend on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backends {
    pub web: u16,
    pub api: u16,
    pub token_proxy: u16,
    pub nango: u16,
}

/// Starts them; they run for as long as the process.
pub(super) fn start() -> Result<Backends, Failure> {
    let (web, on_web) = bind()?;
    let (api, on_api) = bind()?;
    let (token_proxy, on_token_proxy) = bind()?;
    let (nango, on_nango) = bind()?;
    let kinds = [
        (Kind::Web, on_web),
        (Kind::Api, on_api),
        (Kind::TokenProxy, on_token_proxy),
        (Kind::Nango, on_nango),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("cannot start the backends", e))?;
    std::thread::Builder::new()
        .name("demo-backends".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                for (kind, listener) in kinds {
                    tokio::spawn(accept(kind, listener));
                }
                std::future::pending::<()>().await;
            });
        })
        .map_err(|e| Failure::new("cannot start the backends", e))?;
    Ok(Backends { web, api, token_proxy, nango })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Web,
    Api,
    TokenProxy,
    Nango,
}

fn bind() -> Result<(u16, TcpListener), Failure> {
    let bound = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok::<_, std::io::Error>((listener.local_addr()?.port(), listener))
    };
    bound().map_err(|e| Failure::new("cannot bind a port for a backend", e))
}

async fn accept(kind: Kind, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return eprintln!("openclaw-edge demo: backend {kind:?}: {e}"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: some will be closed soon.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        // Small writes of a stream must not wait for each other.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(kind, request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A client that leaves is nothing to report.
            let _ = connection.await;
        });
    }
}

async fn answer(kind: Kind, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    let response = match (kind, request.method(), path) {
        (_, &Method::GET, "/health") => plain(StatusCode::OK, "ok\n"),
        (Kind::Web, _, "/") => whole(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        (Kind::Api, _, _) => echo(request).await,
        (Kind::TokenProxy, &Method::POST, "/v1/chat/completions") => {
            // Answered when the question is complete, as a model would.
            let _ = body_length(request.into_body()).await;
            events(EventStream::completion())
        }
        (Kind::TokenProxy, &Method::GET, "/stream") => events(EventStream::ticks()),
        (Kind::TokenProxy, _, "/") => plain(
            StatusCode::OK,
            "token-proxy of the demo: POST /v1/chat/completions, GET /stream\n",
        ),
        (Kind::Nango, &Method::GET, "/ws") => upgrade(request),
        (Kind::Nango, _, "/") => {
            plain(StatusCode::OK, "nango of the demo: WebSocket echo at /ws\n")
        }
        _ => plain(StatusCode::NOT_FOUND, "the backend does not know this path\n"),
    };
    Ok(response)
}

/// The request as it arrived.
async fn echo(request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let mut headers = Map::new();
    for name in head.headers.keys() {
        let values = head.headers.get_all(name);
        let mut values: Vec<Value> =
            values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        headers.insert(name.as_str().to_owned(), value);
    }
    let (status, length) = match body_length(body).await {
        Ok(length) => (StatusCode::OK, Value::from(length)),
        Err(e) => (StatusCode::BAD_REQUEST, Value::from(e.to_string())),
    };
    let seen = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "version": format!("{:?}", head.version),
        "headers": headers,
        "body_bytes": length,
    });
    whole(status, "application/json", format!("{seen:#}\n"))
}

/// Reads a body to its end and forgets it.
async fn body_length(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}

/// RFC 6455 §4.2.
fn upgrade(mut request: Request<Incoming>) -> Response<Answer> {
    let headers = request.headers();
    let asks = has_token(headers, CONNECTION.as_str(), "upgrade")
        && has_token(headers, UPGRADE.as_str(), "websocket");
    if !asks || !has_token(headers, SEC_WEBSOCKET_VERSION.as_str(), "13") {
        let mut refusal = plain(StatusCode::UPGRADE_REQUIRED, "a WebSocket handshake is needed\n");
        let fields = refusal.headers_mut();
        fields.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        return refusal;
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let accept = key.and_then(websocket::accept_key);
    let Some(accept) = accept.and_then(|accept| HeaderValue::try_from(accept).ok()) else {
        return plain(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64\n");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgraded.await {
            let _ = websocket::serve(TokioIo::new(stream)).await;
        }
    });
    let mut response = Response::new(Answer::Whole(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(token))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Answer> {
    whole(status, "text/plain; charset=utf-8", text)
}

fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn events(stream: EventStream) -> Response<Answer> {
    let mut response = Response::new(Answer::Events(stream));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Body of a backend's response.
#[derive(Debug)]
enum Answer {
    Whole(Full<Bytes>),
    Events(EventStream),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Answer::Whole(body) => {
                Pin::new(body).poll_frame(cx).map_err(|never: Infallible| match never {})
            }
            Answer::Events(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Answer::Whole(body) => body.size_hint(),
            Answer::Events(stream) => stream.size_hint(),
        }
    }
}

const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn connect(port: u16) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        stream
    }

    /// Everything that comes back, with `Connection: close` added.
    fn ask(port: u16, request: &str) -> String {
        let mut stream = connect(port);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        write!(stream, "{head}\r\nHost: x\r\nConnection: close\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn each_backend_does_its_part() {
        let backends = start().unwrap();
        for port in [backends.web, backends.api, backends.token_proxy, backends.nango] {
            assert!(ask(port, "GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
        }
        let page = ask(backends.web, "GET / HTTP/1.1\r\n\r\n");
        assert!(page.contains("text/html") && page.contains("new WebSocket"), "{page}");
        assert!(ask(backends.web, "GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn the_api_tells_what_it_got() {
        let backends = start().unwrap();
        let request = "POST /v1/x?q=1 HTTP/1.1\r\nX-A: 1\r\nX-A: 2\r\nX-B: 3\r\n\
                       Content-Length: 5\r\n\r\nhello";
        let answer = ask(backends.api, request);
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let seen: Value = serde_json::from_str(body).unwrap();
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["path"], "/v1/x");
        assert_eq!(seen["query"], "q=1");
        assert_eq!(seen["headers"]["x-a"], json!(["1", "2"]));
        assert_eq!(seen["headers"]["x-b"], "3");
        assert_eq!(seen["body_bytes"], 5);
    }

    #[test]
    fn a_completion_streams_to_its_mark() {
        let backends = start().unwrap();
        let request = "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        let answer = ask(backends.token_proxy, request);
        assert!(answer.contains("text/event-stream") && answer.contains("data: [DONE]\n\n"));
    }

    #[test]
    fn a_websocket_message_comes_back() {
        let backends = start().unwrap();
        let mut stream = connect(backends.nango);
        let head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
                    Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
        let mut echoed = [0; 4];
        stream.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, [0x81, 2, b'h', b'i']);
        stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [0x88, 0]);
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        let backends = start().unwrap();
        let answer = ask(backends.nango, "GET /ws HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
        let mut stream = connect(backends.nango);
        let head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: short\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 400");
    }
}
