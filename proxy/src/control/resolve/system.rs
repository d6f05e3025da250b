//! How this machine resolves names: `/etc/resolv.conf` (servers, search list, ndots, timeouts) and
//! `/etc/hosts`, read again when they change.
//!
//! `OPENCLAW_EDGE_RESOLV_CONF` names another file than `/etc/resolv.conf`. Beyond resolv.conf(5) a
//! server may have a port: `nameserver 127.0.0.1:5300`, `nameserver [::1]:5300`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};

/// Where the two files are.
#[derive(Clone)]
pub struct Paths {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
}

/// The files as they were read.
pub struct System {
    /// Asks for fully qualified names only: search list and hosts file are ours, because the
    /// crate looks into the hosts file for the first name of the search list alone.
    pub resolver: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
    seen: (Stamp, Stamp),
}

/// Tells whether a file is the one that was read; `None`: there is none.
type Stamp = Option<(u64, u64, Option<SystemTime>)>;

impl Paths {
    pub fn from_environment() -> Paths {
        let given = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        Paths {
            resolv_conf: given.unwrap_or_else(|| OsString::from("/etc/resolv.conf")).into(),
            hosts: PathBuf::from("/etc/hosts"),
        }
    }
}

impl System {
    /// Reads both files. Without servers to ask, those of the own machine are asked.
    ///
    /// # Errors
    /// A resolver cannot be made at all.
    pub fn read(paths: &Paths) -> Result<System, String> {
        let seen = stamps(paths);
        let file = &paths.resolv_conf;
        let text = fs::read_to_string(file).map_err(|why| why.to_string());
        let (config, mut options) = text.and_then(|text| parse(&text)).unwrap_or_else(|why| {
            tracing::warn!("{}: {why}; names are asked of {FALLBACK}:53", file.display());
            let server = NameServerConfig::udp_and_tcp(IpAddr::V4(FALLBACK));
            (ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
        });
        let ndots = options.ndots;
        options.use_hosts_file = ResolveHosts::Never;
        // We keep answers ourselves, for as long as their TTL says.
        options.cache_size = 0;
        options.timeout = options.timeout.clamp(Duration::from_secs(1), MAX_TIMEOUT);
        // resolv.conf counts tries, the crate further ones.
        options.attempts = options.attempts.saturating_sub(1).min(MAX_RETRIES);
        options.max_active_requests = MAX_ACTIVE;
        let search = search(&config);
        let runtime = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, runtime);
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|why| why.to_string())?;
        Ok(System { resolver, hosts: hosts(&paths.hosts), search, ndots, seen })
    }

    /// Whether a file is another one than when it was read.
    pub fn is_stale(&self, paths: &Paths) -> bool {
        self.seen != stamps(paths)
    }

    /// What the hosts file says about a name as written.
    pub fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.to_lowercase(), kind));
        let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
        let records = found.flat_map(|lookup| lookup.answers().to_vec());
        records.filter_map(|record| RData::ip_addr(&record.data)).collect()
    }

    /// The names to ask for, in order: the search list as resolv.conf(5) has it.
    pub fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return vec![absolute];
        }
        let searched = self.search.iter().filter_map(|domain| {
            let mut name = name.clone().append_domain(domain).ok()?;
            name.set_fqdn(true);
            Some(name)
        });
        let mut names: Vec<Name> = searched.collect();
        // Labels less one is dots.
        let first = usize::from(name.num_labels()) > self.ndots;
        names.insert(if first { 0 } else { names.len() }, absolute);
        names
    }
}

/// # Errors
/// There is no server in it.
fn parse(text: &str) -> Result<(ResolverConfig, ResolverOpts), String> {
    let mut ports: Vec<SocketAddr> = Vec::new();
    let lines = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next());
        match server.and_then(|word| word.parse::<SocketAddr>().ok()) {
            Some(address) => {
                ports.push(address);
                format!("nameserver {}", address.ip())
            }
            None => line.to_owned(),
        }
    });
    let plain = lines.collect::<Vec<_>>().join("\n");
    let (config, options) = parse_resolv_conf(plain).map_err(|why| why.to_string())?;
    let (domain, search, mut servers) = config.into_parts();
    for server in &mut servers {
        let Some(at) = ports.iter().position(|address| address.ip() == server.ip) else { continue };
        let port = ports.remove(at).port();
        server.connections.iter_mut().for_each(|connection| connection.port = port);
    }
    Ok((ResolverConfig::from_parts(domain, search, servers), options))
}

/// The `search` list, else the own domain.
fn search(config: &ResolverConfig) -> Vec<Name> {
    let given = config.search().iter();
    let own = config.domain().filter(|_| config.search().is_empty());
    given.chain(own).filter(|name| !name.is_root()).cloned().collect()
}

fn hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    // Without the file DNS is asked for everything.
    if let Ok(file) = File::open(path)
        && let Err(why) = hosts.read_hosts_conf(file)
    {
        tracing::warn!("{}: {why}", path.display());
    }
    hosts
}

fn stamps(paths: &Paths) -> (Stamp, Stamp) {
    (stamp(&paths.resolv_conf), stamp(&paths.hosts))
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.modified().ok()))
}

const VARIABLE: &str = "OPENCLAW_EDGE_RESOLV_CONF";
const FALLBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// For one try; `options timeout:` may be shorter.
const MAX_TIMEOUT: Duration = Duration::from_secs(5);
/// `options attempts:` may be fewer.
const MAX_RETRIES: usize = 2;
/// Questions under way on one TCP connection: more than we ever ask at once.
const MAX_ACTIVE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn system(resolv_conf: &str, hosts: &str) -> (tempfile::TempDir, Paths, System) {
        let dir = tempfile::tempdir().unwrap();
        let paths =
            Paths { resolv_conf: dir.path().join("resolv.conf"), hosts: dir.path().join("hosts") };
        fs::write(&paths.resolv_conf, resolv_conf).unwrap();
        fs::write(&paths.hosts, hosts).unwrap();
        let system = System::read(&paths).unwrap();
        (dir, paths, system)
    }

    fn asked(system: &System, name: &str) -> Vec<String> {
        let name = Name::from_str_relaxed(name).unwrap();
        system.candidates(&name).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_may_have_ports() {
        let text = "# comment\nnameserver 127.0.0.1:5300\nnameserver 192.0.2.1 # main\n\
             nameserver [::1]:5301\nsearch a.example b.example\noptions ndots:3 timeout:2\n";
        let (config, options) = parse(text).unwrap();
        let shown: Vec<_> = config
            .name_servers()
            .iter()
            .map(|s| (s.ip.to_string(), s.connections.iter().map(|c| c.port).collect::<Vec<_>>()))
            .collect();
        let expected = [("127.0.0.1", 5300), ("192.0.2.1", 53), ("::1", 5301)];
        assert_eq!(shown, expected.map(|(ip, port)| (ip.to_owned(), vec![port; 2])));
        assert_eq!((options.ndots, options.timeout), (3, Duration::from_secs(2)));
        assert!(parse("search a.example\n").is_err());
    }

    #[test]
    fn the_search_list_is_walked_as_resolv_conf_says() {
        let text = "nameserver 192.0.2.1\nsearch ns.svc.example svc.example\noptions ndots:2\n";
        let (_dir, _, system) = system(text, "");
        let short = ["api.ns.svc.example.", "api.svc.example.", "api."];
        assert_eq!(asked(&system, "api"), short);
        let dotted = ["a.b.c.", "a.b.c.ns.svc.example.", "a.b.c.svc.example."];
        assert_eq!(asked(&system, "a.b.c"), dotted);
        assert_eq!(asked(&system, "api."), ["api."]);
        assert_eq!(asked(&system, "localhost"), ["localhost."]);
    }

    #[test]
    fn hosts_are_found_by_any_of_their_names_in_any_case() {
        let text = "127.0.0.1 localhost\n::1 localhost\n192.0.2.7 Db db.openclaw.example # x\n";
        let (_dir, _, system) = system("nameserver 192.0.2.1\n", text);
        let found = |name| system.in_hosts_file(&Name::from_str_relaxed(name).unwrap());
        assert_eq!(found("localhost").len(), 2);
        assert_eq!(found("DB"), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(found("db.openclaw.example"), found("db"));
        assert!(found("openclaw.example").is_empty());
    }

    #[test]
    fn a_machine_without_resolv_conf_asks_itself_and_notices_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let paths =
            Paths { resolv_conf: dir.path().join("resolv.conf"), hosts: dir.path().join("hosts") };
        let system = System::read(&paths).unwrap();
        assert!(!system.is_stale(&paths));
        fs::write(&paths.resolv_conf, "nameserver 192.0.2.1\n").unwrap();
        assert!(system.is_stale(&paths));
        let system = System::read(&paths).unwrap();
        assert!(!system.is_stale(&paths));
        fs::write(&paths.hosts, "192.0.2.7 db\n").unwrap();
        assert!(system.is_stale(&paths));
    }
}
