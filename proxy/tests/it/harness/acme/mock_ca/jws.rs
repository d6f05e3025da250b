//! The flattened JWS of a request (RFC 8555 §6.2): ES256 of accounts, HS256 of external bindings.

use aws_lc_rs::{digest, hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

#[derive(Debug)]
pub struct Jws {
    pub protected: Value,
    /// Null for POST-as-GET.
    pub payload: Value,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Jws {
    pub fn parse(body: &[u8]) -> Option<Jws> {
        Jws::from_json(&serde_json::from_slice(body).ok()?)
    }

    pub fn from_json(value: &Value) -> Option<Jws> {
        let part = |name: &str| value.get(name).and_then(Value::as_str);
        let (protected, payload) = (part("protected")?, part("payload")?);
        let signed = format!("{protected}.{payload}").into_bytes();
        let payload = match unbase64(payload)? {
            bytes if bytes.is_empty() => Value::Null,
            bytes => serde_json::from_slice(&bytes).ok()?,
        };
        let protected = serde_json::from_slice(&unbase64(protected)?).ok()?;
        Some(Jws { protected, payload, signed, signature: unbase64(part("signature")?)? })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.protected.get(name).and_then(Value::as_str)
    }

    pub fn is_signed_by(&self, jwk: &Value) -> bool {
        let coordinate = |name: &str| unbase64(jwk.get(name)?.as_str()?);
        let (Some(x), Some(y)) = (coordinate("x"), coordinate("y")) else { return false };
        let point = [&[4], x.as_slice(), &y].concat();
        let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
        key.verify(&self.signed, &self.signature).is_ok()
    }

    pub fn is_sealed_by(&self, key: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, &self.signed, &self.signature).is_ok()
    }
}

/// RFC 7638, of a P-256 key.
pub fn thumbprint(jwk: &Value) -> String {
    let text = format!(
        r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#,
        jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]
    );
    base64(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

pub fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// 16 random bytes in base64url.
pub fn random() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    base64(&bytes)
}
