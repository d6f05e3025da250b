//! Sockets that the parent hands over (sd_listen_fds(3)): descriptors from 3 on, as many as
//! `LISTEN_FDS` says, named in `LISTEN_FDNAMES`, for the process `LISTEN_PID`.
//!
//! `unsafe` (design.md #18): a descriptor known by its number alone has no safe way into an
//! [`OwnedFd`] (`pidfd_getfd` is one, which a hardened unit forbids), and since edition 2024
//! removing a variable is unsafe.

#![allow(unsafe_code)]

use std::env;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A descriptor of the parent's, ours from now on.
#[derive(Debug)]
pub struct Inherited {
    pub fd: OwnedFd,
    /// Empty where the parent gave none.
    pub name: String,
}

/// Takes what is handed over, once per process, and forgets the variables: nothing that this
/// process starts may believe that it is meant. To be called before anything is opened: a number
/// that the parent did not really open would by then be somebody else's.
///
/// # Errors
/// The variables make no sense, or a descriptor is not open.
pub fn take() -> Result<Vec<Inherited>, String> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let [fds, pid, names] = VARIABLES.map(|name| env::var(name).ok());
    let announced =
        announced(fds.as_deref(), pid.as_deref(), names.as_deref(), std::process::id())?;
    if announced.is_empty() || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    forget_variables();
    announced.into_iter().map(|(number, name)| own(number, name)).collect()
}

fn own(number: RawFd, name: String) -> Result<Inherited, String> {
    // SAFETY: fcntl with F_SETFD reads no memory and changes nothing but the flag of a descriptor
    // that is open; of one that is not it says EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        let why = io::Error::last_os_error();
        return Err(format!("LISTEN_FDS announces descriptor {number}: {why}"));
    }
    // SAFETY: it is open, as was just seen. The parent says by LISTEN_PID that it is this
    // process's; nobody here has opened anything yet, and `take` gives each number out once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(Inherited { fd, name })
}

/// Where other threads run already they may read the environment: then the variables stay, and
/// LISTEN_PID still says that nobody else is meant.
fn forget_variables() {
    let alone = fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    for name in VARIABLES.iter().filter(|_| alone) {
        // SAFETY: this is the only thread, so nobody reads the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
}

/// Number and name of each descriptor that is announced to process `own`.
fn announced(
    fds: Option<&str>,
    pid: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Vec<(RawFd, String)>, String> {
    let (Some(fds), Some(pid)) = (fds, pid) else { return Ok(Vec::new()) };
    if pid.parse() != Ok(own) {
        return Ok(Vec::new());
    }
    let count = fds.parse().ok().filter(|count| (0..=MOST).contains(count));
    let count: RawFd = count.ok_or_else(|| format!("LISTEN_FDS {fds:?} is no number to {MOST}"))?;
    let mut names = names.unwrap_or_default().split(':');
    let named = |number| (number, names.next().unwrap_or_default().to_owned());
    Ok((FIRST..FIRST + count).map(named).collect())
}

const VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;
const MOST: RawFd = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_variables_announce() {
        let of = |fds, pid, names| announced(fds, pid, names, 7);
        let two = vec![(3, "http".to_owned()), (4, String::new())];
        assert_eq!(of(Some("2"), Some("7"), Some("http")), Ok(two));
        let two = vec![(3, "a".to_owned()), (4, "b".to_owned())];
        assert_eq!(of(Some("2"), Some("7"), Some("a:b:c")), Ok(two));
        for nobody in [(Some("2"), Some("8")), (Some("2"), None), (None, Some("7"))] {
            assert_eq!(of(nobody.0, nobody.1, None), Ok(Vec::new()), "{nobody:?}");
        }
        assert_eq!(of(Some("0"), Some("7"), None), Ok(Vec::new()));
        for bad in ["", "-1", "2000", "x"] {
            assert!(of(Some(bad), Some("7"), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_open_is_refused() {
        assert!(own(RawFd::MAX, String::new()).unwrap_err().contains("2147483647"));
    }
}
