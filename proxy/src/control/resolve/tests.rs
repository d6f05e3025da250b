//! The resolver against a DNS server in the same process.

use std::fs;
use std::time::Instant;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType::{A, AAAA, SRV};

use super::test_dns::{EMPTY, Reply, TestDns, addresses, services};
use super::*;

/// A DNS server, files that name it, and a resolver that uses them.
struct Bed {
    dns: TestDns,
    dir: tempfile::TempDir,
    resolver: Resolver,
}

async fn bed() -> Bed {
    let dns = TestDns::start().await;
    let dir = tempfile::tempdir().unwrap();
    let paths =
        Paths { resolv_conf: dir.path().join("resolv.conf"), hosts: dir.path().join("hosts") };
    write_conf(&paths.resolv_conf, dns.address);
    let resolver = Resolver::with(paths, Duration::from_millis(20));
    Bed { dns, dir, resolver }
}

fn write_conf(file: &std::path::Path, server: std::net::SocketAddr) {
    let text = format!(
        "nameserver {server}\nsearch ns.openclaw.example openclaw.example\n\
         options ndots:2 timeout:1 attempts:1\n"
    );
    fs::write(file, text).unwrap();
}

fn host(name: &str) -> EndpointAddress {
    EndpointAddress::Name { host: name.to_owned(), port: 80 }
}

fn service(name: &str) -> EndpointAddress {
    EndpointAddress::Srv(name.to_owned())
}

impl Bed {
    fn want(&mut self, addresses: &[&EndpointAddress]) {
        let questions = addresses.iter().filter_map(|address| Question::of(address)).collect();
        self.resolver.set_questions(questions);
    }

    /// Address and weight of each endpoint; `None`: unresolved.
    fn found(&self, address: &EndpointAddress) -> Option<Vec<String>> {
        let found = self.resolver.resolved(address)?;
        Some(found.iter().map(|one| format!("{}*{}", one.address, one.weight)).collect())
    }

    fn error(&self) -> Option<String> {
        self.resolver.state()[0].error.clone()
    }

    /// Takes answers in until this holds.
    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Bed) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            let left = end.saturating_duration_since(Instant::now());
            let answer = tokio::time::timeout(left, self.resolver.answer()).await;
            let answer = answer.unwrap_or_else(|_| {
                panic!("{what}: never; {:?}, {:?}", self.resolver.state(), self.dns.asked_by_tcp())
            });
            self.resolver.take(answer);
        }
    }

    async fn until_found(&mut self, address: &EndpointAddress, expected: &[&str]) {
        let what = format!("{address} leads to {expected:?}");
        let expected = Some(expected.iter().map(|&text| text.to_owned()).collect());
        self.until(&what, |bed| bed.found(address) == expected).await;
    }
}

const API: &str = "api.ns.openclaw.example.";

#[tokio::test]
async fn both_families_are_asked_and_changes_are_followed_when_the_ttl_has_passed() {
    let mut bed = bed().await;
    let api = host("api");
    bed.dns.set(API, A, Reply::Records(addresses(API, 0, &["192.0.2.2", "192.0.2.1"])));
    bed.dns.set(API, AAAA, Reply::Records(addresses(API, 60, &["2001:db8::1"])));
    bed.want(&[&api]);
    let all = ["192.0.2.1:80*1", "192.0.2.2:80*1", "[2001:db8::1]:80*1"];
    let started = Instant::now();
    bed.until_found(&api, &all).await;
    bed.dns.set(API, A, Reply::Records(addresses(API, 60, &["192.0.2.3"])));
    bed.until_found(&api, &["192.0.2.3:80*1", "[2001:db8::1]:80*1"]).await;
    // The TTL of 0 counts as 1 s: one question for each of the two answers.
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!((bed.dns.asked(API, A), bed.dns.asked(API, AAAA)), (2, 2));
    let state = bed.resolver.state();
    assert_eq!((state[0].name.as_str(), state[0].ttl), ("api", Duration::from_secs(60)));
    assert!(state[0].next_ms > clock::process_ms() + 50_000 && state[0].error.is_none());
}

#[tokio::test]
async fn first_answers_are_waited_for_good_and_bad_but_silence_only_so_long() {
    let mut bed = bed().await;
    let (api, unknown, silent) = (host("api"), host("unknown"), host("silent"));
    bed.dns.set(API, A, Reply::Records(addresses(API, 60, &["192.0.2.1"])));
    bed.dns.set(API, AAAA, EMPTY);
    bed.want(&[&api, &unknown]);
    let known = bed.resolver.first_answers(Duration::from_secs(30)).await;
    assert_eq!(known, [Question::Host("api".into())]);
    assert_eq!(bed.found(&api), Some(vec!["192.0.2.1:80*1".to_owned()]));
    assert!(bed.resolver.state()[1].error.is_some(), "NXDOMAIN is an answer");

    for kind in [A, AAAA] {
        bed.dns.set("silent.ns.openclaw.example.", kind, Reply::Silence);
    }
    bed.want(&[&api, &silent]);
    let started = Instant::now();
    assert_eq!(bed.resolver.first_answers(Duration::from_millis(50)).await, []);
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    bed.want(&[&api]);
    assert_eq!(bed.resolver.first_answers(Duration::ZERO).await, []);
}

#[tokio::test]
async fn one_family_is_enough_whatever_the_other_does() {
    for other in [EMPTY, Reply::Code(ResponseCode::ServFail), Reply::Silence] {
        let mut bed = bed().await;
        let api = host("api");
        bed.dns.set(API, A, Reply::Records(addresses(API, 60, &["192.0.2.1"])));
        bed.dns.set(API, AAAA, other);
        bed.want(&[&api]);
        bed.until_found(&api, &["192.0.2.1:80*1"]).await;
    }
}

#[tokio::test]
async fn a_family_that_fails_keeps_its_addresses() {
    let mut bed = bed().await;
    let api = host("api");
    bed.dns.set(API, A, Reply::Records(addresses(API, 1, &["192.0.2.1"])));
    bed.dns.set(API, AAAA, Reply::Records(addresses(API, 1, &["2001:db8::1"])));
    bed.want(&[&api]);
    bed.until_found(&api, &["192.0.2.1:80*1", "[2001:db8::1]:80*1"]).await;
    bed.dns.set(API, A, Reply::Records(addresses(API, 1, &["192.0.2.2"])));
    bed.dns.set(API, AAAA, Reply::Code(ResponseCode::ServFail));
    bed.until_found(&api, &["192.0.2.2:80*1", "[2001:db8::1]:80*1"]).await;
    assert!(bed.error().unwrap().contains("AAAA of api.ns.openclaw.example.: SERVFAIL"));
    // Not an error but the word that there is none: they go.
    bed.dns.set(API, AAAA, EMPTY);
    bed.until_found(&api, &["192.0.2.2:80*1"]).await;
    assert_eq!(bed.error(), None);
}

#[tokio::test]
async fn failures_of_every_kind_keep_the_last_good_answer_and_end_with_the_next() {
    let mut bed = bed().await;
    let api = host("api");
    let kinds = [
        (Reply::Code(ResponseCode::ServFail), "SERVFAIL"),
        (Reply::Code(ResponseCode::NXDomain), "NXDOMAIN"),
        (Reply::Silence, "no answer"),
        (EMPTY, "no address"),
    ];
    bed.want(&[&api]);
    for (round, (kind, why)) in kinds.into_iter().enumerate() {
        let ip = format!("192.0.2.{round}");
        let endpoint = format!("{ip}:80*1");
        bed.dns.set(API, A, Reply::Records(addresses(API, 1, &[&ip])));
        bed.dns.set(API, AAAA, EMPTY);
        bed.until_found(&api, &[&endpoint]).await;
        assert_eq!(bed.error(), None);
        bed.dns.set(API, AAAA, kind.clone());
        bed.dns.set(API, A, kind);
        bed.until(why, |bed| bed.error().is_some_and(|error| error.contains(why))).await;
        assert_eq!(bed.found(&api), Some(vec![endpoint]), "{why}");
    }
}

#[tokio::test]
async fn a_name_that_fails_first_is_there_as_soon_as_it_resolves() {
    let mut bed = bed().await;
    let api = host("api");
    bed.want(&[&api]);
    bed.until("a failure", |bed| bed.error().as_deref() == Some("NXDOMAIN")).await;
    assert_eq!(bed.found(&api), None);
    // The search list to its end, the name as written last.
    for name in [API, "api.openclaw.example.", "api."] {
        assert_eq!(bed.dns.asked(name, A), 1, "{name}");
    }
    bed.dns.set(
        "api.openclaw.example.",
        A,
        Reply::Records(addresses("api.openclaw.example.", 60, &["192.0.2.1"])),
    );
    bed.until_found(&api, &["192.0.2.1:80*1"]).await;
}

/// What the search list finds later may be another thing.
#[tokio::test]
async fn silence_does_not_lead_to_the_next_name_of_the_search_list() {
    let mut bed = bed().await;
    let api = host("api");
    bed.dns.set(API, A, Reply::Silence);
    bed.dns.set(API, AAAA, Reply::Silence);
    bed.dns.set("api.", A, Reply::Records(addresses("api.", 60, &["192.0.2.66"])));
    bed.want(&[&api]);
    bed.until("a failure", |bed| bed.error().as_deref() == Some("no answer")).await;
    assert_eq!((bed.found(&api), bed.dns.asked("api.", A)), (None, 0));
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_by_tcp() {
    let mut bed = bed().await;
    let api = host("api");
    let ips: Vec<String> = (0..200).map(|end| format!("192.0.2.{end}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    bed.dns.set(API, A, Reply::Truncated(addresses(API, 60, &ips)));
    bed.dns.set(API, AAAA, EMPTY);
    bed.want(&[&api]);
    bed.until("all of it", |bed| bed.found(&api).is_some_and(|found| found.len() == 200)).await;
    assert_eq!(bed.dns.asked_by_tcp(), 1);
}

const SERVICE: &str = "_http._tcp.api.openclaw.example.";

#[tokio::test]
async fn a_service_is_its_records_of_the_lowest_priority() {
    let mut bed = bed().await;
    let api = service("_http._tcp.api.openclaw.example");
    let (one, two) = ("one.openclaw.example.", "two.openclaw.example.");
    let records =
        [(10, 30, 8001, one), (10, 0, 8002, two), (20, 5, 8003, one), (10, 7, 8004, "gone.")];
    // One target's address comes along, the other has to be asked for.
    let beside = addresses(one, 60, &["192.0.2.1", "192.0.2.2"]);
    bed.dns.set(SERVICE, SRV, Reply::Beside(services(SERVICE, 1, &records), beside));
    bed.dns.set(two, A, Reply::Records(addresses(two, 60, &["192.0.2.3"])));
    bed.dns.set(two, AAAA, EMPTY);
    bed.want(&[&api]);
    let expected = ["192.0.2.1:8001*30", "192.0.2.2:8001*30", "192.0.2.3:8002*1"];
    bed.until_found(&api, &expected).await;
    assert_eq!((bed.dns.asked(one, A), bed.dns.asked(two, A)), (0, 1));
    assert_eq!(bed.resolver.state()[0].name, "srv+_http._tcp.api.openclaw.example");
    // A target that cannot be asked for is where it was; one that is not named is gone.
    bed.dns.set(SERVICE, SRV, Reply::Records(services(SERVICE, 1, &records[1..2])));
    bed.dns.set(two, A, Reply::Code(ResponseCode::ServFail));
    bed.until_found(&api, &["192.0.2.3:8002*1"]).await;
    // "." says that there is none.
    bed.dns.set(SERVICE, SRV, Reply::Records(services(SERVICE, 1, &[(0, 0, 0, ".")])));
    bed.until("none", |bed| bed.error().is_some_and(|why| why.contains("no address"))).await;
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_localhost_needs_nobody() {
    let mut bed = bed().await;
    fs::write(bed.dir.path().join("hosts"), "192.0.2.7 db api\n").unwrap();
    bed.dns.set(API, A, Reply::Records(addresses(API, 60, &["192.0.2.1"])));
    let (api, localhost) = (host("api"), host("localhost"));
    bed.want(&[&api, &localhost]);
    bed.until_found(&api, &["192.0.2.7:80*1"]).await;
    bed.until_found(&localhost, &["127.0.0.1:80*1", "[::1]:80*1"]).await;
    assert_eq!(bed.dns.asked(API, A) + bed.dns.asked("localhost.", A), 0);
}

#[tokio::test]
async fn a_changed_resolv_conf_is_used() {
    let mut bed = bed().await;
    let other = TestDns::start().await;
    let api = host("api");
    bed.dns.set(API, A, Reply::Records(addresses(API, 1, &["192.0.2.1"])));
    other.set(API, A, Reply::Records(addresses(API, 1, &["192.0.2.2"])));
    bed.want(&[&api]);
    bed.until_found(&api, &["192.0.2.1:80*1"]).await;
    // Replaced, as its writers do it: another inode whatever the clock's grain.
    let new = bed.dir.path().join("new");
    write_conf(&new, other.address);
    fs::rename(new, bed.dir.path().join("resolv.conf")).unwrap();
    bed.until_found(&api, &["192.0.2.2:80*1"]).await;
}

#[tokio::test]
async fn many_names_are_asked_for_at_once_but_not_all() {
    let mut bed = bed().await;
    let names: Vec<EndpointAddress> = (0..100).map(|n| host(&format!("silent-{n}"))).collect();
    for n in 0..100 {
        let name = format!("silent-{n}.ns.openclaw.example.");
        bed.dns.set(&name, A, Reply::Silence);
        bed.dns.set(&name, AAAA, Reply::Silence);
    }
    bed.want(&names.iter().collect::<Vec<_>>());
    let answer = bed.resolver.answer().await;
    assert!(bed.resolver.under_way <= AT_ONCE);
    bed.resolver.take(answer);
    let asked = |bed: &Bed| {
        let of = |n: &usize| bed.dns.asked(&format!("silent-{n}.ns.openclaw.example."), A) > 0;
        (0..100).filter(of).count()
    };
    assert_eq!(asked(&bed), bed.resolver.at_once);
    bed.until("all have failed", |bed| bed.resolver.state().iter().all(|s| s.error.is_some()))
        .await;
}

#[tokio::test]
async fn answers_for_forgotten_names_are_ignored() {
    let mut bed = bed().await;
    let (old, new) = (host("old"), host("new"));
    for name in ["old.ns.openclaw.example.", "new.ns.openclaw.example."] {
        bed.dns.set(name, A, Reply::Records(addresses(name, 60, &["192.0.2.1"])));
        bed.dns.set(name, AAAA, EMPTY);
    }
    bed.want(&[&old]);
    let answer = bed.resolver.answer().await;
    bed.want(&[&new]);
    assert_eq!(bed.resolver.take(answer), None);
    assert_eq!(bed.found(&old), None);
    bed.until_found(&new, &["192.0.2.1:80*1"]).await;
    assert_eq!(bed.resolver.under_way, 0);
}
