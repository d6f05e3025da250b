//! Executes plans: endpoint, connection, send, relay, retry, record. Nothing in here knows how a
//! route was chosen; nothing above knows an upstream socket.

pub mod answer;
pub mod attempt;
pub mod download;
pub mod gate;
pub mod h1_h1;
pub mod h2_body;
pub mod h2_h1;
pub mod h2_head;
pub mod h2_send;
pub mod h2_tunnel;
pub mod h2_upload;
pub mod outbox;
pub mod pace;
pub mod paced;
pub mod splice;
pub mod tunnel;
pub mod upload;
