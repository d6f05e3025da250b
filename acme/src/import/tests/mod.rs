use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SignatureAlgorithm,
};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use time::OffsetDateTime;

use super::*;

mod programs;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// What a CA hands out, and the key in three forms.
struct Made {
    leaf: String,
    intermediate: String,
    key: String,
    pkcs8: Vec<u8>,
}

impl Made {
    fn chain(&self) -> String {
        format!("{}{}", self.leaf, self.intermediate)
    }

    /// As cert-manager writes it.
    fn pkcs1(&self) -> String {
        // RFC 5208: version, algorithm with its null, and the octets of RFC 8017 behind 26 bytes.
        armour("RSA PRIVATE KEY", &self.pkcs8[26..])
    }

    /// As `openssl ecparam -genkey` writes it.
    fn sec1(&self) -> String {
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.pkcs8);
        let der: EcPrivateKeyRfc5915Der<'_> = pair.unwrap().private_key().as_der().unwrap();
        let parameters = armour("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
        format!("{parameters}{}", armour("EC PRIVATE KEY", der.as_ref()))
    }
}

fn armour(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn make(names: &[&str]) -> Made {
    make_with(names, &PKCS_ECDSA_P256_SHA256, NOW - DAY, NOW + 60 * DAY)
}

fn make_with(names: &[&str], kind: &'static SignatureAlgorithm, from: i64, until: i64) -> Made {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "root");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = Issuer::new(authority, authority_key);
    let middle_key = KeyPair::generate().unwrap();
    let mut middle = CertificateParams::new(Vec::new()).unwrap();
    middle.distinguished_name.push(DnType::CommonName, "intermediate");
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let intermediate = middle.signed_by(&middle_key, &root).unwrap().pem();
    let issuer = Issuer::new(middle, middle_key);
    let key = KeyPair::generate_for(kind).unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = OffsetDateTime::from_unix_timestamp(from).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(until).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap().pem();
    Made { leaf, intermediate, key: key.serialize_pem(), pkcs8: key.serialize_der() }
}

/// A directory with these files.
fn lay_out(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn import(source: &Path) -> Imported {
    read(source, None, NOW).unwrap()
}

/// Kind, names of each, no problem anywhere.
#[track_caller]
fn assert_clean(imported: &Imported, kind: Kind, names: &[&[&str]]) {
    assert_eq!(imported.kind, kind);
    assert_eq!(imported.refused, []);
    let found: Vec<&[String]> = imported.found.iter().map(|f| f.names.as_slice()).collect();
    assert_eq!(found, names);
    for found in &imported.found {
        assert_eq!(found.problems, [""; 0]);
        assert!(found.valid);
        assert_eq!(found.not_after, NOW + 60 * DAY);
        assert_eq!(found.certificate.chain.len(), 2);
        assert!(matches!(found.certificate.key, PrivateKeyDer::Pkcs8(_)));
    }
}

fn secret(name: &str, chain: &str, key: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "platform"},
        "data": {"tls.crt": BASE64_STANDARD.encode(chain), "tls.key": BASE64_STANDARD.encode(key)},
    })
}

#[test]
fn one_bundle_with_all_its_quirks() {
    let made = make(&["app.openclaw.example", "api.openclaw.example"]);
    let bundle = format!(
        "\u{feff}Bag Attributes\n    friendlyName: x\n{}trailing text\n  {}\n{}\n\n# end",
        made.key.replace('\n', "\r\n"),
        made.leaf.replace('\n', "\r\n  "),
        made.intermediate
    );
    let dir = lay_out(&[("app.pem", &bundle)]);
    let imported = import(&dir.path().join("app.pem"));
    assert_clean(&imported, Kind::Pem, &[&["app.openclaw.example", "api.openclaw.example"]]);
    assert!(imported.found[0].origin.ends_with("app.pem"));
}

#[test]
fn a_chain_out_of_order_is_put_right() {
    let made = make(&["app.openclaw.example"]);
    let stray = make(&["other.openclaw.example"]);
    let bundle = format!("{}{}{}{}", made.intermediate, stray.leaf, made.leaf, made.key);
    let dir = lay_out(&[("app.pem", &bundle)]);
    let found = import(&dir.path().join("app.pem")).found.remove(0);
    assert_eq!(found.names, ["app.openclaw.example"]);
    assert_eq!(found.certificate.chain_pem(), made.chain().replace("\r\n", "\n"));
    assert!(found.problems[0].contains("1 more in it that are not of its chain"));
    assert!(found.problems[1].contains("not in order"));
}

#[test]
fn directories_of_pairs_under_the_usual_names() {
    for (chain, key) in [
        ("fullchain.pem", "privkey.pem"),
        ("tls.crt", "tls.key"),
        ("app.crt", "app.key"),
        ("app.pem", "app-key.pem"),
        ("cert.pem", "key.pem"),
        ("fullchain.cer", "app.openclaw.example.key"),
        ("deep/er/app.crt", "deep/er/app.key"),
    ] {
        let made = make(&["app.openclaw.example"]);
        let dir = lay_out(&[(chain, &made.chain()), (key, &made.key), ("readme.txt", "x")]);
        assert_clean(&import(dir.path()), Kind::Pem, &[&["app.openclaw.example"]]);
    }
}

#[test]
fn halves_of_a_chain_are_joined() {
    let made = make(&["app.openclaw.example"]);
    let halves = [("cert.pem", &*made.leaf), ("chain.pem", &made.intermediate)];
    let dir = lay_out(&[halves[0], halves[1], ("privkey.pem", &made.key)]);
    assert_clean(&import(dir.path()), Kind::Pem, &[&["app.openclaw.example"]]);
    // A chain named alone finds its key; the fuller of two chains of one leaf counts.
    let dir = lay_out(&[("app.cer", &made.leaf), ("app.key", &made.key)]);
    let found = import(&dir.path().join("app.cer")).found.remove(0);
    assert!(found.problems[0].contains("without its intermediate"));
    fs::write(dir.path().join("fullchain.cer"), made.chain()).unwrap();
    assert_clean(&import(dir.path()), Kind::Pem, &[&["app.openclaw.example"]]);
}

#[test]
fn a_mounted_secret_is_read_once() {
    let made = make(&["app.openclaw.example"]);
    let dir = lay_out(&[("..2026_11/tls.crt", &made.chain()), ("..2026_11/tls.key", &made.key)]);
    symlink("..2026_11", dir.path().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    assert_clean(&import(dir.path()), Kind::Pem, &[&["app.openclaw.example"]]);
}

#[test]
fn bad_ones_are_reported_and_cost_no_other() {
    let good = make(&["good.openclaw.example"]);
    let other = make(&["other.openclaw.example"]);
    let old = make_with(&["old.openclaw.example"], &PKCS_ECDSA_P256_SHA256, 0, NOW - 3 * DAY);
    let young =
        make_with(&["new.openclaw.example"], &PKCS_ECDSA_P256_SHA256, NOW + DAY, NOW + 9 * DAY);
    let cut = &good.chain()[..300];
    let sealed =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (good_chain, other_chain) = (good.chain(), other.chain());
    let dir = lay_out(&[
        ("cut.crt", cut),
        ("cut.key", &good.key),
        ("good.crt", &good_chain),
        ("good.key", &good.key),
        ("lonely.key", &other.key),
        ("mixed.crt", &other_chain),
        ("mixed.key", &good.key),
        ("new.crt", &young.chain()),
        ("new.key", &young.key),
        ("old.crt", &old.chain()),
        ("old.key", &old.key),
        ("sealed.crt", &other_chain),
        ("sealed.key", sealed),
    ]);
    let imported = import(dir.path());
    let names: Vec<&str> = imported.found.iter().map(|f| f.names[0].as_str()).collect();
    assert_eq!(names, ["good.openclaw.example", "new.openclaw.example", "old.openclaw.example"]);
    let valid: Vec<bool> = imported.found.iter().map(|f| f.valid).collect();
    assert_eq!(valid, [true, false, false]);
    assert_eq!(imported.found[1].problems, ["not valid before 24 hours from now"]);
    assert_eq!(imported.found[2].problems, ["expired 3 days ago"]);
    for (file, why) in [
        ("cut.crt", "certificate"),
        ("mixed.crt", "not that of the certificate"),
        ("sealed.crt", "encrypted"),
        ("lonely.key", "its certificate is not beside it"),
    ] {
        let refused = imported.refused.iter().find(|r| r.origin.ends_with(file));
        assert!(refused.unwrap_or_else(|| panic!("{file}")).why.contains(why), "{imported:?}");
    }
    assert_eq!(imported.refused.len(), 4, "{:?}", imported.refused);
}

#[test]
fn a_secret_of_cert_manager_with_its_rsa_key() {
    let made = make_with(&["app.openclaw.example"], &PKCS_RSA_SHA256, NOW - DAY, NOW + 60 * DAY);
    let yaml = format!(
        "apiVersion: v1\ndata:\n  ca.crt: \"\"\n  tls.crt: {}\n  tls.key: >-\n    {}\nkind: Secret\n\
         metadata:\n  annotations:\n    cert-manager.io/alt-names: app.openclaw.example\n    \
         cert-manager.io/certificate-name: openclaw-tls\n    cert-manager.io/ip-sans: \"\"\n    \
         field.example/note: |-\n      {{\"kind\": \"Pod\"}}\n  creationTimestamp: \
         \"2026-01-01T00:00:00Z\"\n  name: openclaw-tls\n  namespace: platform\ntype: kubernetes.io/tls\n",
        BASE64_STANDARD.encode(made.chain()),
        // Folded at 76, as some tools do.
        BASE64_STANDARD
            .encode(made.pkcs1())
            .as_bytes()
            .chunks(76)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect::<Vec<_>>()
            .join("\n    "),
    );
    assert!(made.pkcs1().starts_with("-----BEGIN RSA PRIVATE KEY"));
    let dir = lay_out(&[("secret.yaml", &yaml), ("crlf/secret.yml", &yaml.replace('\n', "\r\n"))]);
    for file in ["secret.yaml", "crlf/secret.yml"] {
        let mut imported = import(&dir.path().join(file));
        assert_eq!((imported.kind, imported.refused.len()), (Kind::Kubernetes, 0));
        let found = imported.found.remove(0);
        assert!(found.origin.ends_with("Secret platform/openclaw-tls"));
        assert!(found.problems[0].contains("cert-manager still renews it"));
        assert_eq!(found.problems.len(), 1);
        let PrivateKeyDer::Pkcs8(key) = &found.certificate.key else { panic!("not PKCS#8") };
        assert_eq!(key.secret_pkcs8_der(), made.pkcs8);
    }
}

#[test]
fn lists_string_data_and_json() {
    let (a, b) = (make(&["a.openclaw.example"]), make(&["b.openclaw.example"]));
    let mut plain = secret("b", "ignored", "ignored");
    plain["stringData"] = json!({"tls.crt": b.chain(), "tls.key": b.sec1()});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "db"},
            "data": {"password": "eA=="}},
        {"apiVersion": "v1", "kind": "ConfigMap"},
        secret("a", &a.chain(), &a.key),
        plain,
    ]});
    let dir = lay_out(&[("list.json", &serde_json::to_string_pretty(&list).unwrap())]);
    let names: &[&[&str]] = &[&["a.openclaw.example"], &["b.openclaw.example"]];
    assert_clean(&import(&dir.path().join("list.json")), Kind::Kubernetes, names);

    // Several documents, in a directory of manifests.
    let indent = |text: &str| text.trim_end().replace('\n', "\n    ");
    let documents = format!(
        "# exported\n---\n{}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: b}}\n\
         stringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        secret("a", &a.chain(), &a.key),
        indent(&b.chain()),
        indent(&b.key)
    );
    let dir = lay_out(&[("all.yaml", &documents), ("notes.txt", "x")]);
    assert_clean(&import(dir.path()), Kind::Kubernetes, names);
}

#[test]
fn secrets_that_cannot_be_used() {
    let made = make(&["a.openclaw.example"]);
    let mut damaged = secret("damaged", &made.chain(), &made.key);
    damaged["data"]["tls.key"] = json!("***");
    let list = json!({"apiVersion": "v1", "kind": "SecretList", "items": [
        damaged,
        secret("empty", "", ""),
        secret("mixed", &make(&["b.openclaw.example"]).chain(), &made.key),
        {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "s"}},
    ]});
    let dir = lay_out(&[("list.yaml", &list.to_string())]);
    let imported = import(&dir.path().join("list.yaml"));
    let why: Vec<&str> = imported.refused.iter().map(|refused| refused.why.as_str()).collect();
    assert!(imported.found.is_empty());
    for (why, part) in why.iter().zip(["no base64", "missing or empty", "SealedSecret", "not that"])
    {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(why.len(), 4);
}

#[test]
fn what_is_nothing_of_these_is_an_error() {
    let dir = lay_out(&[("a.txt", "hello"), ("b.json", "{\"a\": 1}"), ("c.bin", "\u{0}")]);
    assert!(read(dir.path(), None, NOW).is_err_and(|e| e.to_string().contains("no certificate")));
    for file in ["a.txt", "b.json", "c.bin"] {
        let error = read(&dir.path().join(file), None, NOW).unwrap_err().to_string();
        assert!(error.contains("neither PEM nor"), "{error}");
    }
    assert!(matches!(read(&dir.path().join("none"), None, NOW), Err(Error::Io { .. })));
    assert!(read(&dir.path().join("a.txt"), Some(Kind::Traefik), NOW).is_err());
}

#[test]
fn kinds_have_one_spelling() {
    for kind in [Kind::Pem, Kind::Kubernetes, Kind::Certbot, Kind::Caddy, Kind::Traefik] {
        assert_eq!(kind.to_string().parse::<Kind>(), Ok(kind));
    }
    assert!("nginx".parse::<Kind>().is_err());
}

#[test]
fn no_key_in_what_is_shown() {
    let made = make(&["a.openclaw.example"]);
    let dir = lay_out(&[("a.pem", &format!("{}{}", made.chain(), made.key))]);
    let shown = format!("{:?}", import(dir.path()));
    let line = made.key.lines().nth(1).unwrap();
    assert!(shown.contains("a.openclaw.example") && !shown.contains(line));
}

#[test]
fn export_and_import_again() {
    let made = make_with(&["a.openclaw.example"], &PKCS_RSA_SHA256, NOW - DAY, NOW + 60 * DAY);
    let dir = lay_out(&[("a.pem", &format!("{}{}", made.chain(), made.pkcs1()))]);
    let found = import(dir.path()).found.remove(0);
    let to = dir.path().join("out/there");
    for _ in 0..2 {
        let exported = export(&found.certificate, &to, "*.openclaw.example").unwrap();
        assert_eq!(exported.key, to.join("_.openclaw.example.key"));
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&exported.key), 0o600);
        assert_eq!(mode(&exported.chain) & 0o600, 0o600);
        assert_clean(&import(&to), Kind::Pem, &[&["a.openclaw.example"]]);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2, "no temporary file stays");
    }
    for stem in ["", "a/b", "../x", ".hidden", "-x", "a b"] {
        assert!(export(&found.certificate, &to, stem).is_err(), "{stem:?}");
    }
    // A directory in the key's place: nothing is left behind.
    fs::create_dir_all(to.join("b.key/full")).unwrap();
    assert!(export(&found.certificate, &to, "b").is_err());
    assert_eq!(fs::read_dir(&to).unwrap().count(), 3);
}
