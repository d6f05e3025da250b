//! `openclaw-edge certs import`: certificates of other programs, through the running process or,
//! where there is none, straight into the state directory.

use std::path::{Path, PathBuf};

use acme::import::{Found, Imported, Kind, read};
use acme::store::{Store, Stored, bundle};
use clap::Args;
use http::{Method, StatusCode};
use serde_json::json;

use super::orders::orders;
use super::out::tell;
use super::place::{End, Place};
use super::socket::{Silence, Socket};
use super::table::{printable, span};
use crate::clock;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// File or directory
    source: PathBuf,
    /// pem, kubernetes, certbot, caddy or traefik; recognised by itself where it is not given
    #[arg(long)]
    kind: Option<Kind>,
    /// Only tell what would be imported
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

/// # Errors
/// Nothing could be read, or not everything could be imported.
pub async fn import(args: &ImportArgs) -> Result<(), End> {
    let now = clock::unix_seconds();
    let source = &args.source;
    let imported = read(source, args.kind, now).map_err(|why| End::No(why.to_string()))?;
    let Imported { kind, found, refused } = imported;
    tell!("{}: {} usable, {} refused ({kind})", source.display(), found.len(), refused.len());
    for one in &refused {
        tell!("  refused  {}: {}", printable(&one.origin), printable(&one.why));
    }
    if args.dry_run {
        found.iter().for_each(|one| tell!("  found    {}", described(one, now)));
        return if refused.is_empty() { Ok(()) } else { Err(End::No(String::new())) };
    }
    let target = Target::choose(&args.place).await?;
    let mut failed = refused.len();
    for one in &found {
        match target.put(one).await {
            Ok(()) => tell!("  imported {}", described(one, now)),
            Err(End::No(why)) => {
                failed += 1;
                tell!("  failed   {}: {}", described(one, now), printable(&why));
            }
            Err(end) => return Err(end),
        }
    }
    tell!("{}", target.told());
    match failed {
        0 => Ok(()),
        count => Err(End::No(format!("{count} not imported"))),
    }
}

fn described(one: &Found, now: i64) -> String {
    let names = one.names.join(", ");
    let mut text = match one.not_after.saturating_sub(now) {
        left @ 1.. => format!("{names} (expires in {})", span(left)),
        _ => names,
    };
    text += &format!(" from {}", one.origin);
    for problem in &one.problems {
        text += &format!("; {problem}");
    }
    printable(&text)
}

/// Where certificates go.
enum Target {
    Process(Socket),
    Directory {
        store: Store,
        /// Held while it is written.
        _lock: acme::storage::Lock,
        stored: Vec<std::sync::Arc<Stored>>,
        /// Directory URLs of the configuration's CAs.
        issuers: Vec<String>,
        path: PathBuf,
    },
}

impl Target {
    /// The process that answers, else the directory that no process holds.
    async fn choose(place: &Place) -> Result<Target, End> {
        let socket = place.socket().map_err(End::Unreachable)?.map(Socket::new);
        let Some(socket) = socket else {
            let file = place.config.display();
            return Target::directory(place, &format!("{file} has no admin.socket to ask it by"));
        };
        match socket.ask(Method::GET, "/api/v1/certificates", None).await {
            // It orders nothing, and has not opened the directory.
            Ok((StatusCode::OK, state)) if state["role"] == "idle" && place.socket.is_none() => {
                Target::directory(place, "it took it over just now: try again")
            }
            Ok(_) => Ok(Target::Process(socket)),
            Err(Silence::Nobody(_)) if place.socket.is_none() => {
                let path = socket.path().display();
                Target::directory(place, &format!("none answers on {path}"))
            }
            Err(silence) => Err(socket.told(silence)),
        }
    }

    fn directory(place: &Place, unreached: &str) -> Result<Target, End> {
        let accepted = place.accepted().map_err(End::No)?;
        let path = accepted.global.state_dir.clone();
        let no = |why: acme::Error| End::No(why.to_string());
        let store = Store::open(&path).map_err(no)?;
        let Some(lock) = store.try_own().map_err(no)? else {
            return Err(End::Unreachable(format!(
                "another process holds {}, and {unreached}; name its admin socket with --socket \
                 PATH",
                path.display()
            )));
        };
        let stored = store.certificates(&mut Vec::new());
        let issuers = orders(&accepted).wanted.issuers.into_values();
        let issuers = issuers.map(|issuer| issuer.ca.directory).collect();
        Ok(Target::Directory { store, _lock: lock, stored, issuers, path })
    }

    async fn put(&self, one: &Found) -> Result<(), End> {
        let no = |why: acme::Error| End::No(why.to_string());
        let chain = one.certificate.chain_pem();
        let key = one.certificate.key_pem().map_err(no)?;
        if !one.valid {
            return Err(End::No("only certificates that are valid now are imported".to_owned()));
        }
        match self {
            Target::Process(socket) => {
                let body = json!({ "chain": chain, "key": key });
                socket.post("/api/v1/certificates/import", &body).await.map(drop)
            }
            Target::Directory { store, stored, issuers, .. } => {
                let text = bundle(None, &chain, &key);
                let new = Stored::parse(&one.origin, text.into_bytes(), "").map_err(no)?;
                let issuers: Vec<&str> = issuers.iter().map(String::as_str).collect();
                let now = clock::unix_seconds();
                let better = |kept: &Stored| kept.rank(&issuers, now) > new.rank(&issuers, now);
                let covers = |kept: &Stored| new.names.iter().all(|name| kept.covers(name));
                if stored.iter().any(|kept| covers(kept) && better(kept)) {
                    let why = "a newer certificate for these names is stored already";
                    return Err(End::No(why.to_owned()));
                }
                store.put_certificate(&new.names, &new.bundle).map_err(no)
            }
        }
    }

    fn told(&self) -> String {
        match self {
            Target::Process(socket) => {
                format!("the process on {} serves them where they are wanted", shown(socket.path()))
            }
            Target::Directory { path, .. } => {
                format!("stored in {}; they serve where an ACME issuer is configured", shown(path))
            }
        }
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
