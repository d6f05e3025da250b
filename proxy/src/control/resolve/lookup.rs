//! One question to DNS and what came of it. A name: its A and AAAA records, asked at once. A
//! service (RFC 2782): its SRV records of the lowest priority and the addresses of their targets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Question;
use super::system::System;
use crate::upstream::endpoint::Resolved;

/// What DNS says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Found(Found),
    /// The name exists, it has no address (NOERROR without records).
    Empty,
    /// Nothing is known: no such name, an error, no answer. The text says which.
    Failed(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The ports of a name are 0: they are the endpoint's.
    pub addresses: Vec<Resolved>,
    /// The shortest of all records.
    pub ttl: Duration,
    /// The addresses by the name that has them.
    pub by_name: ByName,
    /// A part that could not be had: in `addresses` is what it was last.
    pub doubt: Option<String>,
}

/// Addresses by name: the question's own, or the targets of a service.
pub type ByName = BTreeMap<Name, Vec<IpAddr>>;

/// Asks. `former` is what the last good answer held.
pub async fn ask(system: &System, question: &Question, former: &ByName) -> Outcome {
    let Ok(mut name) = Name::from_str_relaxed(question.name()) else {
        return Outcome::Failed("this is no name".to_owned());
    };
    name = name.to_lowercase();
    if matches!(question, Question::Host(_)) {
        let addresses = system.in_hosts_file(&name);
        if !addresses.is_empty() {
            return Found::default().with(&name, addresses, MAX_TTL).into();
        }
    }
    let mut worst = Miss::NoSuchName;
    for candidate in system.candidates(&name) {
        let answer = match question {
            Question::Host(_) => host(system, candidate, former).await,
            Question::Srv(_) => service(system, &candidate, former).await,
        };
        match answer {
            Ok(found) => return found.into(),
            // Another name of the search list may be another thing: not while this one is unsure.
            Err(Miss::Unknown(why)) => return Outcome::Failed(why),
            Err(miss) => worst = worst.max(miss),
        }
    }
    match worst {
        Miss::Empty => Outcome::Empty,
        Miss::NoSuchName => Outcome::Failed("NXDOMAIN".to_owned()),
        Miss::Server(why) | Miss::Unknown(why) => Outcome::Failed(why),
    }
}

/// Why there is no address; the later ones outweigh the earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    NoSuchName,
    Empty,
    /// The server says that it does not know.
    Server(String),
    /// No answer.
    Unknown(String),
}

impl Found {
    fn with(mut self, name: &Name, ips: Vec<IpAddr>, ttl: Duration) -> Found {
        let resolved = |ip: &IpAddr| Resolved { address: (*ip, 0).into(), weight: 1 };
        self.addresses.extend(ips.iter().map(resolved));
        self.by_name.insert(name.clone(), ips);
        self.ttl = ttl;
        self
    }
}

impl Found {
    fn add_target(&mut self, target: Name, ips: Vec<IpAddr>, ttl: Duration) {
        self.ttl = self.ttl.min(ttl);
        self.by_name.insert(target, ips);
    }
}

impl From<Found> for Outcome {
    fn from(found: Found) -> Outcome {
        Outcome::Found(found)
    }
}

async fn host(system: &System, name: Name, former: &ByName) -> Result<Found, Miss> {
    let former = former.get(&name).map(Vec::as_slice).unwrap_or_default();
    let addresses = addresses(&system.resolver, &name, former).await?;
    let found = Found::default().with(&name, addresses.ips, addresses.ttl);
    Ok(Found { doubt: addresses.doubt, ..found })
}

async fn service(system: &System, name: &Name, former: &ByName) -> Result<Found, Miss> {
    let lookup = lookup(&system.resolver, name, RecordType::SRV).await?;
    let records: Vec<&SRV> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            // "." says that there is no such service here (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() => Some(srv),
            _ => None,
        })
        .collect();
    let lowest = records.iter().map(|srv| srv.priority).min().ok_or(Miss::Empty)?;
    let records: Vec<&SRV> = records.into_iter().filter(|srv| srv.priority == lowest).collect();
    let mut found = Found { ttl: ttl(lookup.answers()), ..Found::default() };
    let mut missing = BTreeSet::new();
    for target in records.iter().map(|srv| srv.target.to_lowercase()) {
        match beside(&lookup, &target) {
            Some((ips, ttl)) => found.add_target(target, ips, ttl),
            None => drop(missing.insert(target)),
        }
    }
    for (target, answer) in targets(&system.resolver, missing, former).await {
        match answer {
            Ok(Addresses { ips, ttl, doubt }) => {
                found.doubt = doubt.or(found.doubt);
                found.add_target(target, ips, ttl);
            }
            Err(miss) => {
                found.doubt = Some(format!("{target}: {miss}"));
                let ips = kept(&miss, former.get(&target));
                found.add_target(target, ips, RETRY);
            }
        }
    }
    for srv in records {
        let ips = found.by_name.get(&srv.target.to_lowercase()).into_iter().flatten();
        let weight = srv.weight.max(1);
        let resolved = |ip: &IpAddr| Resolved { address: (*ip, srv.port).into(), weight };
        found.addresses.extend(ips.map(resolved));
    }
    match found.doubt.take_if(|_| found.addresses.is_empty()) {
        Some(why) => Err(Miss::Server(why)),
        None => Ok(found),
    }
}

/// Asks for the addresses of targets that did not come with the records.
async fn targets(
    resolver: &TokioResolver,
    names: BTreeSet<Name>,
    former: &ByName,
) -> Vec<(Name, Result<Addresses, Miss>)> {
    let (mut waiting, mut asking) = (names.into_iter(), JoinSet::new());
    let mut answers = Vec::new();
    loop {
        while asking.len() < TARGETS_AT_ONCE
            && let Some(name) = waiting.next()
        {
            let former = former.get(&name).cloned().unwrap_or_default();
            let resolver = resolver.clone();
            asking.spawn(async move {
                let answer = addresses(&resolver, &name, &former).await;
                (name, answer)
            });
        }
        match asking.join_next().await {
            Some(Ok(answer)) => answers.push(answer),
            // It panicked, which was logged: the target is missing this once.
            Some(Err(_)) => {}
            None => return answers,
        }
    }
}

/// A target that does not exist any more is gone; one that could not be asked for is where it was.
fn kept(miss: &Miss, former: Option<&Vec<IpAddr>>) -> Vec<IpAddr> {
    match miss {
        Miss::NoSuchName | Miss::Empty => Vec::new(),
        Miss::Server(_) | Miss::Unknown(_) => former.cloned().unwrap_or_default(),
    }
}

/// Addresses of a target that came with the SRV records.
fn beside(lookup: &Lookup, target: &Name) -> Option<(Vec<IpAddr>, Duration)> {
    let records = lookup.additionals().iter().filter(|record| record.name == *target);
    let records: Vec<&Record> = records.filter(|record| record.data.ip_addr().is_some()).collect();
    let shortest = records.iter().map(|record| record.ttl).min()?;
    let ips = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    Some((ips, Duration::from_secs(shortest.into())))
}

/// Of both families.
struct Addresses {
    ips: Vec<IpAddr>,
    ttl: Duration,
    doubt: Option<String>,
}

/// A and AAAA at once. One that has records is enough: the other then has [`GRACE`], and where it
/// fails its last good addresses stay.
async fn addresses(
    resolver: &TokioResolver,
    name: &Name,
    former: &[IpAddr],
) -> Result<Addresses, Miss> {
    let mut v4 = Box::pin(lookup(resolver, name, RecordType::A));
    let mut v6 = Box::pin(lookup(resolver, name, RecordType::AAAA));
    let late = |_| Err(Miss::Unknown("no answer".to_owned()));
    let (v4, v6) = tokio::select! {
        first = &mut v4 => {
            let other = if first.is_ok() { timeout(GRACE, v6).await } else { Ok(v6.await) };
            (first, other.unwrap_or_else(late))
        }
        first = &mut v6 => {
            let other = if first.is_ok() { timeout(GRACE, v4).await } else { Ok(v4.await) };
            (other.unwrap_or_else(late), first)
        }
    };
    let mut all = Addresses { ips: Vec::new(), ttl: MAX_TTL, doubt: None };
    let mut worst = Miss::NoSuchName;
    let mut any = false;
    for (kind, is_v6, answer) in [("A", false, v4), ("AAAA", true, v6)] {
        match answer {
            Ok(lookup) => {
                any = true;
                all.ttl = all.ttl.min(ttl(lookup.answers()));
                all.ips.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
            }
            Err(miss) => {
                if matches!(miss, Miss::Server(_) | Miss::Unknown(_)) {
                    all.ips.extend(former.iter().filter(|ip| ip.is_ipv6() == is_v6));
                    all.doubt = Some(format!("{kind} of {name}: {miss}"));
                }
                worst = worst.max(miss);
            }
        }
    }
    if any { Ok(all) } else { Err(worst) }
}

/// Records of one type, at least one.
async fn lookup(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Result<Lookup, Miss> {
    let answer = match resolver.lookup(name.clone(), kind).await {
        Ok(answer) => answer,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            return Err(match none.response_code {
                ResponseCode::NXDomain => Miss::NoSuchName,
                ResponseCode::NoError => Miss::Empty,
                code => Miss::Server(said(code)),
            });
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => return Err(Miss::Server(said(code))),
        Err(NetError::Timeout) => return Err(Miss::Unknown("no answer".to_owned())),
        Err(other) => return Err(Miss::Unknown(other.to_string())),
    };
    let any = answer.answers().iter().any(|record| record.record_type() == kind);
    if any { Ok(answer) } else { Err(Miss::Empty) }
}

fn said(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        other => format!("the DNS server answers {other}"),
    }
}

fn ttl(records: &[Record]) -> Duration {
    let shortest = records.iter().map(|record| record.ttl).min();
    shortest.map_or(MAX_TTL, |seconds| Duration::from_secs(seconds.into()))
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Miss::NoSuchName => f.write_str("NXDOMAIN"),
            Miss::Empty => f.write_str("no record"),
            Miss::Server(why) | Miss::Unknown(why) => f.write_str(why),
        }
    }
}

/// What does not come from DNS is looked at as often as what does at the least.
const MAX_TTL: Duration = Duration::from_secs(60);
/// After a part of an answer failed.
const RETRY: Duration = Duration::from_secs(5);
/// Targets of one service that are asked for at once.
const TARGETS_AT_ONCE: usize = 16;
/// The second family's time after the first one's answer.
const GRACE: Duration = Duration::from_secs(1);
