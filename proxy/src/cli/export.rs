//! `openclaw-edge certs export`: a stored certificate as two files.

use std::path::Path;

use acme::import::export as write;
use config::value::HostPattern;

use super::orders::{Held, orders};
use super::out::tell;
use super::place::{End, Place};
use crate::clock;
use crate::control::certs;

/// Reads the state directory; no process is needed.
///
/// # Errors
/// Nothing is stored for the name, it is somewhere else, or it cannot be written.
pub fn export(place: &Place, name: &str, out: &Path) -> Result<(), End> {
    let accepted = place.accepted().map_err(End::No)?;
    let state_dir = &accepted.global.state_dir;
    let wanted = certs::wanted(&accepted);
    let host = acme::name::canonical(name).unwrap_or_else(|_| name.to_owned());
    if let Some(place) = elsewhere(&wanted, name, &host) {
        return Err(End::No(place));
    }
    let orders = orders(&accepted).wanted;
    let entry = orders.certificates.iter().find(|entry| entry.label == name);
    let names = entry.map_or_else(|| vec![host.clone()], |entry| entry.names.clone());
    let held = Held::of(state_dir);
    let Some(stored) = held.best(&names, &orders) else {
        let why = match &held.unknown {
            Some(why) => why.clone(),
            None if is_internal(&wanted, &host) => internal(&wanted),
            None => format!("{} has no certificate for {}", state_dir.display(), names.join(", ")),
        };
        return Err(End::No(why));
    };
    if !stored.certificate.is_valid_at(clock::unix_seconds()) {
        eprintln!("note: this certificate is not valid now");
    }
    let exported = write(&stored.certificate, out, name).map_err(|why| End::No(why.to_string()))?;
    tell!("{}\n{}", exported.chain.display(), exported.key.display());
    Ok(())
}

/// Where a certificate is that the ACME store does not keep.
fn elsewhere(wanted: &certs::Wanted, name: &str, host: &str) -> Option<String> {
    if let Some((label, _)) = wanted.issued.iter().find(|(label, _)| label == name) {
        return Some(format!("{label}: {}", internal(wanted)));
    }
    let is_it = |pair: &&certs::FileCertificate| {
        pair.name == name || certs::load_files(pair).is_ok_and(|entry| entry.covers(host))
    };
    let pair = wanted.files.iter().find(is_it)?;
    let (chain, key) = (pair.chain.display(), pair.key.display());
    Some(format!("{} is a pair of files already: {chain} and {key}", pair.name))
}

fn is_internal(wanted: &certs::Wanted, host: &str) -> bool {
    let of = |pattern: &HostPattern| pattern.to_string() == host;
    !wanted.orders_hosts() && wanted.hosts.iter().any(of)
        || wanted.issued.iter().flat_map(|(_, names)| names).any(of)
}

fn internal(wanted: &certs::Wanted) -> String {
    let dir = wanted.ca_dir.display();
    format!("it is of the internal issuer, chain and key in one file each in {dir}/issued")
}
