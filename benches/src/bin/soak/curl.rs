//! curl as the client that is not ours.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use benches::Result;

use crate::backend::read_at;
use crate::pattern::{self, Checker};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    H1,
    H1Tls,
    H2,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::H1, Self::H1Tls, Self::H2];

    pub fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1 plain",
            Self::H1Tls => "h1 TLS",
            Self::H2 => "h2",
        }
    }
}

/// One transfer.
pub struct Curl {
    command: Command,
    url: String,
    /// Bytes of the pattern to send without telling their number.
    pipe: Option<u64>,
}

/// What curl says when it is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    pub redirect: String,
}

impl Curl {
    /// `https://HOST/PATH` as a user types it; the connection goes to `port` of loopback.
    pub fn new(protocol: Protocol, host: &str, path: &str, port: u16, trusted: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "curl", "-sS", "--max-time", "600"]);
        command.arg("--cacert").arg(trusted);
        command.args(["--noproxy", "*", "--connect-to", &format!("::127.0.0.1:{port}")]);
        command.arg(if protocol == Protocol::H2 { "--http2" } else { "--http1.1" });
        command.args(["-w", "%{stderr}\nsaid %{http_code} %{http_version} %{redirect_url}\n"]);
        let scheme = if protocol == Protocol::H1 { "http" } else { "https" };
        Self { command, url: format!("{scheme}://{host}{path}"), pipe: None }
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// PUT of a file, whose length is told.
    pub fn upload(mut self, file: &Path) -> Self {
        self.command.arg("-T").arg(file);
        self
    }

    /// PUT of `bytes` of the pattern, chunked on HTTP/1.1.
    pub fn upload_pipe(mut self, bytes: u64) -> Self {
        self.command.args(["-T", "-"]);
        self.pipe = Some(bytes);
        self
    }

    /// The answer as text.
    pub fn text(self) -> Result<(Said, String)> {
        let mut running = self.start()?;
        let mut text = String::new();
        running.out.read_to_string(&mut text)?;
        Ok((running.end()?, text))
    }

    /// The answer compared with the pattern, read at a rate where it is given.
    pub fn checked(self, bytes_per_second: Option<u64>) -> Result<(Said, Checker)> {
        let mut running = self.start()?;
        let checker = read_at(&mut running.out, bytes_per_second)?;
        Ok((running.end()?, checker))
    }

    pub fn start(mut self) -> Result<Running> {
        let stdin = if self.pipe.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.arg(&self.url).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|e| format!("curl: {e}"))?;
        if let Some((mut input, bytes)) = child.stdin.take().zip(self.pipe) {
            // An answer before the end closes the pipe: curl says whether that is an error.
            thread::spawn(move || write_pattern(&mut input, bytes));
        }
        let out = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Running { child, out, url: self.url })
    }
}

/// A transfer under way.
pub struct Running {
    child: Child,
    pub out: BufReader<std::process::ChildStdout>,
    url: String,
}

impl Running {
    /// After `out` has been read to its end.
    pub fn end(mut self) -> Result<Said> {
        let mut text = String::new();
        self.child.stderr.take().ok_or("no pipe")?.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("curl {}: {status}: {}", self.url, text.trim()).into());
        }
        parse(&text).ok_or_else(|| format!("curl {} said: {text}", self.url).into())
    }

    /// Before it is done.
    pub fn abort(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// To a file, or into a pipe.
pub fn write_pattern(out: &mut impl Write, bytes: u64) -> std::io::Result<()> {
    let mut block = vec![0; 1 << 18];
    let mut sent = 0;
    while sent < bytes {
        let n = usize::try_from(bytes - sent).unwrap_or(usize::MAX).min(block.len());
        let piece = block.get_mut(..n).unwrap_or_default();
        pattern::fill(sent, piece);
        out.write_all(piece)?;
        sent += n as u64;
    }
    out.flush()
}

fn parse(stderr: &str) -> Option<Said> {
    let line = stderr.lines().rev().find_map(|line| line.strip_prefix("said "))?;
    let mut words = line.split(' ');
    let status = words.next()?.parse().ok()?;
    let version = words.next()?.to_owned();
    Some(Said { status, version, redirect: words.next().unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_curl_is_read() {
        let said = parse("curl: warning\n\nsaid 308 1.1 https://h/x\n").unwrap();
        assert_eq!((said.status, said.version.as_str()), (308, "1.1"));
        assert_eq!(said.redirect, "https://h/x");
        assert_eq!(parse("\nsaid 200 2 \n").unwrap().redirect, "");
        assert_eq!(parse("curl: (7) refused\n"), None);
    }

    #[test]
    fn what_is_written_is_the_pattern() {
        let mut out = Vec::new();
        write_pattern(&mut out, 300_003).unwrap();
        let checker = read_at(&mut out.as_slice(), None).unwrap();
        assert_eq!((checker.bytes(), checker.wrong()), (300_003, None));
    }
}
