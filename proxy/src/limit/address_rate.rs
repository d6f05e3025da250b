//! New connections by client address, before anything is read from them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use config::model::{AddressPrefix, Rate};

use super::clock::{LimitClock, ProcessClock};
use super::key::{Clients, KeyHasher, Origin};
use super::rate::{Store, Tiers};
use super::table::KeyTable;

/// One listener's limit, with a table that outlives reloads.
pub struct AddressRate<C: LimitClock = ProcessClock> {
    clients: Clients,
    tiers: Tiers<C>,
    clock: C,
}

impl<C: LimitClock> AddressRate<C> {
    pub(super) fn new(
        rate: Rate,
        burst: NonZeroU32,
        hasher: Arc<KeyHasher>,
        table: &Arc<KeyTable<C>>,
        clock: &C,
    ) -> AddressRate<C> {
        let clients = Clients::new(hasher, AddressPrefix::default(), 0);
        let tiers = Tiers::new(rate, burst, &Store::of(table, clients.clone()));
        AddressRate { clients, tiers, clock: clock.clone() }
    }

    /// Counts a connection of this client (IPv4 /32, IPv6 /64, and 16 times as many of a /48),
    /// unless it has had too many.
    #[must_use]
    pub fn pass(&self, address: IpAddr) -> bool {
        let origin = Origin::of(&address);
        let asked = self.clients.key().client(&self.clients.at(&origin)).asked(origin);
        self.tiers.ask(&asked, self.clock.now()).wait().is_none()
    }
}
