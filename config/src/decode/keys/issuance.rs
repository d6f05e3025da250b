//! The keys of issuers and certificates.

use super::Keys;

pub(crate) const ISSUER: Keys = Keys {
    path: "issuers.NAME",
    known: &[
        "internal",
        "directory",
        "email",
        "profile",
        "eab",
        "roots",
        "challenge",
        "key",
        "fallback",
        "staging",
        "limits",
    ],
    foreign: &[
        ("server", "write `directory`"),
        ("url", "write `directory`"),
        ("ca", "write `directory`"),
        ("caServer", "write `directory`"),
        ("acme", "write `directory` and `email` here"),
        ("contact", "write `email`"),
        ("ca_file", "write `roots`"),
        ("caBundle", "write `roots`, the path of a PEM file"),
        ("key_type", "write `key`"),
        ("keyType", "write `key`"),
        ("solvers", "write `challenge`"),
        ("externalAccountBinding", "write `eab: { key_id, hmac_key }`"),
    ],
    later: &["dns01"],
};

pub(crate) const INTERNAL: Keys =
    Keys { path: "issuers.NAME.internal", known: &[], foreign: &[], later: &[] };

pub(crate) const EAB: Keys = Keys {
    path: "issuers.NAME.eab",
    known: &["key_id", "hmac_key"],
    foreign: &[
        ("kid", "write `key_id`"),
        ("keyID", "write `key_id`"),
        ("hmac", "write `hmac_key`"),
        ("hmacEncoded", "write `hmac_key`"),
        ("mac_key", "write `hmac_key`"),
        ("secret", "write `hmac_key`"),
    ],
    later: &[],
};

pub(crate) const ORDER_LIMITS: Keys = Keys {
    path: "issuers.NAME.limits",
    known: &[
        "certificates_per_week",
        "certificates_per_hour",
        "domain_per_week",
        "orders_per_3h",
        "failures_per_hour",
    ],
    foreign: &[],
    later: &[],
};

pub(crate) const CERTIFICATE: Keys = Keys {
    path: "certificates.NAME",
    known: &["names", "issuer", "profile", "chain", "key"],
    foreign: &[
        ("hosts", "write `names`"),
        ("domains", "write `names`"),
        ("dnsNames", "write `names`"),
        ("cert", "write `chain`"),
        ("certificate", "write `chain`"),
        ("key_type", "write `key`"),
        ("secretName", "certificates are kept in `state_dir`: remove it"),
    ],
    later: &[],
};
