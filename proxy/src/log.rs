//! Log output that never makes anybody wait: a bounded queue and one thread that writes. The access
//! log goes to stdout, tracing to stderr, each through a [`Sink`] of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Handle of one log stream; cheap to clone and to share.
#[derive(Clone)]
pub struct Sink {
    queue: Sender<Job>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Bytes handed over and not written yet.
    waiting: AtomicUsize,
    /// Largest `waiting` that is let in.
    limit: AtomicUsize,
    /// Lines that were not written.
    dropped: AtomicU64,
}

enum Job {
    Lines { bytes: Vec<u8>, count: u64 },
    Stop,
}

impl Sink {
    /// A thread that writes to stdout, at most `queue_bytes` behind.
    pub fn start(queue_bytes: usize) -> (Sink, JoinHandle<()>) {
        Sink::start_on(queue_bytes, duplicate(io::stdout().as_fd()))
    }

    /// The same for another output.
    pub fn start_on(
        queue_bytes: usize,
        output: impl Write + Send + 'static,
    ) -> (Sink, JoinHandle<()>) {
        let (queue, jobs) = channel();
        let counts = Arc::new(Counts { limit: queue_bytes.into(), ..Counts::default() });
        let sink = Sink { queue, counts: counts.clone() };
        let thread = std::thread::spawn(move || write_all(&jobs, &counts, output));
        (sink, thread)
    }

    /// Queues `count` whole lines, or drops and counts them when the queue is full. Never blocks.
    pub fn submit(&self, lines: Vec<u8>, count: u64) {
        let size = lines.len();
        let before = self.counts.waiting.fetch_add(size, Ordering::Relaxed);
        let full = before.saturating_add(size) > self.counts.limit.load(Ordering::Relaxed);
        if full || self.queue.send(Job::Lines { bytes: lines, count }).is_err() {
            self.counts.waiting.fetch_sub(size, Ordering::Relaxed);
            self.counts.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// What waits already is kept even if it is more.
    pub fn set_queue_bytes(&self, queue_bytes: usize) {
        self.counts.limit.store(queue_bytes, Ordering::Relaxed);
    }

    /// Writes what waits, at most until `deadline` has passed, and ends the thread. A thread that
    /// is stuck in a write is left behind.
    pub fn finish(&self, thread: JoinHandle<()>, deadline: Duration) {
        let _ = self.queue.send(Job::Stop);
        let end = Instant::now() + deadline;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

fn write_all(jobs: &Receiver<Job>, counts: &Counts, mut output: impl Write) {
    while let Ok(Job::Lines { bytes, count }) = jobs.recv() {
        // Nobody reads any more (EPIPE), or the disk is full: count, and try the next again.
        if write_patiently(&mut output, &bytes).is_err() {
            counts.dropped.fetch_add(count, Ordering::Relaxed);
        }
        counts.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

/// `write_all` for an output that somebody else may have made non-blocking.
fn write_patiently(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// An unbuffered file of its own, so that no lock of the standard library is held in a stuck
/// write. A closed stdout or stderr becomes an output that fails.
fn duplicate(stream: BorrowedFd<'_>) -> Box<dyn Write + Send> {
    match stream.try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::sink()),
    }
}

// === tracing ===

/// How tracing events look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Keeps tracing alive; [`finish`](TracingGuard::finish) writes what waits.
pub struct TracingGuard {
    sink: Sink,
    thread: JoinHandle<()>,
}

impl TracingGuard {
    pub fn finish(self) {
        self.sink.finish(self.thread, FLUSH);
    }
}

/// Sends tracing events to stderr. Level: `OPENCLAW_EDGE_LOG` (`off` to `trace`), default `info`.
/// A stderr that nobody reads costs lines, never time.
pub fn init_tracing(format: LogFormat) -> TracingGuard {
    let asked = std::env::var("OPENCLAW_EDGE_LOG").ok();
    let level = asked.as_deref().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    let (sink, thread) = Sink::start_on(TRACING_QUEUE, duplicate(io::stderr().as_fd()));
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(SinkWriter(sink.clone()));
    let set = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(builder.finish()),
        LogFormat::Json => {
            tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
        }
    };
    // A second initialisation (tests in one process) leaves the first in place.
    drop(set);
    if let Some(text) = asked.filter(|text| text.parse::<LevelFilter>().is_err()) {
        tracing::warn!("OPENCLAW_EDGE_LOG={text:?} is no level; using info");
    }
    TracingGuard { sink, thread }
}

/// The subscriber hands over one whole event per write.
struct SinkWriter(Sink);

impl<'a> MakeWriter<'a> for SinkWriter {
    type Writer = &'a SinkWriter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &SinkWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.submit(event.to_vec(), 1);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long the end of the process waits for a log that is not taken.
pub const FLUSH: Duration = Duration::from_secs(1);

const TRACING_QUEUE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pipe() -> (File, File) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        (File::from(read), File::from(write))
    }

    #[test]
    fn what_is_submitted_is_written_in_order() {
        let (mut reader, writer) = pipe();
        let (sink, thread) = Sink::start_on(1024, writer);
        sink.submit(b"one\n".to_vec(), 1);
        sink.submit(b"two\nthree\n".to_vec(), 2);
        sink.finish(thread, FLUSH);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\nthree\n");
        assert_eq!(sink.dropped(), 0);
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        let (mut reader, writer) = pipe();
        let (sink, thread) = Sink::start_on(8 * 1024, writer);
        let started = Instant::now();
        for _ in 0..1000 {
            sink.submit(vec![b'x'; 1024], 1);
        }
        // A pipe takes 64 KiB and the queue 8 KiB of the 1,000 KiB.
        assert!(sink.dropped() >= 900, "{}", sink.dropped());
        assert!(sink.counts.waiting.load(Ordering::Relaxed) <= 8 * 1024);
        sink.finish(thread, Duration::from_millis(20));
        assert!(started.elapsed() < Duration::from_secs(5));
        // Once read, everything that was not dropped arrives.
        let kept = 1000 - sink.dropped();
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text.len() as u64, kept * 1024);
    }

    #[test]
    fn the_queue_takes_its_limit_and_no_byte_more() {
        let (reader, writer) = pipe();
        let (sink, thread) = Sink::start_on(0, writer);
        sink.submit(b"x".to_vec(), 1);
        assert_eq!(sink.dropped(), 1);
        sink.set_queue_bytes(1);
        sink.submit(b"xy".to_vec(), 1);
        assert_eq!(sink.dropped(), 2);
        sink.submit(b"x".to_vec(), 1);
        assert_eq!(sink.dropped(), 2);
        sink.finish(thread, FLUSH);
        drop(reader);
    }

    #[test]
    fn a_closed_reader_is_counted() {
        let (reader, writer) = pipe();
        drop(reader);
        let (sink, thread) = Sink::start_on(1024, writer);
        sink.submit(b"lost\nlost\n".to_vec(), 2);
        sink.finish(thread, FLUSH);
        assert_eq!(sink.dropped(), 2);
    }
}
