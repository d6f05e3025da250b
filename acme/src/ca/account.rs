//! The account at a CA (RFC 8555 §7.3): registered once, restored ever after.

use std::fmt;
use std::sync::Arc;

use instant_acme::{AccountCredentials, ExternalAccountKey, NewAccount, RevocationReason};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::{Class, Failure, Step};
use super::http::unix_now;
use super::{Ca, patiently};

/// What ties a registration to a customer's account at the CA (RFC 8555 §7.3.4). Some CAs take
/// each only once: needed for [`Ca::register`] and never again.
#[derive(Clone, PartialEq, Eq)]
pub struct Eab {
    pub key_id: String,
    /// Decoded, not the base64url that CAs show.
    pub hmac_key: Vec<u8>,
}

/// An account as it is kept on disk. Holds the account's private key.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredAccount {
    /// Of which CA: the directory's address.
    pub directory: String,
    /// As the CA took it; none if it refused it.
    pub contact: Option<String>,
    /// Of the key (RFC 7638): enough to answer HTTP-01 for any token of this account.
    pub thumbprint: String,
    /// Unix seconds.
    pub registered_at: i64,
    credentials: Value,
}

impl StoredAccount {
    /// Its URL at the CA (RFC 8555 §7.3), which CAA records may name (RFC 8657).
    pub fn url(&self) -> Option<&str> {
        self.credentials["id"].as_str()
    }
}

/// An account in use. Cheap to clone.
#[derive(Clone)]
pub struct Account {
    pub(super) inner: instant_acme::Account,
    pub(super) ca: Ca,
    warning: Option<Arc<str>>,
}

/// Why a certificate is revoked (RFC 5280 §5.3.1): the reasons that public CAs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    Unspecified,
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

impl Revocation {
    /// By the name that RFC 5280 gives it.
    pub fn parse(name: &str) -> Option<Revocation> {
        Some(match name {
            "unspecified" => Revocation::Unspecified,
            "keyCompromise" => Revocation::KeyCompromise,
            "superseded" => Revocation::Superseded,
            "cessationOfOperation" => Revocation::CessationOfOperation,
            _ => return None,
        })
    }
}

impl Ca {
    /// A new account with a new P-256 key; agrees to the terms of service. A contact that the CA
    /// does not take is left out, and [`Account::warning`] tells.
    pub async fn register(
        &self,
        contact: Option<&str>,
        eab: Option<&Eab>,
    ) -> Result<(Account, StoredAccount), Failure> {
        if self.directory().external_account_required && eab.is_none() {
            let mut failure = Failure::new(
                Class::Refused,
                Step::Register,
                "the CA registers only its customers: key id and HMAC key (eab) are missing",
            );
            failure.problem = Some("urn:ietf:params:acme:error:externalAccountRequired".to_owned());
            return Err(failure);
        }
        match self.register_once(contact, eab).await {
            Err(refused)
                if contact.is_some()
                    && (refused.is("invalidContact") || refused.is("unsupportedContact")) =>
            {
                let (mut account, stored) = self.register_once(None, eab).await?;
                let warning = format!("registered without a contact: {}", refused.detail);
                account.warning = Some(warning.into());
                Ok((account, stored))
            }
            other => other,
        }
    }

    async fn register_once(
        &self,
        contact: Option<&str>,
        eab: Option<&Eab>,
    ) -> Result<(Account, StoredAccount), Failure> {
        let contact = contact.map(|contact| match contact.contains(':') {
            true => contact.to_owned(),
            false => format!("mailto:{contact}"),
        });
        let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
        let request = NewAccount {
            contact: &contacts,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let eab = eab.map(|eab| ExternalAccountKey::new(eab.key_id.clone(), &eab.hmac_key));
        let (account, credentials) = patiently!(
            Step::Register,
            self.builder().create(&request, self.url().to_owned(), eab.as_ref())
        )?;
        let credentials = serde_json::to_value(&credentials)
            .map_err(|e| Failure::new(Class::Local, Step::Register, e))?;
        let stored = StoredAccount {
            directory: self.url().to_owned(),
            contact,
            thumbprint: account.key_thumbprint().to_owned(),
            registered_at: unix_now(),
            credentials,
        };
        Ok((self.account(account), stored))
    }

    /// The account that was registered earlier, at this CA. No network: whether the CA still
    /// knows it shows at the next step, as [`Class::AccountGone`].
    pub async fn restore(&self, stored: &StoredAccount) -> Result<Account, Failure> {
        let local = |why: &str| Failure::new(Class::Local, Step::Register, why);
        if stored.directory != self.url() {
            return Err(local(&format!("the stored account is one of {}", stored.directory)));
        }
        // Errors of the decoder may quote what they read, and that is the key.
        let credentials: AccountCredentials = serde_json::from_value(stored.credentials.clone())
            .map_err(|_| local("the stored account cannot be read"))?;
        match self.builder().from_credentials(credentials).await {
            Ok(account) => Ok(self.account(account)),
            Err(_) => Err(local("the stored account's key cannot be used")),
        }
    }

    fn account(&self, inner: instant_acme::Account) -> Account {
        Account { inner, ca: self.clone(), warning: None }
    }
}

impl Account {
    /// Of the account's key (RFC 7638), in base64url.
    pub fn thumbprint(&self) -> &str {
        self.inner.key_thumbprint()
    }

    /// What the CA calls the account; a CAA record may name it (RFC 8657).
    pub fn url(&self) -> &str {
        self.inner.id()
    }

    /// What the operator should know of the registration.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// One that is already revoked is no failure.
    pub async fn revoke(&self, leaf_der: &[u8], reason: Revocation) -> Result<(), Failure> {
        let certificate = CertificateDer::from(leaf_der);
        let request = instant_acme::RevocationRequest {
            certificate: &certificate,
            reason: Some(reason.code()),
        };
        match patiently!(Step::Revoke, self.inner.revoke(&request)) {
            Err(failure) if failure.is("alreadyRevoked") => Ok(()),
            other => other,
        }
    }
}

impl Revocation {
    fn code(self) -> RevocationReason {
        match self {
            Revocation::Unspecified => RevocationReason::Unspecified,
            Revocation::KeyCompromise => RevocationReason::KeyCompromise,
            Revocation::Superseded => RevocationReason::Superseded,
            Revocation::CessationOfOperation => RevocationReason::CessationOfOperation,
        }
    }
}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eab").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAccount")
            .field("directory", &self.directory)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("url", &self.url()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_debug() {
        let eab = Eab { key_id: "kid-1".to_owned(), hmac_key: b"topsecret".to_vec() };
        assert_eq!(format!("{eab:?}"), "Eab { key_id: \"kid-1\", .. }");
        let stored = StoredAccount {
            directory: "https://ca.example/dir".to_owned(),
            contact: Some("mailto:ops@openclaw.example".to_owned()),
            thumbprint: "thumb".to_owned(),
            registered_at: 7,
            credentials: serde_json::json!({"key_pkcs8": "topsecret"}),
        };
        assert!(!format!("{stored:?}").contains("topsecret"));
        let text = serde_json::to_string(&stored).unwrap();
        let read: StoredAccount = serde_json::from_str(&text).unwrap();
        assert_eq!(read.credentials, stored.credentials);
        assert_eq!(read.registered_at, 7);
    }
}
