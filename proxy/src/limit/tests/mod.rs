//! Behaviour over simulated time.
