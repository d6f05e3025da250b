//! wrk and h2load: run within a time limit, and what they print, read.

use std::io::Read;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::Result;
use crate::server::command;

/// Both streams of `argv`, on `core` where it is given; an error if it takes longer than `limit`.
pub fn output_of(argv: &[String], core: Option<usize>, limit: Duration) -> Result<String> {
    let mut child = command(argv, core).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let streams = child.stdout.take().zip(child.stderr.take());
    let (mut out, mut err) = streams.ok_or("no pipes")?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = out.read_to_string(&mut text).and_then(|_| err.read_to_string(&mut text));
        // Nobody listens any more when the time was over.
        let _ = tell.send(read.map(|_| text));
    });
    let text = told.recv_timeout(limit);
    if text.is_err() {
        child.kill()?;
    }
    child.wait()?;
    Ok(text.map_err(|_| format!("{} took longer than {limit:?}", argv.join(" ")))??)
}

/// What a generator says about one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Said {
    pub requests: u64,
    /// Answers that are not 2xx or 3xx, socket errors, timeouts.
    pub errors: u64,
    pub error_text: Option<String>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub resumed: Option<u64>,
    /// TLS version and cipher, where the generator tells.
    pub cipher: Option<String>,
}

/// wrk counts error answers among its requests too, so they must be 0.
pub fn wrk(text: &str) -> Option<Said> {
    let mut said = Said::default();
    let mut seen = false;
    for line in text.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            said.requests = count.parse().ok()?;
            seen = true;
        } else if let Some(counts) = line.strip_prefix("Socket errors: ") {
            said.errors += counts.split(", ").filter_map(last_number).sum::<u64>();
            said.error_text = Some(line.to_owned());
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            said.errors += count.parse::<u64>().ok()?;
            said.error_text = Some(line.to_owned());
        } else if let Some(time) = line.strip_prefix("50%") {
            said.p50_us = duration_us(time.trim());
        } else if let Some(time) = line.strip_prefix("99%") {
            said.p99_us = duration_us(time.trim());
        }
    }
    seen.then_some(said)
}

/// h2load prints no percentiles. Requests that the end of the run cuts off are neither done nor
/// failed.
pub fn h2load(text: &str) -> Option<Said> {
    let mut said = Said::default();
    let (mut version, mut cipher, mut seen) = (None, None, false);
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("requests: ") {
            said.requests = count_before(rest, "succeeded")?;
            let failed = ["failed", "errored", "timeout"].map(|w| count_before(rest, w));
            let bad: u64 = failed.into_iter().flatten().sum();
            said.errors += bad;
            if bad > 0 {
                said.error_text = Some(line.to_owned());
            }
            seen = true;
        } else if let Some(rest) = line.strip_prefix("status codes: ") {
            // h2load takes 4xx and 5xx as failed above, but 3xx as succeeded.
            let bad = count_before(rest, "3xx")?;
            said.errors += bad;
            if bad > 0 {
                said.error_text = Some(line.to_owned());
            }
        } else if let Some(name) = line.strip_prefix("TLS Protocol: ") {
            version = Some(name.to_owned());
        } else if let Some(name) = line.strip_prefix("Cipher: ") {
            cipher = Some(name.to_owned());
        }
    }
    said.cipher = version.zip(cipher).map(|(version, cipher)| format!("{version} {cipher}"));
    seen.then_some(said)
}

/// `connect 3` → 3.
fn last_number(text: &str) -> Option<u64> {
    text.rsplit(' ').next()?.parse().ok()
}

/// The number before `word` in `12 total, 11 done`.
fn count_before(text: &str, word: &str) -> Option<u64> {
    let part = text.split(", ").find_map(|part| part.strip_suffix(word))?;
    part.trim().parse().ok()
}

/// wrk's `635.91us`, `1.20ms`, `2.00s`, `1.5m` in microseconds.
fn duration_us(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (value, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => return None,
    };
    Some(value.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "\
Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   635.91us    0.89ms  12.92ms   93.69%
    Req/Sec    56.20k     8.07k   62.00k    86.54%
  Latency Distribution
     50%  713.00us
     75%    0.86ms
     90%    1.05ms
     99%    2.51ms
  168321 requests in 2.00s, 61.32MB read
";

    #[test]
    fn wrk_without_errors() {
        let said = wrk(WRK).unwrap();
        assert_eq!((said.requests, said.errors), (168_321, 0));
        assert_eq!((said.p50_us, said.p99_us), (Some(713.0), Some(2510.0)));
    }

    #[test]
    fn wrk_adds_up_all_errors() {
        let text = format!(
            "{WRK}  Socket errors: connect 1, read 2, write 3, timeout 4\n  \
             Non-2xx or 3xx responses: 90\nRequests/sec:  84123.45\n"
        );
        let said = wrk(&text).unwrap();
        assert_eq!((said.requests, said.errors), (168_321, 100));
        assert!(wrk("unable to connect to 127.0.0.1:1 Connection refused\n").is_none());
    }

    const H2LOAD: &str = "\
TLS Protocol: TLSv1.3
Cipher: TLS_AES_256_GCM_SHA384
Server Temp Key: X25519 253 bits
Application protocol: h2

finished in 2.00s, 64425.00 req/s, 12.34MB/s
requests: 128850 total, 129170 started, 128850 done, 128847 succeeded, 3 failed, 2 errored, 1 timeout
status codes: 128840 2xx, 7 3xx, 1 4xx, 0 5xx
";

    #[test]
    fn h2load_counts_what_succeeded_and_what_did_not() {
        let said = h2load(H2LOAD).unwrap();
        assert_eq!((said.requests, said.errors), (128_847, 3 + 2 + 1 + 7));
        assert_eq!(said.cipher.as_deref(), Some("TLSv1.3 TLS_AES_256_GCM_SHA384"));
        assert!(h2load("").is_none());
    }

    #[test]
    fn durations_in_all_units() {
        let cases = [("1.50us", 1.5), ("2.00ms", 2e3), ("1.20s", 1.2e6), ("1.00m", 60e6)];
        for (text, us) in cases {
            assert_eq!(duration_us(text), Some(us), "{text}");
        }
    }
}
