//! When a certificate is to be renewed: a pure function of what is known.
