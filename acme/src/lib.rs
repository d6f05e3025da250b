//! Certificates of openclaw-edge.
