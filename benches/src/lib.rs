//! Measurements of openclaw-edge: see README.md.
