//! The client side of RFC 8555: directory, account, order, over an HTTP client of our own.
