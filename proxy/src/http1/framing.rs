//! Message body length (RFC 9112 §6.3), stricter than the RFC where it offers a choice: one
//! function decides for each direction, and smuggling ends here.

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Exactly this many bytes; 0: no body.
    Sized(u64),
    Chunked,
    /// Ends with the connection; responses only.
    UntilClose,
}

/// The framing fields of one head, collected while its fields are walked.
#[derive(Clone, Copy, Debug, Default)]
pub struct FramingFields<'b> {
    pub content_length: Option<&'b [u8]>,
    pub content_lengths: usize,
    pub transfer_encoding: Option<&'b [u8]>,
    pub transfer_encodings: usize,
}

/// Why a message has no safe length. The text is the sub-reason of `bad_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    TransferEncoding,
    TransferEncodingIn10,
    BothLengths,
    DuplicateContentLength,
    ContentLength,
}

impl FramingError {
    pub fn reason(self) -> &'static str {
        match self {
            FramingError::TransferEncoding => "transfer_encoding",
            FramingError::TransferEncodingIn10 => "transfer_encoding_http10",
            FramingError::BothLengths => "content_length_and_transfer_encoding",
            FramingError::DuplicateContentLength => "duplicate_content_length",
            FramingError::ContentLength => "content_length",
        }
    }
}

impl FramingFields<'_> {
    /// Length by the fields alone; `None`: no framing field at all.
    fn length(&self, http10: bool) -> Result<Option<BodyLength>, FramingError> {
        if let Some(coding) = self.transfer_encoding {
            if http10 {
                return Err(FramingError::TransferEncodingIn10);
            }
            if self.content_lengths > 0 {
                return Err(FramingError::BothLengths);
            }
            // Exactly one field with exactly one coding: lists and parameters are where two
            // parsers disagree.
            if self.transfer_encodings != 1 || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::TransferEncoding);
            }
            return Ok(Some(BodyLength::Chunked));
        }
        match self.content_length {
            None => Ok(None),
            Some(_) if self.content_lengths > 1 => Err(FramingError::DuplicateContentLength),
            Some(text) => content_length(text).map(|n| Some(BodyLength::Sized(n))),
        }
    }
}

/// Length of a request body. Without framing fields there is none.
pub fn request_length(fields: &FramingFields, http10: bool) -> Result<BodyLength, FramingError> {
    Ok(fields.length(http10)?.unwrap_or(BodyLength::Sized(0)))
}

/// Length of a response body. The fields are judged even where the status or the request method
/// (`head_request`: HEAD) forbids a body, because a contradiction there is no less suspicious.
pub fn response_length(
    fields: &FramingFields,
    http10: bool,
    status: u16,
    head_request: bool,
) -> Result<BodyLength, FramingError> {
    let length = fields.length(http10)?;
    if head_request || status == 204 || status == 304 || (100..200).contains(&status) {
        return Ok(BodyLength::Sized(0));
    }
    Ok(length.unwrap_or(BodyLength::UntilClose))
}

/// `1*DIGIT`, at most 2^63 - 1 (RFC 9110 §8.6); no sign, blank, list or hex.
fn content_length(text: &[u8]) -> Result<u64, FramingError> {
    if text.is_empty() || text.len() > 19 {
        return Err(FramingError::ContentLength);
    }
    let mut value: u64 = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(FramingError::ContentLength);
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    if value > i64::MAX as u64 { Err(FramingError::ContentLength) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'b>(cl: &'b [&'b [u8]], te: &'b [&'b [u8]]) -> FramingFields<'b> {
        FramingFields {
            content_length: cl.last().copied(),
            content_lengths: cl.len(),
            transfer_encoding: te.last().copied(),
            transfer_encodings: te.len(),
        }
    }

    #[test]
    fn request_lengths() {
        let ok = |cl, te| request_length(&fields(cl, te), false);
        assert_eq!(ok(&[], &[]), Ok(BodyLength::Sized(0)));
        assert_eq!(ok(&[b"5"], &[]), Ok(BodyLength::Sized(5)));
        assert_eq!(ok(&[b"9223372036854775807"], &[]), Ok(BodyLength::Sized(i64::MAX as u64)));
        assert_eq!(ok(&[], &[b"ChUnKeD"]), Ok(BodyLength::Chunked));
    }

    #[test]
    fn ambiguous_requests_are_errors() {
        fn err(cl: &[&[u8]], te: &[&[u8]]) -> FramingError {
            request_length(&fields(cl, te), false).unwrap_err()
        }
        assert_eq!(err(&[b"5"], &[b"chunked"]), FramingError::BothLengths);
        assert_eq!(err(&[b"5", b"5"], &[]), FramingError::DuplicateContentLength);
        for te in [&b"gzip, chunked"[..], b"xchunked", b"identity", b"chunked;q=1", b""] {
            assert_eq!(err(&[], &[te]), FramingError::TransferEncoding);
        }
        assert_eq!(err(&[], &[b"chunked", b"chunked"]), FramingError::TransferEncoding);
        for cl in [&b"-1"[..], b"+1", b"", b"1,1", b"0x1", b"1 ", b"9223372036854775808",
                   b"99999999999999999999"] {
            assert_eq!(err(&[cl], &[]), FramingError::ContentLength);
        }
        let in10 = request_length(&fields(&[], &[b"chunked"]), true);
        assert_eq!(in10, Err(FramingError::TransferEncodingIn10));
    }

    #[test]
    fn response_lengths() {
        let none = fields(&[], &[]);
        let sized = fields(&[b"7"], &[]);
        assert_eq!(response_length(&none, false, 200, false), Ok(BodyLength::UntilClose));
        assert_eq!(response_length(&sized, false, 200, false), Ok(BodyLength::Sized(7)));
        for (status, head) in [(200, true), (204, false), (304, false), (101, false)] {
            assert_eq!(response_length(&sized, false, status, head), Ok(BodyLength::Sized(0)));
        }
        let both = fields(&[b"7"], &[b"chunked"]);
        assert!(response_length(&both, false, 304, false).is_err());
    }
}
