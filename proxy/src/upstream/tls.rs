//! TLS to an endpoint as a byte stream.
//!
//! The drivers write without flushing and wait by reading: what rustls still holds of a write is
//! therefore pushed on by every read, too.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use super::socket::{Look, Socket};
use crate::buffers::Charge;
use crate::state::Shared;

/// What rustls may hold of what was written and not yet sent.
pub const SEND_BUFFER: usize = 64 * 1024;

/// A connection after its handshake. What it holds while the endpoint does not take it counts as
/// buffered.
pub struct TlsEnd {
    /// A cell because [`TlsEnd::quiet`] must read what is no plaintext (session tickets).
    stream: RefCell<TlsStream<Socket>>,
    /// Found after bytes that had to be handed out first.
    error: Option<io::Error>,
    /// What sending met while nobody wrote. The kernel says so once: a read would then find an
    /// ordinary end.
    unsent: Option<io::Error>,
    charge: Charge,
    /// Closes with RST: no good-bye.
    aborted: std::cell::Cell<bool>,
}

impl TlsEnd {
    pub fn new(shared: &Arc<Shared>, mut stream: TlsStream<Socket>) -> TlsEnd {
        stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
        let (stream, charge) = (RefCell::new(stream), Charge::new(shared));
        TlsEnd { stream, error: None, unsent: None, charge, aborted: std::cell::Cell::new(false) }
    }

    /// Fills `buf` with all the plaintext that is at hand.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.push(cx);
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let stream = self.stream.get_mut();
        let mut filled = 0;
        while filled < buf.len() {
            match Pin::new(&mut *stream).poll_fill_buf(cx) {
                Poll::Ready(Ok(plain)) => {
                    let n = plain.len().min(buf.len() - filled);
                    if n == 0 {
                        break;
                    }
                    buf[filled..filled + n].copy_from_slice(&plain[..n]);
                    filled += n;
                    Pin::new(&mut *stream).consume(n);
                }
                Poll::Ready(Err(error)) if filled == 0 => {
                    return Poll::Ready(Err(self.cut(error)));
                }
                Poll::Ready(Err(error)) => {
                    self.error = Some(self.cut(error));
                    break;
                }
                Poll::Pending if filled == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(filled))
    }

    /// Ready when plaintext, the end or an error is at hand.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.push(cx);
        if self.error.is_some() {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(self.stream.get_mut()).poll_fill_buf(cx) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                // The next read says what it was.
                self.error = Some(self.cut(error));
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write(cx, buf);
        self.counted(written)
    }

    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write_vectored(cx, pieces);
        self.counted(written)
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(self.stream.get_mut()).poll_flush(cx);
        self.count(0);
        flushed
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }

    /// Whether the endpoint has neither closed nor sent any plaintext. Session tickets and key
    /// updates are taken in.
    pub fn quiet(&self, look: Look) -> bool {
        if self.error.is_some() {
            return false;
        }
        let mut stream = self.stream.borrow_mut();
        let (socket, session) = stream.get_mut();
        loop {
            match session.read_tls(&mut Now(socket, look)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
            match session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() => {
                    return false;
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        // Plaintext that an earlier read left behind.
        let known = session.process_new_packets();
        known.is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
    }

    pub fn read_closed(&self) -> bool {
        self.stream.borrow().get_ref().0.read_closed()
    }

    pub fn abort_on_close(&self) {
        self.aborted.set(true);
        self.stream.borrow().get_ref().0.abort_on_close();
    }

    /// The TCP socket, where there is one. Not for reading or writing.
    pub fn socket(&mut self) -> Option<BorrowedFd<'_>> {
        self.stream.get_mut().get_ref().0.tcp().map(AsFd::as_fd)
    }

    /// Sends what rustls holds, as far as the socket takes it. What goes wrong here, a read says.
    fn push(&mut self, cx: &mut Context<'_>) {
        if self.unsent.is_none() && self.stream.get_mut().get_ref().1.wants_write() {
            if let Poll::Ready(Err(error)) = Pin::new(self.stream.get_mut()).poll_flush(cx) {
                self.unsent = Some(error);
            }
            self.count(0);
        }
    }

    /// An end without good-bye may be the reset that a write has met.
    fn cut(&mut self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.unsent.take().unwrap_or(error),
            _ => error,
        }
    }

    fn counted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.count(match &written {
            Poll::Ready(Ok(n)) => *n,
            _ => 0,
        });
        written
    }

    /// After a write of `taken` bytes, or a flush.
    fn count(&mut self, taken: usize) {
        let waiting = self.stream.get_mut().get_ref().1.wants_write();
        let held = if waiting { SEND_BUFFER.min(self.charge.bytes() + taken) } else { 0 };
        self.charge.set(held);
    }
}

impl Drop for TlsEnd {
    /// Says good-bye if the socket takes it at once: without it the end looks like a cut.
    fn drop(&mut self) {
        if self.aborted.get() {
            return;
        }
        let (socket, session) = self.stream.get_mut().get_mut();
        session.send_close_notify();
        while session.wants_write() && session.write_tls(&mut Now(socket, Look::Events)).is_ok() {}
    }
}

/// A socket that never waits.
struct Now<'s>(&'s Socket, Look);

impl Read for Now<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_now(self.1, buf)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.0.write_now(buf) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::ErrorKind;

    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use rustls_pki_types::{PrivateKeyDer, ServerName};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector, server};

    use super::*;
    use crate::log::Sink;

    const HOST: &str = "app.openclaw.example";

    async fn pair() -> (TlsEnd, server::TlsStream<TcpStream>) {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (near, far) =
            tokio::join!(connector.connect(name, Socket::Tcp(near)), acceptor.accept(far));
        let shared = Arc::new(Shared::new(Sink::start_on(0, std::io::sink()).0));
        (TlsEnd::new(&shared, near.unwrap()), far.unwrap())
    }

    /// Replays depend on it: after an end in order they may be safe, after a reset never.
    #[tokio::test]
    async fn a_reset_that_a_write_has_met_is_no_end() {
        let (mut near, far) = pair().await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Until rustls holds what the socket does not take.
        while near.poll_write(&mut cx, &[0; 16 * 1024]).is_ready() {}
        assert!(near.stream.get_mut().get_ref().1.wants_write());
        crate::io::reset_on_close(far.get_ref().0);
        drop(far);
        let read = poll_fn(|cx| near.poll_read(cx, &mut [0; 64])).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
