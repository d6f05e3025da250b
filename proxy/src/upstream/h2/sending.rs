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

/// Sends as much of a framed body as the endpoint's windows take.
pub fn poll_body(
    cx: &mut Context<'_>,
    decoder: &mut BodyDecoder,
    stream: &mut SendStream<Bytes>,
    place: &Place,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    let mut used = 0;
    while used < buf.len() && !decoder.is_done() {
        let rest = &buf[used..];
        let left = match decoder {
            BodyDecoder::Sized(left) => *left,
            BodyDecoder::Chunked(chunks) => chunks.data_left(),
            BodyDecoder::UntilClose | BodyDecoder::Done => break,
        };
        if left == 0 {
            used += framing(decoder, stream, rest)?;
            continue;
        }
        let wanted = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = match poll_room(cx, stream, wanted) {
            Poll::Ready(room) => room?,
            Poll::Pending if used > 0 => break,
            Poll::Pending => return Poll::Pending,
        };
        let mut last = false;
        match decoder {
            BodyDecoder::Sized(left) => {
                *left -= n as u64;
                last = *left == 0;
            }
            BodyDecoder::Chunked(chunks) => {
                chunks.step(&rest[..n]).map_err(invalid)?;
            }
            BodyDecoder::UntilClose | BodyDecoder::Done => {}
        }
        send(stream, place, &rest[..n], last)?;
        used += n;
        if last {
            *decoder = BodyDecoder::Done;
        }
    }
    Poll::Ready(Ok(used))
}

/// Takes chunk framing; with the last of it the body ends.
fn framing(
    decoder: &mut BodyDecoder,
    stream: &mut SendStream<Bytes>,
    rest: &[u8],
) -> io::Result<usize> {
    let BodyDecoder::Chunked(chunks) = decoder else { return Ok(0) };
    let Step::Skip(n) = chunks.step(rest).map_err(invalid)? else { return Ok(0) };
    if chunks.is_done() {
        let ended = match trailers(chunks) {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
        *decoder = BodyDecoder::Done;
        ended.map_err(|_| io::Error::from(ErrorKind::ConnectionReset))?;
    }
    Ok(n)
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
    data: &[u8],
    last: bool,
) -> io::Result<()> {
    let mut charge = Charge::new(&place.link.shared);
    charge.set(data.len());
    let data = Bytes::from_owner(Charged { data: data.to_vec(), _charge: charge });
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
