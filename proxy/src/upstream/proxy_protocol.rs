//! The PROXY protocol header towards endpoints (proxy-protocol.txt, 2020).
