//! Names of endpoints to addresses: asked of the system's resolver when a name appears and every
//! 10 s; the last good answer is kept. Nothing waits for an answer, boot neither.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use config::model::{EndpointAddress, EndpointSpec};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Interval;

use super::ticks;
use crate::route::table::Snapshot;
use crate::upstream::endpoint::Resolved;

/// What is known of every name.
pub struct Resolver {
    names: HashMap<String, Known>,
    lookup: Lookup,
    /// Between two questions for the same name.
    period: Duration,
    /// Runs from the first wait for an answer.
    refresh: Option<Interval>,
    /// System resolvers under way: a thread each.
    permits: Arc<Semaphore>,
    answers: mpsc::UnboundedReceiver<Answer>,
    tell: mpsc::UnboundedSender<Answer>,
}

/// Asks the system; may take as long as it likes.
type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

#[derive(Default)]
struct Known {
    /// Sorted; `None`: never resolved.
    addresses: Option<Vec<IpAddr>>,
    asking: bool,
    /// Whether the last answer was an error, so that a lasting one is logged once.
    failing: bool,
    /// Refused addresses that were logged.
    refused: Vec<IpAddr>,
}

/// What the system's resolver said to one question.
pub struct Answer {
    name: String,
    result: Result<Vec<IpAddr>, String>,
}

impl Resolver {
    pub fn new() -> Resolver {
        Resolver::with(Arc::new(ask_the_system), REFRESH)
    }

    fn with(lookup: Lookup, period: Duration) -> Resolver {
        let (tell, answers) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Resolver { names: HashMap::new(), lookup, period, refresh: None, permits, answers, tell }
    }

    /// Where a name or SRV record led to last.
    pub fn resolved(&self, address: &EndpointAddress) -> Option<Vec<Resolved>> {
        let EndpointAddress::Name { host, port } = address else { return None };
        let found = self.addresses(host)?;
        let at = |ip: IpAddr| Resolved { address: (ip, *port).into(), weight: 1 };
        Some(found.into_iter().map(at).collect())
    }

    /// The last good addresses of a name.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.names.get(name)?.addresses.clone()
    }

    /// Makes these the names to resolve: asks for the new ones at once, forgets those that are gone.
    pub fn set_names(&mut self, names: BTreeSet<String>) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            if !self.names.contains_key(&name) {
                self.names.insert(name.clone(), Known::default());
                self.ask(&name);
            }
        }
    }

    /// Asks for every name again; one that is being asked for is left alone.
    fn ask_again(&mut self) {
        let names: Vec<String> = self.names.keys().cloned().collect();
        for name in names {
            self.ask(&name);
        }
    }

    /// The next answer; asks for every name again whenever it is time.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            let refresh = self.refresh.get_or_insert_with(|| ticks(self.period));
            tokio::select! {
                answer = self.answers.recv() => return answer,
                _ = refresh.tick() => self.ask_again(),
            }
        }
    }

    /// Takes an answer in; tells whether the name's addresses are other ones now.
    pub fn take(&mut self, answer: Answer) -> bool {
        let Answer { name, result } = answer;
        // Removed from the configuration meanwhile.
        let Some(known) = self.names.get_mut(&name) else { return false };
        known.asking = false;
        let addresses = match result.map(|found| known.admit(&name, found)) {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => return known.fail(&name, "no usable address"),
            Err(why) => return known.fail(&name, &why),
        };
        if std::mem::take(&mut known.failing) {
            tracing::info!("{name} resolves again");
        }
        let changed = known.addresses.as_ref() != Some(&addresses);
        known.addresses = Some(addresses);
        changed
    }

    fn ask(&mut self, name: &str) {
        let Some(known) = self.names.get_mut(name).filter(|known| !known.asking) else { return };
        known.asking = true;
        let (name, tell, permits) = (name.to_owned(), self.tell.clone(), self.permits.clone());
        let lookup = self.lookup.clone();
        tokio::spawn(async move {
            let Ok(permit) = permits.acquire_owned().await else { return };
            let asked = name.clone();
            // The permit goes with the thread, which outlives the timeout.
            let lookup = tokio::task::spawn_blocking(move || {
                let found = lookup(&asked);
                drop(permit);
                found
            });
            let result = match tokio::time::timeout(TIMEOUT, lookup).await {
                Ok(Ok(found)) => found.map_err(|why| why.to_string()),
                Ok(Err(_)) => Err("the lookup ended early".to_owned()),
                Err(_) => Err("no answer within 5 s".to_owned()),
            };
            let _ = tell.send(Answer { name, result });
        });
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new()
    }
}

impl Known {
    /// Sorted and without addresses that DNS must not lead to.
    fn admit(&mut self, name: &str, mut found: Vec<IpAddr>) -> Vec<IpAddr> {
        found.sort_unstable();
        found.dedup();
        let (refused, admitted): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|address| is_forbidden(*address));
        if refused != self.refused {
            for address in &refused {
                tracing::warn!(
                    "{name} resolves to {address}: link-local and metadata addresses are \
                     used only where the configuration writes them as such"
                );
            }
            self.refused = refused;
        }
        admitted
    }

    fn fail(&mut self, name: &str, why: &str) -> bool {
        if !std::mem::replace(&mut self.failing, true) {
            let kept = if self.addresses.is_some() { "; the last good answer stays" } else { "" };
            tracing::warn!("{name} does not resolve: {why}{kept}");
        }
        false
    }
}

fn ask_the_system(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs()?;
    Ok(found.map(|address| address.ip()).collect())
}

/// The names in a snapshot's upstreams.
pub fn names(snapshot: &Snapshot) -> BTreeSet<String> {
    let specs = snapshot.upstreams.iter().map(|upstream| &upstream.spec.endpoints);
    specs.flat_map(|spec| names_of(spec).map(str::to_owned)).collect()
}

/// The names that an upstream's endpoints are resolved from.
pub fn names_of(spec: &[EndpointSpec]) -> impl Iterator<Item = &str> {
    spec.iter().filter_map(|one| match &one.address {
        EndpointAddress::Name { host, .. } => Some(host.as_str()),
        _ => None,
    })
}

/// Addresses that serve credentials to whoever asks from this machine, and their like.
fn is_forbidden(address: IpAddr) -> bool {
    /// The metadata service of EC2 over IPv6.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA,
    }
}

/// Time between two questions for the same name.
const REFRESH: Duration = Duration::from_secs(10);

const AT_ONCE: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn known(name: &str) -> Resolver {
        let mut resolver = Resolver::new();
        resolver.names.insert(name.to_owned(), Known::default());
        resolver
    }

    fn says(name: &str, addresses: &[&str]) -> Answer {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Answer { name: name.to_owned(), result: Ok(addresses) }
    }

    fn fails(name: &str) -> Answer {
        Answer { name: name.to_owned(), result: Err("no such name".to_owned()) }
    }

    #[test]
    fn the_last_good_answer_is_kept() {
        let mut resolver = known("api");
        assert!(!resolver.take(fails("api")));
        assert_eq!(resolver.addresses("api"), None);
        assert!(resolver.take(says("api", &["192.0.2.2", "192.0.2.1"])));
        let both = Some(vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()]);
        assert_eq!(resolver.addresses("api"), both);
        // The order of an answer means nothing.
        assert!(!resolver.take(says("api", &["192.0.2.1", "192.0.2.2", "192.0.2.1"])));
        assert!(!resolver.take(fails("api")));
        assert!(!resolver.take(says("api", &[])));
        assert_eq!(resolver.addresses("api"), both);
        assert!(resolver.take(says("api", &["192.0.2.3"])));
    }

    #[test]
    fn names_do_not_lead_to_metadata() {
        let mut resolver = known("evil");
        let forbidden = ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"];
        assert!(!resolver.take(says("evil", &forbidden)));
        assert_eq!(resolver.addresses("evil"), None);
        assert!(resolver.take(says("evil", &["169.254.1.1", "192.0.2.1"])));
        assert_eq!(resolver.addresses("evil"), Some(vec!["192.0.2.1".parse().unwrap()]));
    }

    #[test]
    fn answers_for_forgotten_names_are_ignored() {
        let mut resolver = known("old");
        resolver.set_names(BTreeSet::new());
        assert!(!resolver.take(says("old", &["192.0.2.1"])));
        assert_eq!(resolver.addresses("old"), None);
    }

    #[tokio::test]
    async fn the_system_is_asked() {
        let mut resolver = Resolver::new();
        resolver.set_names(BTreeSet::from(["localhost".to_owned()]));
        let answer = resolver.answer().await.unwrap();
        assert!(resolver.take(answer));
        assert!(resolver.addresses("localhost").unwrap().iter().all(IpAddr::is_loopback));
    }

    /// Asked again and again, also after a failure; an address that moves is followed.
    #[tokio::test]
    async fn names_are_asked_for_again_and_failures_change_nothing() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let lookup = move |_: &str| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(vec!["192.0.2.1".parse().unwrap()]),
            1 | 2 => Err(io::Error::other("no such name")),
            _ => Ok(vec!["192.0.2.2".parse().unwrap()]),
        };
        let period = Duration::from_millis(30);
        let mut resolver = Resolver::with(Arc::new(lookup), period);
        let started = std::time::Instant::now();
        resolver.set_names(BTreeSet::from(["api".to_owned()]));
        let mut seen = Vec::new();
        for _ in 0..5 {
            let answer = resolver.answer().await.unwrap();
            let changed = resolver.take(answer);
            seen.push((changed, resolver.addresses("api").unwrap()[0].to_string()));
        }
        let seen: Vec<_> = seen.iter().map(|(changed, now)| (*changed, now.as_str())).collect();
        let (one, two) = ("192.0.2.1", "192.0.2.2");
        assert_eq!(seen, [(true, one), (false, one), (false, one), (true, two), (false, two)]);
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        assert!(started.elapsed() >= 4 * period, "a period lies between two questions");
    }
}
