//! The directories of other ACME clients.

use super::*;

#[test]
fn certbot_with_its_links() {
    let (old, new) = (make(&["app.openclaw.example"]), make(&["app.openclaw.example"]));
    let dir = lay_out(&[
        ("archive/app.openclaw.example/fullchain1.pem", &old.chain()),
        ("archive/app.openclaw.example/privkey1.pem", &old.key),
        ("archive/app.openclaw.example/fullchain2.pem", &new.chain()),
        ("archive/app.openclaw.example/privkey2.pem", &new.key),
        ("live/README", "This directory contains your keys and certificates."),
        ("renewal/app.openclaw.example.conf", "version = 2.1.0"),
    ]);
    let live = dir.path().join("live/app.openclaw.example");
    fs::create_dir(&live).unwrap();
    for file in ["fullchain", "privkey"] {
        let target = format!("../../archive/app.openclaw.example/{file}2.pem");
        symlink(target, live.join(format!("{file}.pem"))).unwrap();
    }
    for source in [dir.path().to_owned(), dir.path().join("live"), live] {
        let imported = import(&source);
        assert_clean(&imported, Kind::Certbot, &[&["app.openclaw.example"]]);
        assert_eq!(
            imported.found[0].certificate.chain_pem(),
            new.chain().replace("\r\n", "\n"),
            "the newest generation"
        );
    }
    // A name whose links lead nowhere is reported beside the good one.
    let broken = dir.path().join("live/broken.openclaw.example");
    fs::create_dir(&broken).unwrap();
    symlink("../../archive/gone/fullchain1.pem", broken.join("fullchain.pem")).unwrap();
    symlink("../../archive/gone/privkey1.pem", broken.join("privkey.pem")).unwrap();
    let imported = import(dir.path());
    assert_eq!(imported.found.len(), 1);
    assert!(imported.refused[0].origin.ends_with("broken.openclaw.example"));
}

#[test]
fn caddy_with_two_authorities() {
    let (a, w) = (make(&["app.openclaw.example"]), make(&["*.gw.openclaw.example"]));
    let (a_chain, w_chain) = (a.chain(), w.chain());
    let le = "caddy/certificates/acme-v02.api.letsencrypt.org-directory";
    let zero = "caddy/certificates/acme.zerossl.com-v2-dv90";
    let host = |ca: &str, host: &str, end: &str| format!("{ca}/{host}/{host}.{end}");
    let note = r#"{"sans":["app.openclaw.example"],"issuer_data":{"url":"https://x"}}"#;
    let mut files = vec![
        (host(le, "app.openclaw.example", "crt"), a_chain.as_str()),
        (host(le, "app.openclaw.example", "key"), &*a.key),
        (host(le, "app.openclaw.example", "json"), note),
        (host(zero, "wildcard_.gw.openclaw.example", "crt"), &w_chain),
        (host(zero, "wildcard_.gw.openclaw.example", "key"), &w.key),
        (host(zero, "wildcard_.gw.openclaw.example", "json"), "damaged"),
        ("caddy/acme/letsencrypt/users/x/x.key".to_owned(), &a.key),
    ];
    let lay = |files: &[(String, &str)]| {
        lay_out(&files.iter().map(|(name, text)| (name.as_str(), *text)).collect::<Vec<_>>())
    };
    let dir = lay(&files);
    let names: &[&[&str]] = &[&["app.openclaw.example"], &["*.gw.openclaw.example"]];
    for source in ["", "caddy", "caddy/certificates"] {
        assert_clean(&import(&dir.path().join(source)), Kind::Caddy, names);
    }
    assert_clean(&import(&dir.path().join(le)), Kind::Caddy, &names[..1]);
    // Half a certificate, and one filed under a foreign name.
    files.remove(4);
    files[2].1 = r#"{"sans":["b.openclaw.example"]}"#;
    let dir = lay(&files);
    let imported = import(dir.path());
    assert_eq!(
        imported.found[0].problems,
        ["it is filed under b.openclaw.example, and not for it"]
    );
    assert!(imported.refused[0].why.contains("wildcard_.gw.openclaw.example.key"));
}

#[test]
fn traefik_of_all_versions() {
    let (a, b) =
        (make(&["a.openclaw.example", "www.a.openclaw.example"]), make(&["b.openclaw.example"]));
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let current = json!({
        "le": {
            "Account": {"Email": "ops@openclaw.example", "PrivateKey": "AAAA", "KeyType": "4096"},
            "Certificates": [
                {"domain": {"main": "a.openclaw.example", "sans": ["www.a.openclaw.example"]},
                 "certificate": encode(&a.chain()), "key": encode(&a.key), "Store": "default"},
                {"domain": {"main": "bad.openclaw.example"}, "certificate": "%", "key": ""},
            ],
        },
        "unused": {"Account": null, "Certificates": null},
        "zerossl": {"Certificates": [
            {"domain": {"main": "b.openclaw.example"},
             "certificate": encode(&b.chain()), "key": encode(&b.key)},
        ]},
    });
    let dir = lay_out(&[("acme.json", &serde_json::to_string_pretty(&current).unwrap())]);
    for source in [dir.path().to_owned(), dir.path().join("acme.json")] {
        let mut imported = import(&source);
        let refused = imported.refused.remove(0);
        assert!(refused.origin.ends_with("resolver le, bad.openclaw.example"));
        let names: &[&[&str]] =
            &[&["a.openclaw.example", "www.a.openclaw.example"], &["b.openclaw.example"]];
        assert_clean(&imported, Kind::Traefik, names);
    }
    let first = json!({"Account": {}, "Certificates": [
        {"Domain": {"Main": "b.openclaw.example", "SANs": null},
         "Certificate": encode(&b.chain()), "Key": encode(&b.key)}]});
    let dir = lay_out(&[("store.json", &first.to_string())]);
    let imported = import(&dir.path().join("store.json"));
    assert_clean(&imported, Kind::Traefik, &[&["b.openclaw.example"]]);
}
