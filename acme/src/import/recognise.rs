//! Which program laid out a source, told from its shape.

use std::path::Path;

use super::files::{self, MAX_COLLECTION};
use super::{Collected, Kind, caddy, certbot, kubernetes, traefik};
use crate::error::Error;

pub(super) fn kind(source: &Path) -> Result<Kind, Error> {
    if source.is_dir() { Ok(folder(source)) } else { file(source) }
}

fn folder(dir: &Path) -> Kind {
    if dir.join(traefik::FILE).is_file() {
        Kind::Traefik
    } else if certbot::is_one(dir) {
        Kind::Certbot
    } else if caddy::is_one(dir) {
        Kind::Caddy
    } else if has_manifest(dir) {
        Kind::Kubernetes
    } else {
        Kind::Pem
    }
}

fn has_manifest(dir: &Path) -> bool {
    let Ok(folders) = files::walk(dir, &mut Collected::default()) else { return false };
    let any = |endings: &[&str]| {
        let mut all = folders.iter().flat_map(|folder| &folder.files);
        all.any(|file| endings.iter().any(|end| file.ends_with(end)))
    };
    any(&[".yaml", ".yml"]) && !any(&[".pem", ".crt", ".cer", ".key"])
}

fn file(path: &Path) -> Result<Kind, Error> {
    let bytes = files::read(path, MAX_COLLECTION)?;
    // At the start of a line: in a manifest it is indented.
    let is_pem = bytes.split(|&byte| byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ") || line.starts_with(b"\xef\xbb\xbf-----BEGIN ")
    });
    if is_pem {
        return Ok(Kind::Pem);
    }
    let place = path.display().to_string();
    let unknown = |why: &dyn std::fmt::Display| {
        let why =
            format_args!("neither PEM nor a Secret of Kubernetes nor Traefik's acme.json: {why}");
        Error::corrupt(&place, why)
    };
    let documents = kubernetes::documents(&place, &bytes).map_err(|e| unknown(&super::bare(e)))?;
    if documents.iter().any(kubernetes::is_one) {
        Ok(Kind::Kubernetes)
    } else if documents.iter().any(traefik::is_one) {
        Ok(Kind::Traefik)
    } else {
        Err(unknown(&"it holds nothing of theirs"))
    }
}
