//! The clock, against those who know better: the CA's answers, certificates that are here, and the
//! time service's mark.

use std::time::Duration;

use acme::ca::{Ca, CaConfig};
use config::merge::Accepted;
use tokio::time::timeout;

use super::line::Report;
use super::machine::Machine;
use super::process::Process;
use crate::cli::orders::Held;
use crate::cli::table::span;
use crate::clock;
use crate::control::certs;

/// What there is to compare with.
#[derive(Debug, Default)]
struct Seen {
    /// Name of the issuer, its clock minus ours in seconds.
    skew: Option<(String, i64)>,
    /// Name of a certificate, its begin minus our now in seconds.
    future: Option<(String, i64)>,
    /// Certificates that have begun.
    begun: usize,
    /// Who says or ought to know that it is right.
    keeper: Option<String>,
}

pub async fn look(accepted: &Accepted, machine: &Machine, offline: bool, report: &mut Report) {
    let mut seen = Seen { keeper: keeper(machine), ..Seen::default() };
    let now = clock::unix_seconds();
    for (name, begin) in begins(accepted) {
        match begin.saturating_sub(now) {
            ahead @ 1.. if seen.future.as_ref().is_none_or(|(_, most)| ahead > *most) => {
                seen.future = Some((name, ahead));
            }
            1.. => {}
            _ => seen.begun += 1,
        }
    }
    if !offline {
        for (name, issuer) in &certs::wanted(accepted).issuers {
            match ask(&issuer.ca).await {
                Ok(skew) => seen.skew = skew.map(|skew| (name.clone(), skew)).or(seen.skew),
                Err(why) => {
                    let text = format!("issuer {name} cannot be asked: {why}");
                    let fix = "the way out to its directory (DNS, firewall, roots): curl -I URL";
                    report.warn("issuer", text, fix.to_owned());
                }
            }
        }
    }
    tell(&seen, report);
}

async fn ask(known: &CaConfig) -> Result<Option<i64>, String> {
    let mut config = known.clone();
    config.limits.connect = config.limits.connect.min(PATIENCE);
    config.limits.request = config.limits.request.min(PATIENCE);
    match timeout(PATIENCE, Ca::connect(&config)).await {
        Ok(Ok(ca)) => Ok(ca.clock_skew()),
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Certificates that are here, by what they are called; those that cannot be read are left out.
fn begins(accepted: &Accepted) -> Vec<(String, i64)> {
    let held = Held::of(&accepted.global.state_dir).certificates;
    let stored = held.iter().map(|one| (one.names.join(", "), one.certificate.not_before));
    let wanted = certs::wanted(accepted);
    let files = wanted.files.iter().filter_map(|pair| certs::load_files(pair).ok());
    stored.chain(files.map(|entry| (entry.name, entry.not_before))).collect()
}

/// The mark of systemd-timesyncd, or a process that keeps the time.
fn keeper(machine: &Machine) -> Option<String> {
    if machine.has("/run/systemd/timesync/synchronized") {
        return Some("systemd-timesyncd has set it".to_owned());
    }
    let mut names = machine.processes().into_iter().map(|pid| Process::read(machine, pid).name);
    let found = names.find(|name| matches!(name.as_str(), "chronyd" | "ntpd" | "openntpd"))?;
    Some(format!("{found} runs"))
}

fn tell(seen: &Seen, report: &mut Report) {
    let fix = "timedatectl set-ntp true (or chronyd); then timedatectl status";
    if let Some((name, ahead)) = &seen.future {
        let text = format!(
            "the certificate of {name} begins {} from now: this clock is behind",
            span(*ahead)
        );
        return report.error(CHECK, text, fix);
    }
    match (&seen.skew, &seen.keeper) {
        (Some((issuer, skew)), _) => {
            let side = if *skew > 0 { "behind" } else { "ahead of" };
            let text = format!("{} s {side} the clock of {issuer}", skew.unsigned_abs());
            match skew.unsigned_abs() {
                0..=60 => report.ok(CHECK, format!("agrees with {issuer}, within a minute")),
                61..=600 => report.warn(CHECK, text, fix.to_owned()),
                _ => report.error(CHECK, text, fix),
            }
        }
        (None, Some(keeper)) => report.ok(CHECK, format!("{keeper}; compared with no CA")),
        (None, None) if seen.begun > 0 => {
            let text = format!(
                "not behind the {} certificates that are here; more is not known, no CA was asked",
                seen.begun
            );
            report.ok(CHECK, text);
        }
        (None, None) => {
            let text = "unknown: no CA, no certificate and no time service to compare with";
            report.warn(CHECK, text, "timedatectl status, or chronyc tracking".to_owned());
        }
    }
}

const CHECK: &str = "clock";
/// For a CA's directory.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::line::Level;
    use super::super::machine::of_files;
    use super::*;

    fn level(seen: &Seen) -> Level {
        let mut report = Report::default();
        tell(seen, &mut report);
        report.only().level
    }

    #[test]
    fn how_wrong_is_how_bad() {
        let skew = |seconds| Seen { skew: Some(("ca".into(), seconds)), ..Seen::default() };
        for (seconds, expected) in [
            (0, Level::Ok),
            (-60, Level::Ok),
            (61, Level::Warning),
            (-600, Level::Warning),
            (601, Level::Error),
            (i64::MIN, Level::Error),
        ] {
            assert_eq!(level(&skew(seconds)), expected, "{seconds}");
        }
        let future = Some(("app.openclaw.example".to_owned(), 7200));
        assert_eq!(level(&Seen { future, begun: 3, ..skew(0) }), Level::Error);
        assert_eq!(level(&Seen { begun: 1, ..Seen::default() }), Level::Ok);
        let keeper = Some("chronyd runs".to_owned());
        assert_eq!(level(&Seen { keeper, ..Seen::default() }), Level::Ok);
        assert_eq!(level(&Seen::default()), Level::Warning);
    }

    #[test]
    fn who_keeps_the_time() {
        let (_dir, machine) = of_files(&[("/proc/9/comm", "chronyd\n")]);
        assert_eq!(keeper(&machine).unwrap(), "chronyd runs");
        let (_dir, machine) = of_files(&[("/run/systemd/timesync/synchronized", "")]);
        assert!(keeper(&machine).unwrap().contains("timesyncd"));
        let (_dir, machine) = of_files(&[("/proc/9/cmdline", "chronyd")]);
        assert_eq!(keeper(&machine), None);
    }
}
