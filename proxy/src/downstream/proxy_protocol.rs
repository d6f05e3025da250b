//! The PROXY protocol header of connections from trusted proxies (proxy-protocol.txt, 2020).
