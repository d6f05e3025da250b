//! openclaw-edge.
