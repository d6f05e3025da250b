//! A new connection to an endpoint.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::Poll;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::endpoint::{Endpoint, Target};
use super::io::UpstreamIo;
use super::transport::Transport;
use crate::request::cause::{Cause, Rejection};
use crate::timer::{Fired, Timer};

/// Connects. The wait ends with the timer, which the caller has set.
pub async fn dial(
    endpoint: &Endpoint,
    _transport: &Transport,
    timer: &Timer,
) -> Result<UpstreamIo, Rejection> {
    match &endpoint.target {
        Target::Tcp(address) => tcp(*address, timer).await.map(UpstreamIo::Tcp),
        Target::Unix(_) => Err(Cause::Internal.into()),
    }
}

async fn tcp(address: SocketAddr, timer: &Timer) -> Result<TcpStream, Rejection> {
    let mut connecting = std::pin::pin!(TcpStream::connect(address));
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = connecting.as_mut().poll(cx) {
            let io = outcome.and_then(|io| {
                io.set_nodelay(true)?;
                crate::io::keep_alive(&SockRef::from(&io))?;
                Ok(io)
            });
            return Poll::Ready(io.map_err(|error| connect_error(&error)));
        }
        match timer.check(cx) {
            Some(Fired::Deadline) => Poll::Ready(Err(Cause::ConnectTimeout.into())),
            Some(_) => Poll::Ready(Err(Cause::Draining.into())),
            None => Poll::Pending,
        }
    })
    .await
}

fn connect_error(error: &io::Error) -> Rejection {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    match error.kind() {
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
            Rejection { cause: Cause::OverCapacity, detail: "file_descriptors" }
        }
        ErrorKind::AddrNotAvailable => {
            Rejection { cause: Cause::OverCapacity, detail: "local_ports" }
        }
        ErrorKind::TimedOut => Cause::ConnectTimeout.into(),
        ErrorKind::ConnectionRefused => {
            Rejection { cause: Cause::ConnectFailed, detail: "refused" }
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Rejection { cause: Cause::ConnectFailed, detail: "unreachable" }
        }
        _ => Cause::ConnectFailed.into(),
    }
}
