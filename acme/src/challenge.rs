//! What the data plane answers to a validating CA: HTTP-01 tokens and TLS-ALPN-01 certificates.
