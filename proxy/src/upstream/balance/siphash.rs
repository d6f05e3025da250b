//! SipHash-1-3 with fixed keys: the same key leads to the same
//! endpoint in every process, on every node and in every version. Who knows the keys can choose
//! requests for one endpoint; consistent hashing over nodes cannot hide them.

use crate::siphash::siphash13;

/// Hashes what requests are told apart by, for [`super::Pick::key`].
pub fn key(bytes: &[u8]) -> u64 {
    siphash13(0x6f70_656e_636c_6177, 0x2d65_6467_652d_6b31, bytes)
}

/// A second, independent hash.
pub fn second(bytes: &[u8]) -> u64 {
    siphash13(0x6f70_656e_636c_6177, 0x2d65_6467_652d_6b32, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of two versions must agree: these numbers never change.
    #[test]
    fn keys_are_fixed() {
        assert_eq!(key(b"192.0.2.1"), 0x7e34_1500_39d2_b5bc);
        assert_ne!(key(b"192.0.2.1"), second(b"192.0.2.1"));
    }
}
