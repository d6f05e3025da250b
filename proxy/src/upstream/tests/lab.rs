//! What a worker has, for tests: `Local`, ticking timers, an endpoint, a transport.

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use config::model::{self, EndpointAddress, EndpointSpec, UpstreamProtocol};

use crate::http1::body::{BodyDecoder, BodyEncoder, transfer};
use crate::http1::head::{FieldSlots, parse_response};
use crate::io::Stream;
use crate::local::Local;
use crate::log::Sink;
use crate::state::Shared;
use crate::timer::Timer;
use crate::upstream::endpoint::{Endpoint, EndpointRegistry, EndpointSet};
use crate::upstream::io::UpstreamIo;
use crate::upstream::transport::Transport;

/// Runs a test as a worker runs: tasks of one thread.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = tokio::task::LocalSet::new();
    all.block_on(&runtime, async {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, test).await.expect("the test hangs")
    })
}

pub struct Lab {
    pub local: Rc<Local>,
    pub endpoint: Arc<Endpoint>,
    pub transport: Arc<Transport>,
}

impl Lab {
    pub fn new(address: EndpointAddress, spec: impl FnOnce(&mut model::Upstream)) -> Lab {
        let local = Rc::new(Local::new(Arc::new(Shared::new(Sink::start_on(0, io::sink()).0))));
        local.timers.tick(false, false);
        let ticking = Rc::downgrade(&local);
        tokio::task::spawn_local(async move {
            while let Some(local) = ticking.upgrade() {
                local.timers.tick(false, false);
                drop(local);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let name = "web".parse().unwrap();
        let mut upstream = model::Upstream::new(name, vec![EndpointSpec { address, weight: 1 }]);
        spec(&mut upstream);
        let mut registry = EndpointRegistry::default();
        let set = EndpointSet::resolve(&upstream, &|_| None, &mut registry);
        let endpoint = set.members[0].endpoint.clone();
        Lab { local, endpoint, transport: Transport::compile(&upstream, None) }
    }

    pub fn http2(address: std::net::SocketAddr) -> Lab {
        Lab::new(EndpointAddress::Ip(address), |spec| spec.protocol = UpstreamProtocol::Http2)
    }

    pub fn unix(path: &Path) -> Lab {
        Lab::new(EndpointAddress::Unix(path.to_owned()), |_| {})
    }

    /// A timer that has been set.
    pub fn timer(&self, limit: Duration) -> Timer {
        let timer = self.local.timers.timer();
        timer.set(limit);
        timer
    }
}

/// An answer as the driver decodes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Heads as text, the final one last.
    pub heads: Vec<String>,
    pub body: Vec<u8>,
    pub trailers: String,
    /// Everything that framing promised has come.
    pub whole: bool,
}

impl Answer {
    pub fn head(&self) -> &str {
        self.heads.last().map_or("", String::as_str)
    }

    pub fn has(&self, line: &str) -> bool {
        self.head().lines().any(|one| one == line)
    }

    /// Decodes as the driver does.
    pub fn read(mut bytes: &[u8], head_request: bool) -> Answer {
        let mut answer = Answer::default();
        loop {
            let mut slots = FieldSlots::new();
            let Some(head) = parse_response(bytes, 1 << 20, &mut slots).unwrap() else {
                return answer;
            };
            let text = String::from_utf8(bytes[..head.len].to_vec()).unwrap();
            answer.heads.push(text.replace('\r', ""));
            bytes = &bytes[head.len..];
            if head.status == 101 {
                answer.body = bytes.to_vec();
                return answer;
            }
            if head.status >= 200 {
                let mut decoder = BodyDecoder::new(head.body(head_request).unwrap());
                let mut all = Vec::new();
                transfer(&mut decoder, BodyEncoder::Plain, bytes, &mut answer.body).unwrap();
                answer.whole = decoder.is_done();
                let mut again = BodyDecoder::new(head.body(head_request).unwrap());
                transfer(&mut again, BodyEncoder::Chunked, bytes, &mut all).unwrap();
                let text = format!("\r\n{}", String::from_utf8_lossy(&all));
                let end = text.rsplit_once("\r\n0\r\n");
                if let (BodyDecoder::Done, Some((_, after))) = (again, end) {
                    answer.trailers = after.replace('\r', "").trim_end().to_owned();
                }
                return answer;
            }
        }
    }
}

/// Writes everything.
pub async fn write_all(io: &mut UpstreamIo, mut bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| {
        while !bytes.is_empty() {
            match io.poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) => bytes = &bytes[n..],
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        io.poll_flush(cx)
    })
    .await
}

/// Reads once.
pub async fn read_some(io: &mut UpstreamIo) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; 16 * 1024];
    let n = poll_fn(|cx| io.poll_read(cx, &mut buf)).await?;
    buf.truncate(n);
    Ok(buf)
}

/// Writes `request` and reads to the end, both at once as drivers do. The bytes that came, and how
/// they ended.
pub async fn talk(io: &mut UpstreamIo, request: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let (mut rest, mut got, mut buf) = (request, Vec::new(), vec![0; 8 * 1024]);
    let end = poll_fn(|cx| {
        while !rest.is_empty() {
            match io.poll_write(cx, rest) {
                Poll::Ready(Ok(n)) => rest = &rest[n..],
                // The endpoint takes no more; what it says is still read.
                Poll::Ready(Err(_)) => rest = &[],
                Poll::Pending => break,
            }
        }
        loop {
            match io.poll_read(cx, &mut buf) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(n)) => got.extend_from_slice(&buf[..n]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    (got, end)
}

/// An exchange that ends well.
pub async fn answer(io: &mut UpstreamIo, request: &str) -> Answer {
    let (bytes, end) = talk(io, request.replace('\n', "\r\n").as_bytes()).await;
    end.unwrap();
    let answer = Answer::read(&bytes, request.starts_with("HEAD"));
    assert!(answer.whole, "{answer:?}");
    answer
}

/// Waits until something is so.
pub async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
