//! The fields of a parsed head, and ways to find one.

use httparse::Header;

use super::field::{FieldId, members};

/// The fields of a head with their classification.
#[derive(Clone, Copy)]
pub struct Fields<'b, 's> {
    pub(super) headers: &'s [Header<'b>],
    pub(super) ids: &'s [FieldId],
}

impl<'b, 's> Fields<'b, 's> {
    pub fn iter(&self) -> impl Iterator<Item = (FieldId, &'b str, &'b [u8])> + use<'b, 's> {
        self.ids.iter().zip(self.headers).map(|(id, header)| (*id, header.name, header.value))
    }

    pub fn get(&self, id: FieldId) -> Option<&'b [u8]> {
        let at = self.ids.iter().position(|known| *known == id)?;
        self.headers.get(at).map(|header| header.value)
    }

    pub fn find(&self, name: &str) -> Option<&'b [u8]> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// The field of this kind and lower-case name, if it is there once.
    ///
    /// # Errors
    /// [`Twice`].
    pub fn only(&self, id: FieldId, name: &str) -> Result<Option<&'b [u8]>, Twice> {
        let one_name = id.has_one_name();
        let mut found = None;
        // Kinds are bytes side by side: few fields are looked at.
        for (known, header) in self.ids.iter().zip(self.headers) {
            if *known != id {
                continue;
            }
            if (one_name || header.name.eq_ignore_ascii_case(name))
                && found.replace(header.value).is_some()
            {
                return Err(Twice);
            }
        }
        Ok(found)
    }

    pub fn len(&self) -> usize {
        self.headers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Whether a Connection field nominates this field name.
    pub fn nominated(&self, name: &str) -> bool {
        self.iter()
            .filter(|(id, _, _)| *id == FieldId::Connection)
            .flat_map(|(_, _, value)| members(value))
            .any(|member| member.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// A field is there more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice;
