//! `access`: addresses, passwords, exceptions.

use super::*;

const BY_FILE: &str = "access: { basic_auth: '${file:/run/secrets/users}' }";

#[test]
fn access_with_its_defaults_and_without() {
    let users = |user: &str| {
        vec![PasswordEntry {
            user: user.into(),
            hash: PasswordHash::Bcrypt(config::value::Secret::new(BCRYPT)),
        }]
    };
    let short = access(&format!("basic_auth: 'ops:{BCRYPT}'"));
    let auth = BasicAuth { users: users("ops"), realm: "restricted".into() };
    let expected = Access {
        allow: Vec::new(),
        deny: Vec::new(),
        basic_auth: Some(auth),
        satisfy: Satisfy::All,
        except: Vec::new(),
    };
    assert_eq!(short, expected);
    let full = access(&format!(
        "allow: [192.0.2.0/24, '2001:db8::/32'], deny: [192.0.2.66], satisfy: any, \
         basic_auth: {{ users: 'ops:{BCRYPT}', realm: Nango staff }}, \
         except: [/oauth/callback, '/webhook/*']"
    ));
    let expected = Access {
        allow: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        deny: vec!["192.0.2.66/32".parse().unwrap()],
        basic_auth: Some(BasicAuth { users: users("ops"), realm: "Nango staff".into() }),
        satisfy: Satisfy::Any,
        except: vec![PathRule::Exact(path("/oauth/callback")), PathRule::Prefix(path("/webhook"))],
    };
    assert_eq!(full, expected);
    assert!(!format!("{full:?}").contains("taRy0"));
}

#[test]
fn access_rules_that_mean_nothing() {
    for (keys, reason) in [
        ("", "access: everybody may use the route"),
        ("satisfy: all, except: [/x]", "access: everybody may use the route"),
        ("allow: []", "access.allow: the list is empty"),
        ("allow: 192.0.2.1", "access.allow: expected a list, found a single value"),
        ("allow: [all]", "access.allow[0]: `all` is neither an address nor a network"),
        (
            "deny: ['::ffff:192.0.2.1']",
            "access.deny[0]: `::ffff:192.0.2.1` is an IPv4 address in IPv6 form",
        ),
        ("allow: [192.0.2.1], satisfy: either", "access.satisfy: `either` is not known here"),
        (
            "allow: [192.0.2.1], except: [x]",
            "access.except[0]: `x` is no path: it does not start with `/`",
        ),
        (
            "allow: [192.0.2.1], except: ['/x*']",
            "access.except[0]: `/x*`: `*` stands for whole segments at the end",
        ),
        (
            "allow: [192.0.2.1], except: ['/*/x']",
            "access.except[0]: `/*/x`: `*` stands for whole segments at the end",
        ),
        (
            "allow: [192.0.2.1], except: [/a/../b]",
            "access.except[0]: `/a/../b` is not in its normal form",
        ),
        ("allow: [192.0.2.1], except: [/x, /x]", "access.except[1]: the path is written twice"),
        ("basic_auth: [a]", "access.basic_auth: expected a mapping, found a list"),
        ("basic_auth: { realm: x }", "access.basic_auth: `users` is missing"),
        (
            "basic_auth: /etc/htpasswd",
            "access.basic_auth: expected the lines of an htpasswd file, found a path",
        ),
        (
            "basic_auth: ''",
            "access.basic_auth: there is no user in the htpasswd: nobody could come in",
        ),
        (
            "basic_auth: 'a:hunter2'",
            "access.basic_auth: line 1 of the htpasswd: a plain text instead of a hash",
        ),
    ] {
        assert_eq!(reasons(&format!("access: {{ {keys} }}")), [reason], "{keys}");
    }
    for realm in ["''", "'a\"b'", "'a\\b'", "\"a\\nb\"", "é", &"x".repeat(129)] {
        let keys = format!("access: {{ basic_auth: {{ users: 'a:{BCRYPT}', realm: {realm} }} }}");
        assert_eq!(reasons(&keys).len(), 1, "{realm}");
    }
    let list = format!("access: {{ basic_auth: {{ users: ['a:{BCRYPT}'] }} }}");
    let reason = "expected the lines of an htpasswd file as one text, found a list";
    assert_eq!(reasons(&list), [format!("access.basic_auth.users: {reason}")]);
}

#[test]
fn a_bad_line_of_a_file_is_named_and_not_shown() {
    let env =
        Htpasswd(format!("ops:{BCRYPT}\neve:$apr1$TOPSECRET$TOPSECRETTOPSECRETTOPS\nTOPSECRET\n"));
    let place = "what `${file:/run/secrets/users}` gives";
    let reasons = with(BY_FILE, &env).0.unwrap_err();
    assert_eq!(
        reasons,
        [
            format!("access.basic_auth: line 2 of {place}: MD5 (`$apr1$`) is not supported"),
            format!("access.basic_auth: line 3 of {place}: no `:` between user and hash"),
        ]
    );
}

#[test]
fn a_file_has_at_most_1000_users() {
    let users = |count: u32| {
        let lines: Vec<String> = (0..count).map(|n| format!("u{n}:{SHA1}")).collect();
        with(BY_FILE, &Htpasswd(lines.join("\n")))
    };
    let (route, warnings) = users(1000);
    assert_eq!(route.unwrap().access.unwrap().basic_auth.unwrap().users.len(), 1000);
    assert_eq!(
        warnings,
        ["access.basic_auth: 1000 hashes in what `${file:/run/secrets/users}` gives are unsalted \
          SHA-1, which is soon guessed"]
    );
    let reasons = users(1001).0.unwrap_err();
    assert!(reasons[0].contains("more than 1000 users"), "{reasons:?}");
    let junk = Htpasswd("x\n".repeat(30));
    let reasons = with(BY_FILE, &junk).0.unwrap_err();
    assert_eq!(reasons.len(), 11);
    assert!(reasons[10].contains("20 more lines"), "{reasons:?}");
}

#[test]
fn what_is_kept_of_it_holds_no_hash_and_opens_no_door() {
    let env = Htpasswd(format!("ops:{BCRYPT}"));
    let keys = format!("{BY_FILE}, rate_limits: [{{ key: client_ip, rate: 50/s }}]");
    let accepted = merge(None, parse("edge.yaml", &file(&keys), &env).unwrap());
    assert_eq!(accepted.quarantined, []);
    let document = last_good::document(&accepted);
    assert!(!document.contains("taRy0"));
    let restored = last_good::restore(&document, &env).unwrap();
    assert_eq!(restored.routes["r"].value, accepted.routes["r"].value);
    let closed = last_good::restore(&document, &NoEnvironment).unwrap();
    assert!(closed.routes.is_empty() && closed.blocked.len() == 1);
    // A line that became bad: who could come in before still can, and nobody else.
    let bad = parse("edge.yaml", &file(&keys), &Htpasswd("ops:plain".into())).unwrap();
    let kept = merge(Some(&accepted), bad);
    assert_eq!(kept.routes["r"].value, accepted.routes["r"].value);
    assert!(kept.quarantined[0].former_serves);
}

#[test]
fn access_rules_that_are_probably_not_meant() {
    let password = format!("basic_auth: 'a:{BCRYPT}'");
    for (keys, warning) in [
        ("allow: [192.0.2.0]", "allow[0]: `192.0.2.0` is one address"),
        ("allow: [192.0.2.1, 192.0.2.1/32]", "allow[1]: `192.0.2.1` is written twice"),
        (
            "allow: [10.0.0.0/8, 192.0.2.0/24], deny: [192.0.2.0/24]",
            "allow[1]: `192.0.2.0/24` is denied as well, and that decides",
        ),
        (
            "allow: [10.0.0.0/8, 10.1.0.0/16]",
            "allow[1]: `10.1.0.0/16` lies in a network that is allowed already",
        ),
        ("allow: [0.0.0.0/0]", "allow[0]: every IPv4 address is allowed"),
        ("deny: ['::/0']", "deny[0]: every IPv6 address is denied"),
        (
            "deny: [10.0.0.0/8, 10.1.0.0/16]",
            "deny[1]: `10.1.0.0/16` lies in a network that is denied already",
        ),
        (
            "allow: [10.1.0.0/16, 10.2.0.0/16], deny: [10.0.0.0/8]",
            "deny[0]: `10.0.0.0/8` denies nobody: every allowed network lies in it, and the longer \
             prefix decides",
        ),
        (
            "allow: [10.1.0.0/16], deny: [192.0.2.0/24]",
            "deny[0]: `192.0.2.0/24` denies nobody: it lies in no allowed network, and others are \
             refused anyway",
        ),
        (
            "allow: [10.0.0.0/8], satisfy: any",
            "satisfy: `satisfy: any` leaves no choice: there is no `basic_auth`",
        ),
        (
            &format!("{password}, satisfy: any"),
            "satisfy: `satisfy: any` leaves no choice: there is no `allow`",
        ),
        (
            &format!("deny: [10.0.0.0/8], {password}, satisfy: any"),
            "satisfy: `satisfy: any` leaves no choice: without `allow` everybody needs the password",
        ),
        (
            &format!("basic_auth: 'a:{SHA1}'"),
            "basic_auth: a hash in the htpasswd is unsalted SHA-1, which is soon guessed",
        ),
    ] {
        assert_eq!(warnings(&format!("access: {{ {keys} }}")), [format!("access.{warning}")]);
    }
    // All of this is meant.
    for keys in [
        "allow: [10.0.0.0/8, 10.1.2.0/24], deny: [10.1.0.0/16, 10.2.0.0/16]",
        "allow: [192.0.2.0/32, '2001:db8::/128']",
        "deny: [192.0.2.1]",
        &format!("allow: [192.0.2.1], {password}, satisfy: any"),
    ] {
        assert_eq!(warnings(&format!("access: {{ {keys} }}")), [""; 0], "{keys}");
    }
}

#[test]
fn exceptions_outside_of_the_route() {
    let warnings = |route: &str, except: &str| {
        warnings(&format!("path: {route}, access: {{ allow: [192.0.2.1], except: ['{except}'] }}"))
    };
    for (route, except) in [
        ("/", "/x"),
        ("/api", "/api"),
        ("/api", "/api/x"),
        ("/api/", "/api/x"),
        ("/api", "/api/x/*"),
    ] {
        assert_eq!(warnings(route, except), [""; 0], "{route} {except}");
    }
    for (route, except) in [("/api", "/apix"), ("/api", "/x/*"), ("{ exact: /api }", "/api/x")] {
        let found = warnings(route, except);
        assert!(found.len() == 1 && found[0].contains("is no path of the route"), "{found:?}");
    }
    for (route, except) in
        [("/api", "/*"), ("/api", "/api/*"), ("/api/x", "/api/*"), ("{ exact: /api }", "/api")]
    {
        let found = warnings(route, except);
        assert!(found.len() == 1 && found[0].contains("leaves nothing"), "{route} {except}");
    }
}
