//! Backends: scripted ones, a thread per connection, that record every byte; and one real hyper
//! server for bulk and echo.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wire::{Body, End, Framing, Head, Stream, Wire};
use super::{eventually, wait_until};

/// A request as a backend got it.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: Head,
    pub body: Body,
    pub framing: Framing,
}

impl Request {
    pub fn method(&self) -> &str {
        self.head.first.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.head.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a field that must be there exactly once.
    pub fn field(&self, name: &str) -> &str {
        self.head.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.head))
    }
}

/// What one connection of the edge has brought so far.
#[derive(Default)]
pub struct Seen {
    pub bytes: Arc<Mutex<Vec<u8>>>,
    pub requests: Mutex<Vec<Request>>,
    /// How the edge ended the connection, once the script has looked.
    pub end: Mutex<Option<End>>,
    /// The script is done with the connection.
    done: AtomicBool,
}

/// A connection of the edge, in the hands of a script.
pub struct Peer {
    pub wire: Wire,
    pub seen: Arc<Seen>,
    /// Counts the backend's connections from 0.
    pub index: usize,
}

impl Peer {
    /// A connection that no [`Backend`] keeps book of.
    pub fn of(tcp: TcpStream) -> Peer {
        let seen = Arc::new(Seen::default());
        let wire = Wire::tapped(Stream::Plain(tcp), seen.bytes.clone());
        Peer { wire, seen, index: 0 }
    }

    /// The next request, head only.
    pub fn head(&mut self) -> Option<Head> {
        match self.wire.head() {
            Ok(head) => Some(head),
            Err(end) => {
                *self.seen.end.lock().unwrap() = Some(end);
                None
            }
        }
    }

    /// The next request with its body; `None` at the end of the connection. What arrived of an
    /// unfinished request is recorded too.
    pub fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let Some(framing) = Framing::of(&head, Framing::Length(0)) else {
            *self.seen.end.lock().unwrap() = Some(End::Garbage);
            return None;
        };
        let body = self.wire.body(framing);
        let cut = body.cut;
        let request = Request { head, body, framing };
        self.seen.requests.lock().unwrap().push(request.clone());
        if cut.is_some() {
            *self.seen.end.lock().unwrap() = cut;
            return None;
        }
        Some(request)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.try_send(bytes);
    }

    /// Reads until the edge ends the connection.
    pub fn wait_end(&mut self) {
        let (_, end) = self.wire.rest();
        *self.seen.end.lock().unwrap() = Some(end);
    }
}

pub struct Backend {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Arc<Seen>>>>,
    stop: Arc<AtomicBool>,
}

impl Backend {
    /// Runs `script` on a thread of its own for every connection; the connection ends with it.
    pub fn script(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Backend {
        Backend::on("127.0.0.1:0", script)
    }

    pub fn on(bind: &str, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind(bind).unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Arc<Seen>>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let script = Arc::new(script);
        let (all, stopped) = (seen.clone(), stop.clone());
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let Ok(tcp) = tcp else { continue };
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let seen = Arc::new(Seen::default());
                let index = {
                    let mut all = all.lock().unwrap();
                    all.push(seen.clone());
                    all.len() - 1
                };
                let script = script.clone();
                thread::spawn(move || {
                    let wire = Wire::tapped(Stream::Plain(tcp), seen.bytes.clone());
                    let mut peer = Peer { wire, seen: seen.clone(), index };
                    script(&mut peer);
                    seen.done.store(true, Ordering::SeqCst);
                });
            }
        });
        Backend { addr, seen, stop }
    }

    /// Reads whole requests and answers each with these bytes, on kept connections.
    pub fn canned(answer: impl Into<Vec<u8>>) -> Backend {
        let answer = answer.into();
        Backend::script(move |peer| {
            while let Some(request) = peer.request() {
                let head_only = request.method() == "HEAD";
                let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
                peer.send(if head_only { &answer[..end] } else { &answer[..] });
            }
        })
    }

    /// 200 `ok`.
    pub fn ok() -> Backend {
        Backend::named("ok")
    }

    /// 200 with its name as body.
    pub fn named(name: &str) -> Backend {
        Backend::canned(ok(name))
    }

    /// Answers the first request of every connection with these bytes, then waits for the edge to
    /// end the connection.
    pub fn once(answer: impl Into<Vec<u8>>) -> Backend {
        let answer = answer.into();
        Backend::script(move |peer| {
            if peer.request().is_some() {
                peer.send(&answer);
                peer.wait_end();
            }
        })
    }

    /// Answers the first request of every connection with these bytes and closes.
    pub fn then_close(answer: impl Into<Vec<u8>>) -> Backend {
        let answer = answer.into();
        Backend::script(move |peer| {
            if peer.request().is_some() {
                peer.send(&answer);
            }
        })
    }

    /// Takes requests and never answers.
    pub fn silent() -> Backend {
        Backend::script(|peer| while peer.request().is_some() {})
    }

    /// A real server (hyper): `POST /echo` streams its body back, `GET /bytes/<n>` sends n bytes,
    /// `POST /count` answers the length of its body.
    pub fn real() -> SocketAddr {
        real::start()
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Connections that neither side has ended.
    pub fn open(&self) -> usize {
        let all = self.seen.lock().unwrap();
        all.iter().filter(|s| !s.done.load(Ordering::SeqCst)).count()
    }

    pub fn connection(&self, index: usize) -> Arc<Seen> {
        eventually("backend connection", || self.seen.lock().unwrap().get(index).cloned())
    }

    /// All requests, in the order of connections.
    pub fn requests(&self) -> Vec<Request> {
        let all = self.seen.lock().unwrap();
        all.iter().flat_map(|seen| seen.requests.lock().unwrap().clone()).collect()
    }

    /// The only request there was.
    pub fn only(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    pub fn wait_requests(&self, n: usize) -> Vec<Request> {
        eventually("requests at the backend", || {
            Some(self.requests()).filter(|requests| requests.len() >= n)
        })
    }

    /// Waits until the edge has ended connection `index`; says how.
    pub fn wait_end(&self, index: usize) -> End {
        let seen = self.connection(index);
        eventually("end of the backend connection", || *seen.end.lock().unwrap())
    }

    /// Every byte of every connection.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        let all = self.seen.lock().unwrap();
        all.iter().map(|seen| seen.bytes.lock().unwrap().clone()).collect()
    }

    pub fn wait_idle(&self) {
        wait_until("backend connections to end", || self.open() == 0);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
    }
}

/// A 200 with this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An address that refuses connections.
pub fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener whose backlog is full, so that connects to it hang; lives with the handle.
pub fn hanging() -> (SocketAddr, impl Sized) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(tcp) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        fill.push(tcp);
    }
    (addr, (socket, fill))
}

mod real {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt, Full};
    use hyper::body::{Frame, Incoming, SizeHint};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    type Answer = hyper::Response<BoxBody<Bytes, hyper::Error>>;

    /// Lives as long as the test process.
    pub fn start() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            tokio::task::LocalSet::new().block_on(&runtime.unwrap(), serve(listener));
        });
        addr
    }

    async fn serve(listener: std::net::TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let Ok((tcp, _)) = listener.accept().await else { continue };
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service_fn(answer));
            tokio::task::spawn_local(connection);
        }
    }

    async fn answer(request: hyper::Request<Incoming>) -> Result<Answer, hyper::Error> {
        let path = request.uri().path().to_owned();
        if path == "/echo" {
            return Ok(hyper::Response::new(request.into_body().boxed()));
        }
        if path == "/count" {
            let mut body = request.into_body();
            let mut count = 0u64;
            while let Some(frame) = body.frame().await {
                count += frame?.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Ok(hyper::Response::new(full(count.to_string())));
        }
        if let Some(n) = path.strip_prefix("/bytes/") {
            return Ok(hyper::Response::new(many(n.parse().unwrap())));
        }
        Ok(hyper::Response::new(full("ok")))
    }

    fn full(text: impl Into<Bytes>) -> BoxBody<Bytes, hyper::Error> {
        Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed()
    }

    /// `n` bytes, in pieces of 64 KiB.
    fn many(n: u64) -> BoxBody<Bytes, hyper::Error> {
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        Pieces { piece, left: n }.boxed()
    }

    struct Pieces {
        piece: Bytes,
        left: u64,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            let take = self.left.min(self.piece.len() as u64);
            self.left -= take;
            let frame = self.piece.slice(..usize::try_from(take).unwrap());
            Poll::Ready((take > 0).then(|| Ok(Frame::data(frame))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.left)
        }
    }
}
