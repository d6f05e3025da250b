//! How many descriptors the slow plane may use at once: limits of connections leave it 128.

use rustix::process::{Resource, getrlimit};

/// At most `most`, and less where few files may be open: one part in `parts` of them.
pub fn share(most: usize, parts: u64) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    bounded(most, limit / parts.max(1))
}

fn bounded(most: usize, share: u64) -> usize {
    usize::try_from(share).unwrap_or(usize::MAX).clamp(1, most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_files_leaves_less_and_never_nothing() {
        assert_eq!([0, 64, 256, u64::MAX].map(|share| bounded(256, share)), [1, 64, 256, 256]);
        assert!((1..=256).contains(&share(256, 16)));
    }
}
