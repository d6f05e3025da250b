//! The admin server's two entrances. Both are tried again until they open: of two processes that
//! overlap, the later one answers once the earlier one is gone.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{Admin, Entrance};
use crate::control::status::Status;

pub(super) async fn tcp(address: SocketAddr, admin: Admin, status: Arc<Status>) {
    let listener = until_open(&address.to_string(), || bind_tcp(address)).await;
    let bound = listener.local_addr().unwrap_or(address);
    status.update_admin(|admin| admin.tcp = Some(bound));
    tracing::info!("admin server on http://{bound}");
    loop {
        match listener.accept().await {
            Ok((io, _)) => drop(tokio::spawn(admin.clone().serve(io, Entrance::Tcp))),
            Err(why) => pause(&why).await,
        }
    }
}

pub(super) async fn unix(path: PathBuf, admin: Admin, status: Arc<Status>) {
    let listener = until_open(&path.display().to_string(), || bind_unix(&path)).await;
    tracing::info!("admin server on unix socket {}", path.display());
    status.update_admin(|admin| admin.socket = Some(path));
    loop {
        match listener.accept().await {
            Ok((io, _)) => drop(tokio::spawn(admin.clone().serve(io, Entrance::Unix))),
            Err(why) => pause(&why).await,
        }
    }
}

async fn until_open<L>(what: &str, bind: impl Fn() -> io::Result<L>) -> L {
    let mut told = false;
    loop {
        match bind() {
            Ok(listener) => return listener,
            Err(why) if !told => {
                tracing::warn!("admin server: cannot listen on {what} ({why}); trying on");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket with mode 0600 from its first moment. A stale one, on which nobody listens, is
/// replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        match StdUnixStream::connect(path) {
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(why) => return Err(why),
            Ok(_) => return Err(io::Error::other("another process listens there")),
        }
    } else if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Linux gives the file the mode of the unbound socket: no moment with a wider one.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Out of descriptors, most likely: accepting again at once would spin.
async fn pause(why: &io::Error) {
    tracing::debug!("admin server: accept: {why}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

const RETRY: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run").join("admin.sock");
        let first = bind_unix(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(bind_unix(&path).is_err());
        drop(first);
        assert!(path.exists());
        bind_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_held_address_is_taken_when_it_is_free() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let opening = tokio::spawn(async move { until_open("it", || bind_tcp(address)).await });
        tokio::task::yield_now().await;
        assert!(!opening.is_finished());
        drop(held);
        let opened = tokio::time::timeout(Duration::from_secs(10), opening).await;
        assert_eq!(opened.unwrap().unwrap().local_addr().unwrap(), address);
    }
}
