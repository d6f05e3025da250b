//! The records of certificates in the state directory.
