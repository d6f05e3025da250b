//! A backend by hyper that speaks what is spoken to it: HTTP/1.1, HTTP/2 by prior knowledge or by
//! ALPN, over TCP, TLS or a unix socket; WebSocket by Upgrade and by extended CONNECT; gRPC.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::grpc::{self, Calls};
use super::ws;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Fault>;

/// Ends with its handle.
pub struct Site {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Default)]
pub struct Seen {
    pub requests: Mutex<Vec<Arrived>>,
    pub connections: AtomicUsize,
    pub calls: Arc<Calls>,
    /// Of the event streams under way.
    events: Mutex<Vec<UnboundedSender<String>>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub version: Version,
    pub uri: http::Uri,
    pub headers: HeaderMap,
    /// The client showed a certificate.
    pub certified: bool,
}

impl Site {
    /// HTTP/1.1 and h2c on one port.
    pub fn plain() -> Site {
        Site::tcp(None)
    }

    pub fn tls(config: Arc<ServerConfig>) -> Site {
        Site::tcp(Some(TlsAcceptor::from(config)))
    }

    fn tcp(tls: Option<TlsAcceptor>) -> Site {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        Site::run(addr, async move |seen: Arc<Seen>| {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let Ok((tcp, _)) = listener.accept().await else { continue };
                tcp.set_nodelay(true).unwrap();
                let (seen, tls) = (seen.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        let mut start = [0; 3];
                        // The preface of HTTP/2 begins with a method of its own.
                        while matches!(tcp.peek(&mut start).await, Ok(1..3)) {
                            tokio::task::yield_now().await;
                        }
                        return serve(tcp, &start == b"PRI", false, seen).await;
                    };
                    let Ok(io) = tls.accept(tcp).await else { return };
                    let session = io.get_ref().1;
                    let h2 = session.alpn_protocol() == Some(b"h2");
                    let certified = session.peer_certificates().is_some();
                    serve(io, h2, certified, seen).await;
                });
            }
        })
    }

    /// HTTP/1.1 on a unix socket.
    pub fn unix(path: &Path) -> Site {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Site::run("127.0.0.1:1".parse().unwrap(), async move |seen: Arc<Seen>| {
            let listener = UnixListener::from_std(listener).unwrap();
            loop {
                let Ok((io, _)) = listener.accept().await else { continue };
                tokio::spawn(serve(io, false, false, seen.clone()));
            }
        })
    }

    fn run<F>(addr: SocketAddr, accept: impl FnOnce(Arc<Seen>) -> F) -> Site
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, seen) = (runtime.unwrap(), Arc::new(Seen::default()));
        runtime.spawn(accept(seen.clone()));
        Site { addr, seen, runtime: Some(runtime) }
    }

    /// One event on every stream under way; how many there are.
    pub fn event(&self, text: &str) -> usize {
        let mut events = self.seen.events.lock().unwrap();
        events.retain(|stream| stream.send(text.to_owned()).is_ok());
        events.len()
    }

    /// Ends every event stream.
    pub fn end_events(&self) {
        self.seen.events.lock().unwrap().clear();
    }

    pub fn last(&self) -> Arrived {
        self.seen.requests.lock().unwrap().last().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve<I>(io: I, h2: bool, certified: bool, seen: Arc<Seen>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(move |request| answer(seen.clone(), certified, request));
    let io = TokioIo::new(io);
    if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.enable_connect_protocol().serve_connection(io, service).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(io, service).with_upgrades().await;
    }
}

async fn answer(
    seen: Arc<Seen>,
    certified: bool,
    request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    seen.requests.lock().unwrap().push(Arrived {
        version: request.version(),
        uri: request.uri().clone(),
        headers: request.headers().clone(),
        certified,
    });
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/ws" => websocket(request),
        // Frame by frame, trailers too.
        "/echo" => {
            let mut response =
                Response::new(request.into_body().map_err(Into::into).boxed_unsync());
            // hyper's HTTP/1.1 sends only trailers that were announced.
            response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-sum"));
            response
        }
        "/count" => {
            let body = request.into_body().collect().await?;
            let sum = body.trailers().and_then(|t| t.get("x-sum")).cloned();
            let mut response = Response::new(full(body.to_bytes().len().to_string()));
            response.headers_mut().extend(sum.map(|sum| (TRAILED, sum)));
            response
        }
        "/events" => events(&seen),
        path if path.starts_with("/test.Echo/") => {
            let response = grpc::serve(seen.calls.clone(), request).await;
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        _ => Response::new(full("hello")),
    })
}

/// What `/count` calls the request's trailer `x-sum` in its answer.
const TRAILED: http::HeaderName = http::HeaderName::from_static("x-trailed");

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn events(seen: &Seen) -> Response<Body> {
    let (send, receive): (_, UnboundedReceiver<String>) = unbounded_channel();
    seen.events.lock().unwrap().push(send);
    let frames = UnboundedReceiverStream::new(receive)
        .map(|text| Ok(Frame::data(Bytes::from(format!("data: {text}\n\n")))));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let event_stream = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, event_stream);
    response
}

/// Echoes the text messages of one frame under 126 bytes.
fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(full(""));
    if request.version() == Version::HTTP_2 {
        assert_eq!(request.method(), Method::CONNECT);
    } else {
        let key = request.headers()["sec-websocket-key"].to_str().unwrap();
        let accept = HeaderValue::from_str(&ws::accept_key(key)).unwrap();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("sec-websocket-accept", accept);
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await?);
        loop {
            let mut head = [0; 6];
            io.read_exact(&mut head).await?;
            let mut payload = vec![0; usize::from(head[1] & 0x7f)];
            io.read_exact(&mut payload).await?;
            for (byte, mask) in payload.iter_mut().zip(head[2..].iter().cycle()) {
                *byte ^= mask;
            }
            io.write_all(&ws::encode(head[0] & 0x0f, &payload, false)).await?;
            io.flush().await?;
        }
        #[allow(unreachable_code)]
        Ok::<(), Fault>(())
    });
    response
}
