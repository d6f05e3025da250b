//! The edge as a child process: ready by its own word, watched in memory, ended in every way.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use benches::server::command;
use benches::{Result, http, net};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub struct Edge {
    child: Child,
    admin: u16,
    log: PathBuf,
}

impl Edge {
    /// Starts `argv`; its log goes to the end of `log`.
    pub fn spawn(argv: &[String], admin: u16, log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command(argv, None)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|e| format!("{}: {e}", argv.join(" ")))?;
        Ok(Self { child, admin, log: log.to_owned() })
    }

    /// Waits until `/readyz` says ready; how long that took.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the edge ended with {status}\n{}", self.log_tail()).into());
            }
            // Another process may answer on this port while ours starts.
            if self.admin("/readyz").is_ok_and(|value| value["ready"] == true) {
                return Ok(start.elapsed());
            }
            if start.elapsed() > limit {
                return Err(format!("not ready after {limit:?}\n{}", self.log_tail()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn admin(&self, path: &str) -> Result<Value> {
        let reply = http::get(net::loopback(self.admin), "127.0.0.1", path)?;
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// The sum of all series of a family with this label: `name`, `key="value"`.
    pub fn metric(&self, name: &str, label: &str) -> Result<u64> {
        let reply = http::get(net::loopback(self.admin), "127.0.0.1", "/metrics")?;
        Ok(sum_of(&String::from_utf8(reply.body)?, name, label))
    }

    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time on CPU of each worker, nanoseconds, by its thread id.
    pub fn worker_ns(&self) -> Vec<u64> {
        let mut tasks: Vec<_> = fs::read_dir(format!("/proc/{}/task", self.pid()))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        tasks.sort();
        let of_worker = |task: &PathBuf| {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            name.starts_with("worker-")
        };
        let on_cpu = |task: &PathBuf| {
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
        };
        tasks.iter().filter(|task| of_worker(task)).map(on_cpu).collect()
    }

    /// Resident memory now, KiB.
    pub fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most it was since the last [`reset_peak`](Self::reset_peak), KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    pub fn reset_peak(&self) -> Result<()> {
        // 5: the peak becomes what is resident now (proc(5)).
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")?)
    }

    fn status_kib(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        kib_of(&text, key).unwrap_or_default()
    }

    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its end within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(format!("still there after {limit:?}\n{}", self.log_tail()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and exit code 0 within the drain time and a bit.
    pub fn stop(mut self) -> Result<Duration> {
        let start = Instant::now();
        self.terminate()?;
        let status = self.wait_end(Duration::from_secs(20))?;
        if !status.success() {
            return Err(format!("the drained edge ended with {status}").into());
        }
        Ok(start.elapsed())
    }

    pub fn log_tail(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.ok_or("no process id")?, signal)?)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}

/// Writes beside the file, then renames over it.
pub fn replace(file: &Path, text: &str) -> Result<()> {
    let part = file.with_extension("part");
    fs::write(&part, text)?;
    Ok(fs::rename(part, file)?)
}

/// Truncates and writes in two steps with a pause between, as an editor without care does.
pub fn overwrite_in_halves(file: &Path, text: &str, cut: usize, pause: Duration) -> Result<()> {
    use std::io::Write as _;
    let (first, second) = text.split_at_checked(cut).unwrap_or((text, ""));
    let mut out = File::create(file)?;
    out.write_all(first.as_bytes())?;
    thread::sleep(pause);
    Ok(out.write_all(second.as_bytes())?)
}

fn sum_of(metrics: &str, name: &str, label: &str) -> u64 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let values = series.filter_map(|rest| rest.split_once("} "));
    let ours = values.filter(|(labels, _)| labels.split(',').any(|one| one == label));
    ours.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

fn kib_of(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_key() {
        let text = "VmPeak:\t  99 kB\nVmHWM:\t   1234 kB\nVmRSS:\t    567 kB\n";
        assert_eq!(kib_of(text, "VmHWM:"), Some(1234));
        assert_eq!(kib_of(text, "VmRSS:"), Some(567));
        assert_eq!(kib_of(text, "VmX:"), None);
    }

    #[test]
    fn series_are_summed_by_label() {
        let text = "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nab{y=\"2\"} 5\na{y=\"22\"} 6\n";
        assert_eq!(sum_of(text, "a", "y=\"2\""), 7);
    }

    #[test]
    fn both_ways_of_writing_end_with_the_whole_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        replace(&file, "one").unwrap();
        overwrite_in_halves(&file, "twofold", 3, Duration::ZERO).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "twofold");
        assert!(!file.with_extension("part").exists());
    }
}
