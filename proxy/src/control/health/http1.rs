//! HTTP/1.1: GET, one answer, close.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::connect::Connection;
use super::failure::Failure;
use super::probe::{Deadline, Expected, LINGER};

/// The status, where it and the body are as expected.
pub async fn ask(
    io: Connection,
    request: Request<()>,
    expected: &Expected<'_>,
    deadline: Deadline,
) -> Result<u16, Failure> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(Failure::broken)?;
    let request = request.map(|()| Empty::<Bytes>::new());
    let exchange = async {
        let sent = async { sender.send_request(request).await.map_err(Failure::broken) };
        let (head, mut body) = deadline.within(sent).await?.into_parts();
        let status = expected.judge(head.status.as_u16());
        let verdict = match status {
            Ok(()) => deadline.within(contains(&mut body, expected)).await,
            bad => bad,
        };
        deadline.linger(LINGER, rest(&mut body)).await;
        verdict.map(|()| head.status.as_u16())
    };
    drive(exchange, connection).await
}

/// Runs the exchange with the connection that carries it.
pub async fn drive<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        biased;
        done = &mut exchange => done,
        // What it brought before its end is still to be taken.
        _ = &mut connection => exchange.await,
    }
}

async fn contains(body: &mut Incoming, expected: &Expected<'_>) -> Result<(), Failure> {
    let mut seen = Vec::new();
    let mut complete = false;
    loop {
        if let Some(verdict) = expected.look_at(&seen, complete) {
            return verdict;
        }
        match body.frame().await {
            Some(Ok(frame)) => seen.extend(frame.into_data().unwrap_or_default()),
            Some(Err(why)) => return Err(Failure::broken(why)),
            None => complete = true,
        }
    }
}

async fn rest(body: &mut Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}
