//! Who listens on a port, for an error message. Linux only; elsewhere nobody is named.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `process 123 (nginx -g daemon off;)`; `None` where /proc does not tell.
pub fn of_port(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let process = fs::read_dir("/proc").ok()?.flatten().find(|entry| {
        entry.file_name().as_bytes().iter().all(u8::is_ascii_digit)
            && holds_any(&entry.path(), &inodes)
    })?;
    let pid = process.file_name().to_string_lossy().into_owned();
    Some(format!("process {pid} ({})", command(&process.path())))
}

/// Inodes of the sockets in this table of /proc/net that listen on `port`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // sl local_address rem_address st … inode; 0A is LISTEN.
        match (fields.get(1), fields.get(3), fields.get(9)) {
            (Some(local), Some(&"0A"), Some(inode)) if local.ends_with(&suffix) => {
                Some((*inode).to_owned())
            }
            _ => None,
        }
    };
    table.lines().filter_map(row).collect()
}

fn holds_any(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|found| found == inode))
    })
}

/// The command line, cut short and free of control characters.
fn command(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&line).replace('\0', " ");
    let clean: String = text.trim().chars().filter(|c| !c.is_control()).take(80).collect();
    if clean.is_empty() { "command unknown".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100\n\
            1: 0100007F:01BB 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100\n\
            2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100\n";
        assert_eq!(listening(table, 443), ["111"]);
        assert_eq!(listening(table, 8080), ["333"]);
        assert!(listening(table, 80).is_empty());
    }
}
