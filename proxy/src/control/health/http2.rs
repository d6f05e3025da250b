//! HTTP/2, prior knowledge or agreed on by TLS: one stream, then GOAWAY. Also gRPC's one call.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest, handshake};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::time::timeout;

use super::connect::Connection;
use super::failure::{Failure, Reason};
use super::grpc;
use super::http1::drive;
use super::probe::{Deadline, Expected, LINGER, MAX_BODY};

/// GET.
pub async fn ask(
    io: Connection,
    request: Request<()>,
    expected: &Expected<'_>,
    deadline: Deadline,
) -> Result<(), Failure> {
    let opened = async { handshake(io).await.map_err(Failure::broken) };
    let (sender, mut connection) = deadline.within(opened).await?;
    let exchange = async {
        let answer = async {
            let (answer, _) = send(sender, request, true).await?;
            answer.await.map_err(Failure::broken)
        };
        let (head, mut body) = deadline.within(answer).await?.into_parts();
        let verdict = match expected.judge(head.status.as_u16()) {
            Ok(()) => deadline.within(contains(&mut body, expected)).await,
            bad => bad,
        };
        deadline.linger(LINGER, rest(&mut body)).await;
        verdict
    };
    let verdict = drive(exchange, &mut connection).await;
    // Every handle is gone: it says GOAWAY and closes.
    let _ = timeout(GOODBYE, connection).await;
    verdict
}

/// A unary gRPC call that must answer SERVING.
pub async fn call(
    io: Connection,
    request: Request<()>,
    message: Bytes,
    deadline: Deadline,
) -> Result<(), Failure> {
    let opened = async { handshake(io).await.map_err(Failure::broken) };
    let (sender, mut connection) = deadline.within(opened).await?;
    let exchange = deadline.within(async {
        let (answer, mut stream) = send(sender, request, false).await?;
        stream.send_data(message, true).map_err(Failure::broken)?;
        let (head, mut body) = answer.await.map_err(Failure::broken)?.into_parts();
        if head.status != 200 {
            return Err(Failure::new(Reason::Status, format!("status {}", head.status.as_u16())));
        }
        let mut answer = BytesMut::new();
        while answer.len() < MAX_BODY
            && let Some(data) = body.data().await
        {
            answer.extend_from_slice(&taken(&mut body, data)?);
        }
        let trailers = body.trailers().await.map_err(Failure::broken)?;
        serving(&head.headers, trailers.as_ref(), &answer)
    });
    let verdict = drive(exchange, &mut connection).await;
    let _ = timeout(GOODBYE, connection).await;
    verdict
}

/// The status stands in the trailers, or in the head where there is nothing else.
fn serving(head: &HeaderMap, trailers: Option<&HeaderMap>, body: &[u8]) -> Result<(), Failure> {
    let not = |why: String| Err(Failure::new(Reason::NotServing, why));
    let fields = trailers.unwrap_or(head);
    let code = fields.get("grpc-status").and_then(|value| value.to_str().ok());
    match code {
        Some("0") => {}
        Some(code) => {
            let code: u32 = code.parse().map_err(|_| Failure::broken("a strange grpc-status"))?;
            return not(format!("grpc-status {code}"));
        }
        None => return Err(Failure::broken("no grpc-status")),
    }
    match grpc::status(body).map_err(Failure::broken)? {
        grpc::SERVING => Ok(()),
        other => not(grpc::name(other).to_owned()),
    }
}

async fn send(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    end: bool,
) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
    let mut sender = sender.ready().await.map_err(Failure::broken)?;
    sender.send_request(request, end).map_err(Failure::broken)
}

/// Gives the peer its window back.
fn taken(body: &mut RecvStream, data: Result<Bytes, h2::Error>) -> Result<Bytes, Failure> {
    let data = data.map_err(Failure::broken)?;
    body.flow_control().release_capacity(data.len()).map_err(Failure::broken)?;
    Ok(data)
}

async fn contains(body: &mut RecvStream, expected: &Expected<'_>) -> Result<(), Failure> {
    let mut seen = Vec::new();
    let mut complete = false;
    loop {
        if let Some(verdict) = expected.look_at(&seen, complete) {
            return verdict;
        }
        match body.data().await {
            Some(data) => seen.extend(taken(body, data)?),
            None => complete = true,
        }
    }
}

async fn rest(body: &mut RecvStream) {
    while let Some(data) = body.data().await {
        if taken(body, data).is_err() {
            return;
        }
    }
}

const GOODBYE: Duration = Duration::from_millis(100);
