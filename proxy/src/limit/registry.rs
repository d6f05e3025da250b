//! States of limits by route and name, for as long as something serves that has them: the control
//! plane compiles limits here, sweeps them and shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use config::model::{ListenerLimits, RateLimit};
use config::value::Name;

use super::address_rate::AddressRate;
use super::clock::{LimitClock, ProcessClock};
use super::key::KeyHasher;
use super::table::KeyTable;
use super::{Limit, State};

/// Bounded by what is configured.
pub struct LimitRegistry<C: LimitClock = ProcessClock> {
    clock: C,
    hasher: Arc<KeyHasher>,
    /// By whose it is and name; several where keys of different kinds serve at once: a template
    /// has another key, and a tenant is kept at its former version.
    limits: BTreeMap<(Owner, Name), Vec<Weak<State<C>>>>,
    /// Of new connections, by listener.
    listeners: BTreeMap<Name, Weak<KeyTable<C>>>,
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Route(Name),
    /// One limit for the routes that this template made of all tenants. It counts each tenant by
    /// itself; its keys share one table, so that ten thousand tenants do not have ten thousand.
    Template(Name),
}

impl Owner {
    pub fn name(&self) -> &Name {
        match self {
            Owner::Route(name) | Owner::Template(name) => name,
        }
    }
}

impl Default for LimitRegistry {
    fn default() -> Self {
        LimitRegistry::new(ProcessClock)
    }
}

impl<C: LimitClock> LimitRegistry<C> {
    /// Draws the key that all keys of clients are hashed under.
    pub fn new(clock: C) -> LimitRegistry<C> {
        LimitRegistry {
            clock,
            hasher: Arc::new(KeyHasher::random()),
            limits: BTreeMap::new(),
            listeners: BTreeMap::new(),
        }
    }

    /// The limit of this configuration. It goes on where one of the same owner, name and kind of
    /// key stands that still serves. `tenant`: the one whose requests are asked about. `keys`: how
    /// many it remembers.
    pub fn limit(
        &mut self,
        owner: Owner,
        tenant: Option<&Name>,
        spec: &RateLimit,
        keys: usize,
    ) -> Limit<C> {
        let states = self.limits.entry((owner, spec.name.clone())).or_default();
        let mut known = states.iter().filter_map(Weak::upgrade);
        let state = known.find(|state| state.kind == spec.key).unwrap_or_else(|| {
            let state = Arc::new(State::new(self.clock.clone(), spec.key.clone(), keys));
            states.push(Arc::downgrade(&state));
            state
        });
        let tenant = tenant.map_or(0, |tenant| self.hasher.tenant(tenant.as_str()));
        Limit::new(spec.clone(), self.hasher.clone(), tenant, state, keys)
    }

    /// The limit of new connections of this listener; `None`: there is none.
    pub fn address_rate(
        &mut self,
        listener: &Name,
        limits: &ListenerLimits,
        keys: usize,
    ) -> Option<AddressRate<C>> {
        let rate = limits.connection_rate?;
        let known = self.listeners.get(listener).and_then(Weak::upgrade);
        let table = known.unwrap_or_else(|| {
            let table = Arc::new(KeyTable::new(self.clock.clone(), keys));
            self.listeners.insert(listener.clone(), Arc::downgrade(&table));
            table
        });
        table.set_capacity(keys);
        let hasher = self.hasher.clone();
        Some(AddressRate::new(rate, limits.connection_burst, hasher, &table, &self.clock))
    }

    /// Evicts idle keys and forgets what no longer serves. To be called every second. Returns how
    /// many keys of limits were evicted.
    pub fn sweep(&mut self) -> usize {
        self.limits.retain(|_, states| {
            states.retain(|state| state.strong_count() > 0);
            !states.is_empty()
        });
        self.listeners.retain(|_, table| table.strong_count() > 0);
        for table in self.listeners.values().filter_map(Weak::upgrade) {
            table.sweep();
        }
        let states = self.limits.values().flatten().filter_map(Weak::upgrade);
        states.map(|state| state.sweep()).sum()
    }

    /// How many states of limits serve.
    #[cfg(test)]
    pub fn live(&self) -> usize {
        self.limits.values().flatten().filter(|state| state.strong_count() > 0).count()
    }
}
