//! What the policies promise, over random sets of endpoints.
