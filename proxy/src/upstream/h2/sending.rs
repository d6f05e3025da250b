//! The body of a request on its way into a stream: from HTTP/1.1 framing to DATA and trailers.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::link::Place;
use crate::buffers::Charge;
use crate::http1::body::BodyDecoder;
use crate::http1::chunked::{self, Decoder, Step};

/// Largest DATA that is handed to h2 at once.
const FRAME_BYTES: usize = 32 * 1024;

/// Sends as much of a framed body as the endpoint's windows take. Small chunks share a frame:
/// endpoints close connections on which too many small frames come, and others share this one.
pub fn poll_body(
    cx: &mut Context<'_>,
    decoder: &mut BodyDecoder,
    stream: &mut SendStream<Bytes>,
    place: &Place,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    match decoder {
        BodyDecoder::Sized(left) => {
            let wanted = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let n = ready!(poll_room(cx, stream, wanted))?;
            *left -= n as u64;
            let last = *left == 0;
            if last {
                *decoder = BodyDecoder::Done;
            }
            send(stream, place, buf.get(..n).unwrap_or(&[]).to_vec(), last)?;
            Poll::Ready(Ok(n))
        }
        BodyDecoder::Chunked(chunks) => {
            let used = ready!(poll_chunks(cx, chunks, stream, place, buf))?;
            if chunks.is_done() {
                let ended = match trailers(chunks) {
                    Some(trailers) => stream.send_trailers(trailers),
                    None => stream.send_data(Bytes::new(), true),
                };
                *decoder = BodyDecoder::Done;
                ended.map_err(|_| io::Error::from(ErrorKind::ConnectionReset))?;
            }
            Poll::Ready(Ok(used))
        }
        BodyDecoder::UntilClose | BodyDecoder::Done => Poll::Ready(Ok(0)),
    }
}

/// Takes chunks, and sends what they hold as one frame.
fn poll_chunks(
    cx: &mut Context<'_>,
    chunks: &mut Decoder,
    stream: &mut SendStream<Bytes>,
    place: &Place,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    let (mut used, mut data) = (0, Vec::new());
    while used < buf.len() && !chunks.is_done() {
        let mut rest = &buf[used..];
        let left = chunks.data_left();
        if left > 0 {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let wanted = data.len() + rest.len().min(left);
            let room = match poll_room(cx, stream, wanted) {
                Poll::Ready(room) => room?.saturating_sub(data.len()),
                Poll::Pending => 0,
            };
            if room == 0 {
                break;
            }
            rest = &rest[..room.min(rest.len()).min(left)];
        }
        used += match chunks.step(rest).map_err(invalid)? {
            Step::Skip(n) => n,
            Step::Data(n) => {
                data.extend_from_slice(&rest[..n]);
                n
            }
            Step::Done => 0,
        };
    }
    if !data.is_empty() {
        send(stream, place, data, false)?;
    }
    // Only the lack of room stops it at the first byte, and then the task is woken by room.
    if used == 0 && !buf.is_empty() { Poll::Pending } else { Poll::Ready(Ok(used)) }
}

fn invalid(_: chunked::ChunkError) -> io::Error {
    ErrorKind::InvalidInput.into()
}

fn trailers(decoder: &Decoder) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    decoder.passable_trailers(|name, value| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok();
        if let Some((name, value)) = name.zip(HeaderValue::from_bytes(value).ok()) {
            map.append(name, value);
        }
    });
    (!map.is_empty()).then_some(map)
}

/// Bytes that may be sent now, up to `wanted`.
pub fn poll_room(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    let wanted = wanted.min(FRAME_BYTES);
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity();
        if room > 0 || wanted == 0 {
            return Poll::Ready(Ok(room.min(wanted)));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
        }
    }
}

pub fn send(
    stream: &mut SendStream<Bytes>,
    place: &Place,
    data: Vec<u8>,
    last: bool,
) -> io::Result<()> {
    let mut charge = Charge::new(&place.link.shared);
    charge.set(data.capacity());
    let data = Bytes::from_owner(Charged { data, _charge: charge });
    stream.send_data(data, last).map_err(|_| ErrorKind::ConnectionReset.into())
}

/// Bytes that count as buffered while h2 holds them.
struct Charged {
    data: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
