//! The chunked coding (RFC 9112 §7.1), strict: CRLF only (errata 7633), sizes of at most 16 hex
//! digits, extensions and trailers bounded.

/// Extensions of one body, all chunks together.
pub const MAX_EXTENSION_BYTES: usize = 16 * 1024;
/// Trailer section with its line ends.
pub const MAX_TRAILER_BYTES: usize = 16 * 1024;
pub const MAX_TRAILER_FIELDS: usize = 100;

/// Decoder state; feed it every byte of the body in order.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    size: u64,
    digits: u8,
    extension_bytes: usize,
    /// The trailer section as received, empty for most bodies.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// In the trailer section, which ends with an empty line.
    Trailer,
    Done,
}

/// What [`Decoder::step`] found at the start of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// This many bytes are framing: skip them.
    Skip(usize),
    /// This many bytes are body data.
    Data(usize),
    /// The body has ended; nothing was consumed.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    Size,
    LineEnd,
    Extension,
    Trailer,
}

impl ChunkError {
    pub fn reason(self) -> &'static str {
        match self {
            ChunkError::Size => "chunk_size",
            ChunkError::LineEnd => "chunk_line_end",
            ChunkError::Extension => "chunk_extension",
            ChunkError::Trailer => "trailer",
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { state: State::Size, size: 0, digits: 0, extension_bytes: 0, trailers: Vec::new() }
    }
}

impl Decoder {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The raw trailer section once done: lines with their CRLF, without the final empty line.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.strip_suffix(b"\r\n").unwrap_or(&[])
    }

    /// Bytes of body data that come next; 0: framing comes next.
    pub fn data_left(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Looks at a non-empty `input` and says what its first bytes are.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        match self.state {
            State::Data => {
                let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len());
                self.size -= n as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                Ok(Step::Data(n))
            }
            State::Done => Ok(Step::Done),
            _ => self.framing(input).map(Step::Skip),
        }
    }

    /// Consumes framing bytes up to the next data byte or the end of the input.
    fn framing(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (i, byte) in input.iter().enumerate() {
            self.framing_byte(*byte)?;
            if matches!(self.state, State::Data | State::Done) {
                return Ok(i + 1);
            }
        }
        Ok(input.len())
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match self.state {
            State::Size => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => return self.digit(byte),
                b'\r' if self.digits > 0 => State::SizeLf,
                b';' if self.digits > 0 => State::Extension,
                _ => return Err(ChunkError::Size),
            },
            State::Extension => {
                self.extension_bytes += 1;
                match byte {
                    b'\r' => State::SizeLf,
                    _ if self.extension_bytes > MAX_EXTENSION_BYTES => {
                        return Err(ChunkError::Extension);
                    }
                    b'\t' | b' '..=b'~' | 0x80..=0xff => State::Extension,
                    _ => return Err(ChunkError::Extension),
                }
            }
            State::SizeLf if byte == b'\n' => {
                self.digits = 0;
                if self.size == 0 { State::Trailer } else { State::Data }
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size,
            State::Trailer => return self.trailer_byte(byte),
            _ => return Err(ChunkError::LineEnd),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<(), ChunkError> {
        let value = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
        self.digits += 1;
        if self.digits > 16 || self.size >> 59 != 0 {
            return Err(ChunkError::Size);
        }
        self.size = (self.size << 4) | u64::from(value);
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.trailers.push(byte);
        let bytes = &self.trailers;
        if bytes.len() > MAX_TRAILER_BYTES {
            return Err(ChunkError::Trailer);
        }
        let after_cr = bytes.len() >= 2 && bytes[bytes.len() - 2] == b'\r';
        if (byte == b'\n') != after_cr {
            return Err(ChunkError::LineEnd);
        }
        if byte == b'\n' && (bytes.len() == 2 || bytes.ends_with(b"\r\n\r\n")) {
            self.check_trailers()?;
            self.state = State::Done;
        }
        Ok(())
    }

    fn check_trailers(&self) -> Result<(), ChunkError> {
        for_each_trailer(&self.trailers, |_, _| ())
    }
}

/// Walks a trailer section (with its final empty line).
pub fn for_each_trailer<'b>(
    section: &'b [u8],
    mut each: impl FnMut(&'b str, &'b [u8]),
) -> Result<(), ChunkError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => {
            fields.iter().for_each(|field| each(field.name, field.value));
            Ok(())
        }
        _ => Err(ChunkError::Trailer),
    }
}

impl Decoder {
    /// The trailer fields that may be passed on, once done.
    pub fn passable_trailers(&self, mut each: impl FnMut(&str, &[u8])) {
        // The section was checked when its last byte came.
        let _ = for_each_trailer(&self.trailers, |name, value| {
            if super::field::allowed_in_trailer(name.as_bytes()) {
                each(name, value);
            }
        });
    }
}

/// Appends one chunk; an empty slice appends nothing, because an empty chunk ends a body.
pub fn encode(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    write_size(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends a chunk's size line.
pub fn write_size(out: &mut Vec<u8>, size: usize) {
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut rest = size;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` cut into pieces of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let (mut decoder, mut data, mut used) = (Decoder::default(), Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() && !decoder.is_done() {
                let n = match decoder.step(rest)? {
                    Step::Skip(n) => n,
                    Step::Data(n) => {
                        data.extend_from_slice(&rest[..n]);
                        n
                    }
                    Step::Done => break,
                };
                rest = &rest[n..];
                used += n;
            }
        }
        Ok((data, used, decoder.is_done()))
    }

    #[test]
    fn decodes_at_every_cut() {
        let input = b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET /";
        for step in 1..input.len() {
            let (data, used, done) = decode(input, step).unwrap();
            assert_eq!((data.as_slice(), done), (b"abc0123456789".as_slice(), true));
            assert_eq!(used, input.len() - 5);
        }
    }

    #[test]
    fn refuses_every_ambiguity() {
        for bad in [
            &b"Z\r\n"[..],
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"3\nabc",
            b"3;x\n\r\n",
            b"\r\n",
            b"-1\r\n",
            b"+3\r\nabc",
            b"0x3\r\nabc",
            b" 3\r\nabc",
            b"3 \r\nabc",
            b"3;\0\r\nabc",
            b"3;a\rb\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\nX : 1\r\n\r\n",
            b"0\r\n a: b\r\n\r\n",
            b"0\r\n\rX",
        ] {
            assert!(decode(bad, 1).is_err(), "{:?}", String::from_utf8_lossy(bad));
            assert!(decode(bad, bad.len()).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_body() {
        let chunk = |n: usize| [b"1;".as_slice(), &vec![b'x'; n], b"\r\na\r\n"].concat();
        let at_limit = [chunk(MAX_EXTENSION_BYTES - 1), b"0\r\n\r\n".to_vec()].concat();
        assert!(decode(&at_limit, 4096).unwrap().2);
        let spread = [chunk(MAX_EXTENSION_BYTES / 2), chunk(MAX_EXTENSION_BYTES / 2 + 1)].concat();
        assert_eq!(decode(&spread, 4096), Err(ChunkError::Extension));
    }

    #[test]
    fn trailers_are_bounded_and_filtered() {
        let long = [b"0\r\nX: ".as_slice(), &vec![b'x'; MAX_TRAILER_BYTES], b"\r\n\r\n"].concat();
        assert_eq!(decode(&long, 4096), Err(ChunkError::Trailer));
        let many = [b"0\r\n".as_slice(), &b"X: 1\r\n".repeat(101), b"\r\n"].concat();
        assert_eq!(decode(&many, 4096), Err(ChunkError::Trailer));

        let mut decoder = Decoder::default();
        let mut rest: &[u8] = b"0\r\nContent-Length: 3\r\nX-Sum: 7\r\nHost: a\r\n\r\n";
        while let Step::Skip(n) = decoder.step(rest).unwrap() {
            rest = &rest[n..];
            if rest.is_empty() {
                break;
            }
        }
        let mut kept = Vec::new();
        decoder.passable_trailers(|name, value| kept.push((name.to_owned(), value.to_vec())));
        assert_eq!(kept, [("X-Sum".to_owned(), b"7".to_vec())]);
    }

    #[test]
    fn encodes_what_it_decodes() {
        let mut out = Vec::new();
        encode(&mut out, &[b'x'; 300]);
        encode(&mut out, b"");
        assert!(out.starts_with(b"12c\r\nxxx"));
        out.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(decode(&out, 7).unwrap().0, vec![b'x'; 300]);
    }
}
