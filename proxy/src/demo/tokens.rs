//! Event streams of the demo's token proxy, as a response body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::Error;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Events at a steady pace, then the end.
#[derive(Debug)]
pub(super) struct EventStream {
    kind: Kind,
    sent: u64,
    pace: Interval,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Chunks of a chat completion, as the OpenAI API streams them.
    Completion,
    /// Numbered events without end, for EventSource.
    Ticks,
}

impl EventStream {
    /// [`TOKENS`], one every [`TOKEN_PACE`].
    pub(super) fn completion() -> EventStream {
        EventStream::new(Kind::Completion, TOKEN_PACE)
    }

    /// One event every [`TICK_PACE`], until the client leaves.
    pub(super) fn ticks() -> EventStream {
        EventStream::new(Kind::Ticks, TICK_PACE)
    }

    fn new(kind: Kind, pace: Duration) -> EventStream {
        let mut pace = interval(pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        EventStream { kind, sent: 0, pace }
    }

    /// The event with this number, or `None` after the last.
    fn event(&self, number: u64) -> Option<String> {
        if self.kind == Kind::Ticks {
            return Some(format!("id: {number}\ndata: {{\"tick\":{number}}}\n\n"));
        }
        let word = usize::try_from(number).ok().and_then(|at| TOKENS.get(at));
        match (word, number.cmp(&(TOKENS.len() as u64))) {
            (Some(word), _) => Some(chunk(json!({ "content": word }), None)),
            (None, std::cmp::Ordering::Equal) => {
                Some(chunk(json!({}), Some("stop")) + "data: [DONE]\n\n")
            }
            (None, _) => None,
        }
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(event) = self.event(self.sent) else { return Poll::Ready(None) };
        ready!(self.pace.poll_tick(cx));
        self.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}

fn chunk(delta: serde_json::Value, finish_reason: Option<&str>) -> String {
    let body = json!({
        "id": "chatcmpl-demo",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "demo",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    });
    format!("data: {body}\n\n")
}

const TOKENS: [&str; 20] = [
    "Every", " token", " of", " this", " stream", " left", " the", " backend", " alone", ",",
    " and", " the", " edge", " passed", " it", " on", " without", " waiting", " at all", ".",
];
const TOKEN_PACE: Duration = Duration::from_millis(100);
const TICK_PACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_completion_is_twenty_tokens_and_a_mark() {
        let all = runtime().block_on(async {
            let stream = EventStream::new(Kind::Completion, Duration::from_millis(1));
            String::from_utf8(stream.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        });
        let events: Vec<&str> = all.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 22);
        assert_eq!(events[21], "data: [DONE]");
        let text: String = events[..20]
            .iter()
            .map(|event| {
                let chunk: serde_json::Value =
                    serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                chunk["choices"][0]["delta"]["content"].as_str().unwrap().to_owned()
            })
            .collect();
        assert!(text.starts_with("Every token of") && text.ends_with("at all."), "{text}");
    }

    #[test]
    fn ticks_come_one_by_one_without_end() {
        runtime().block_on(async {
            let mut stream = EventStream::new(Kind::Ticks, Duration::from_millis(1));
            for number in 0..5 {
                let frame = stream.frame().await.unwrap().unwrap().into_data().unwrap();
                let event = format!("id: {number}\ndata: {{\"tick\":{number}}}\n\n");
                assert_eq!(frame, event.as_bytes());
            }
        });
    }
}
