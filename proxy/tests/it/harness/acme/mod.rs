//! Certificate authorities to order from: Pebble (strict, validates), Caddy's `acme_server` (an
//! independent second one) and a scriptable one for what neither can do; beside them a disk that
//! is easily full. A missing program is a failure, never a skip: `make test` installs them.

pub mod caddy;
pub mod client;
pub mod disk;
pub mod mock_ca;
pub mod pebble;
pub mod port;
pub mod process;

pub use caddy::Caddy;
pub use disk::SmallDisk;
pub use mock_ca::MockCa;
pub use pebble::Pebble;
pub use port::Port;
