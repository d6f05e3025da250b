//! Follows the frames of an HTTP/2 client byte stream (RFC 9113 §4.1) without reading into them:
//! is a head incomplete, are control frames a flood? Sans-io.

const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const END_STREAM: u8 = 0x1;

/// Frames per second that carry no request and no body: PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
/// empty DATA, unknown types. A client that reads 100 streams sends far fewer.
pub const MAX_CONTROL_FRAMES: u32 = 4_000;
/// A client that reads may send one more for each so many bytes that it was sent: two window
/// updates for every 4 KiB are usual (Go's client).
const BYTES_PER_CONTROL_FRAME: usize = 1024;
/// RST_STREAM per second: a client may give up all its streams at once, several times.
pub const MAX_RESETS: u32 = 500;

/// Position in the frame sequence.
pub struct FrameScanner {
    preface_left: usize,
    head: [u8; FRAME_HEAD],
    head_len: usize,
    payload_left: usize,
    /// The frame whose payload is passing belongs to a header block.
    in_header_frame: bool,
    /// A header block waits for END_HEADERS.
    block_open: bool,
    window_ms: u64,
    control: u32,
    resets: u32,
    /// Bytes sent in this window and the one before.
    sent: usize,
    sent_before: usize,
}

/// More control frames than [`MAX_CONTROL_FRAMES`] or resets than [`MAX_RESETS`] in a second.
#[derive(Debug, PartialEq, Eq)]
pub struct Flood;

impl Default for FrameScanner {
    fn default() -> Self {
        FrameScanner {
            preface_left: PREFACE,
            head: [0; FRAME_HEAD],
            head_len: 0,
            payload_left: 0,
            in_header_frame: false,
            block_open: false,
            window_ms: 0,
            control: 0,
            resets: 0,
            sent: 0,
            sent_before: 0,
        }
    }
}

impl FrameScanner {
    /// Whether the client owes the rest of a preface, a frame head, or a header block.
    pub fn head_open(&self) -> bool {
        self.preface_left > 0
            || self.head_len > 0
            || self.block_open
            || (self.in_header_frame && self.payload_left > 0)
    }

    /// Follows received bytes; `now_ms` is monotonic.
    pub fn feed(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        if now_ms.saturating_sub(self.window_ms) >= 1000 {
            (self.window_ms, self.control, self.resets) = (now_ms, 0, 0);
            self.sent_before = std::mem::take(&mut self.sent);
        }
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            let passed = self.payload_left.min(bytes.len());
            self.payload_left -= passed;
            bytes = &bytes[passed..];
            let take = (FRAME_HEAD - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + take].copy_from_slice(&bytes[..take]);
            self.head_len += take;
            bytes = &bytes[take..];
            if self.head_len == FRAME_HEAD {
                self.head_len = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// Bytes went out: they earn window updates.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
    }

    fn max_control(&self) -> u32 {
        let earned = self.sent.saturating_add(self.sent_before) / BYTES_PER_CONTROL_FRAME;
        MAX_CONTROL_FRAMES.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX))
    }

    fn frame(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.in_header_frame = matches!(kind, HEADERS | CONTINUATION);
        match kind {
            HEADERS => self.block_open = flags & END_HEADERS == 0,
            CONTINUATION => {
                self.block_open = flags & END_HEADERS == 0;
                self.control += 1;
            }
            DATA if self.payload_left > 0 || flags & END_STREAM != 0 => {}
            RST_STREAM => self.resets += 1,
            _ => self.control += 1,
        }
        let flood = self.control > self.max_control() || self.resets > MAX_RESETS;
        if flood { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let len = (payload as u32).to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEAD + payload, 0);
        frame
    }

    #[test]
    fn knows_when_a_head_is_open_at_every_cut() {
        let bytes = [
            vec![0; PREFACE],
            frame(4, 0, 6),
            frame(HEADERS, 0, 10),
            frame(CONTINUATION, END_HEADERS, 5),
            frame(DATA, 0, 300),
        ]
        .concat();
        // Ends of preface, SETTINGS and CONTINUATION, then anywhere inside DATA.
        let closed = |n: usize| n == 24 || (33..=39).contains(&n) || n == 72 || n >= 81;
        for cut in 0..=bytes.len() {
            let mut scanner = FrameScanner::default();
            let (first, second) = bytes.split_at(cut);
            scanner.feed(first, 0).unwrap();
            assert_eq!(!scanner.head_open(), closed(cut), "at {cut}");
            scanner.feed(second, 0).unwrap();
            assert!(!scanner.head_open());
        }
    }

    #[test]
    fn readers_may_update_their_windows() {
        let mut scanner = FrameScanner::default();
        scanner.feed(&[0; PREFACE], 1000).unwrap();
        scanner.sent(100 * BYTES_PER_CONTROL_FRAME);
        for _ in 0..MAX_CONTROL_FRAMES + 100 {
            scanner.feed(&frame(8, 0, 4), 1500).unwrap();
        }
        assert_eq!(scanner.feed(&frame(8, 0, 4), 1600), Err(Flood));
    }

    #[test]
    fn floods_are_per_second() {
        for (kind, most) in
            [(6, MAX_CONTROL_FRAMES), (RST_STREAM, MAX_RESETS), (DATA, MAX_CONTROL_FRAMES)]
        {
            let mut scanner = FrameScanner::default();
            scanner.feed(&[0; PREFACE], 1000).unwrap();
            let payload = if kind == DATA { 0 } else { 8 };
            for _ in 0..most {
                scanner.feed(&frame(kind, 0, payload), 1500).unwrap();
            }
            assert_eq!(scanner.feed(&frame(kind, 0, payload), 1999), Err(Flood));
            assert_eq!(scanner.feed(&frame(kind, 0, payload), 2000), Ok(()));
        }
    }
}
