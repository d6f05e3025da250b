//! Which endpoint is next: pure, given the conditions of all.
