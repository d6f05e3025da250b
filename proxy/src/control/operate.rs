//! Carries out what the operator asks: endpoints taken out and put back, splits shifted. Each is
//! one line in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use config::merge::Accepted;
use config::value::Name;

use super::command::{Command, Drained, EndpointOf, Event, Lasts, Refusal};
use super::shifts::{Ending, Shift, Shown, configured, in_units, list, split_of};
use super::{Control, Publisher};
use crate::clock;
use crate::route::table::Snapshot;
use crate::upstream::condition::Usable;
use crate::upstream::endpoint::{Member, Target, Upstream};

impl Control {
    pub(super) fn obey(&mut self, event: Event) {
        match event {
            // Who asked has given up.
            Event::Command(command) if command.is_forsaken() => {}
            Event::Command(Command::Drain { of, force, tell }) => {
                let drained = self.publisher.drain(&of, force);
                self.show_drains();
                let _ = tell.send(drained);
            }
            Event::Command(Command::Undrain { of, tell }) => {
                let drained = self.publisher.undrain(&of);
                self.show_drains();
                let _ = tell.send(drained);
            }
            Event::Command(Command::Shift { route, weights, lasts, tell }) => {
                let shifted = self.publisher.shift(&self.accepted, &route, weights, lasts);
                self.republish(shifted.is_ok());
                let _ = tell.send(shifted);
            }
            Event::Command(Command::Unshift { route, tell }) => {
                let unshifted = self.publisher.unshift(&self.accepted, &route);
                self.republish(unshifted.is_ok());
                let _ = tell.send(unshifted);
            }
            Event::Expired => {
                let ended = self.publisher.shifts.expire(clock::process_ms());
                for route in &ended {
                    tracing::info!("route {route}: its shift has run out; {BACK}");
                }
                self.republish(!ended.is_empty());
            }
        }
    }

    /// The same configuration with other weights.
    fn republish(&mut self, changed: bool) {
        if changed {
            let generation =
                self.publisher.publish(&self.accepted, &mut self.resolver, &mut self.checker);
            self.status.update_config(|config| config.generation = generation);
            self.show_shifts();
        }
    }

    /// Forgets drained addresses that have been no endpoints for long.
    pub(super) fn sweep_drains(&mut self) {
        for (upstream, target) in self.publisher.sweep_drains() {
            tracing::info!("upstream {upstream}: {target} is gone for long, no longer drained");
            self.show_drains();
        }
    }

    /// To the admin server.
    fn show_drains(&self) {
        self.status.drains.store(Arc::new(self.publisher.drains()));
    }

    /// To the admin server.
    pub(super) fn show_shifts(&self) {
        self.status.shifts.store(Arc::new(self.publisher.shifts.shown()));
    }
}

impl Command {
    fn is_forsaken(&self) -> bool {
        match self {
            Command::Drain { tell, .. } | Command::Undrain { tell, .. } => tell.is_closed(),
            Command::Shift { tell, .. } | Command::Unshift { tell, .. } => tell.is_closed(),
        }
    }
}

impl Publisher {
    fn drain(&mut self, of: &EndpointOf, force: bool) -> Result<Drained, Refusal> {
        let snapshot = self.shared.snapshot.load_full();
        let upstream = upstream(&snapshot, &of.upstream)?;
        let set = upstream.state.endpoints.load();
        let member = member(&set.members, of)?;
        if !force && is_last(&set.members, member) {
            return Err(Refusal::Conflict(format!(
                "{} is the last endpoint of upstream {} that can be used; without it requests \
                 fail. Drain it all the same with force",
                member.endpoint.text, upstream.name
            )));
        }
        let (now_ms, endpoint) = (clock::process_ms(), &member.endpoint);
        let changed = self.endpoints.drains.insert(&upstream.name, &endpoint.target, now_ms);
        endpoint.condition.set_drained(true, now_ms);
        let requests = endpoint.load.requests.load(Ordering::Relaxed);
        if changed {
            tracing::info!(
                "upstream {}: {} is drained by the admin socket, requests under way: {requests}",
                upstream.name,
                endpoint.text
            );
        }
        Ok(Drained { changed, requests })
    }

    /// Also an address that is no endpoint at the moment: it may come back.
    fn undrain(&mut self, of: &EndpointOf) -> Result<Drained, Refusal> {
        let snapshot = self.shared.snapshot.load_full();
        let upstream = upstream(&snapshot, &of.upstream)?;
        let target = Target::parse(&of.endpoint);
        let changed = target.is_some_and(|at| self.endpoints.drains.remove(&upstream.name, &at));
        let set = upstream.state.endpoints.load();
        let requests = match member(&set.members, of) {
            Ok(Member { endpoint, .. }) => {
                endpoint.condition.set_drained(false, clock::process_ms());
                endpoint.load.requests.load(Ordering::Relaxed)
            }
            Err(_) if changed => 0,
            Err(refusal) => return Err(refusal),
        };
        if changed {
            let (name, endpoint) = (&upstream.name, &of.endpoint);
            tracing::info!("upstream {name}: {endpoint} is put back by the admin socket");
        }
        Ok(Drained { changed, requests })
    }

    /// What is drained, members or not.
    fn drains(&self) -> Vec<(Name, String)> {
        let shown = |(name, target): (&Name, &Target)| (name.clone(), target.to_string());
        self.endpoints.drains.iter().map(shown).collect()
    }

    fn sweep_drains(&mut self) -> Vec<(Name, Target)> {
        let snapshot = self.shared.snapshot.load();
        let is_endpoint = |name: &Name, target: &Target| {
            let upstream = snapshot.upstreams.iter().find(|upstream| upstream.name == *name);
            upstream.is_some_and(|upstream| {
                let set = upstream.state.endpoints.load();
                set.members.iter().any(|member| member.endpoint.target == *target)
            })
        };
        self.endpoints.drains.sweep(clock::process_ms(), is_endpoint)
    }

    /// Takes the shift in; it serves with the next table.
    fn shift(
        &mut self,
        accepted: &Accepted,
        route: &str,
        weights: BTreeMap<Name, u32>,
        lasts: Lasts,
    ) -> Result<Shown, Refusal> {
        let (name, split) = split(accepted, route)?;
        let shift = Shift::new(split, weights, lasts.map(Ending::after))
            .map_err(|why| Refusal::Conflict(format!("route {name}: {why}")))?;
        let shown = shift.shown();
        let now = list(shown.weights.iter().map(|(name, weight)| (name, in_units(*weight))));
        let until = match lasts {
            Some(lasts) => format!("for {} s", lasts.as_secs_f64()),
            None => "until the split changes or the process ends".to_owned(),
        };
        tracing::info!("route {name}: shifted to {now} by the admin socket, {until}");
        self.shifts.set(name.clone(), shift);
        Ok(shown)
    }

    fn unshift(&mut self, accepted: &Accepted, route: &str) -> Result<Shown, Refusal> {
        let (name, split) = split(accepted, route)?;
        if !self.shifts.remove(name.as_str()) {
            return Err(Refusal::Conflict(format!("route {name} is not shifted")));
        }
        tracing::info!("route {name}: its shift is ended by the admin socket; {BACK}");
        let unit = |(name, weight): (Name, u16)| (name, u32::from(weight) * super::shifts::UNIT);
        let configured = configured(split);
        let weights = configured.clone().into_iter().map(unit).collect();
        Ok(Shown { configured, weights, until: None })
    }
}

fn upstream<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Upstream>, Refusal> {
    let found = snapshot.upstreams.iter().find(|upstream| upstream.name.as_str() == name);
    found.ok_or_else(|| {
        let known = snapshot.upstreams.iter().map(|upstream| upstream.name.as_str());
        Refusal::Unknown(format!("there is no upstream {name:?}; there are: {}", few(known)))
    })
}

fn member<'a>(members: &'a [Member], of: &EndpointOf) -> Result<&'a Member, Refusal> {
    let target = Target::parse(&of.endpoint);
    let found = members.iter().find(|member| Some(&member.endpoint.target) == target.as_ref());
    found.ok_or_else(|| {
        let known = few(members.iter().map(|member| &*member.endpoint.text));
        let EndpointOf { upstream, endpoint } = of;
        Refusal::Unknown(format!(
            "upstream {upstream} has no endpoint {endpoint:?}; it has: {known}"
        ))
    })
}

fn split<'a>(
    accepted: &'a Accepted,
    route: &str,
) -> Result<(&'a Name, &'a [config::model::SplitTarget]), Refusal> {
    let Some((name, _)) = accepted.routes.get_key_value(route) else {
        let splits = accepted.routes.keys().filter(|route| has_split(accepted, route));
        let known = few(splits.map(Name::as_str));
        let why = format!("there is no route {route:?}; routes with a split: {known}");
        return Err(Refusal::Unknown(why));
    };
    let split = split_of(accepted, route);
    let split = split.ok_or_else(|| Refusal::Conflict(format!("route {name} has no split")))?;
    Ok((name, split))
}

fn has_split(accepted: &Accepted, route: &Name) -> bool {
    split_of(accepted, route.as_str()).is_some()
}

/// Whether nothing usable would be left without this one.
fn is_last(members: &[Member], one: &Member) -> bool {
    let now_ms = clock::process_ms();
    let usable = |member: &Member| member.endpoint.condition.usable(now_ms);
    let others = || members.iter().filter(|member| !std::ptr::eq(*member, one)).map(usable);
    match usable(one) {
        Usable::Never => false,
        // It serves only while there is nobody else at all.
        Usable::No => others().all(|other| other == Usable::Never),
        Usable::Yes | Usable::Trial | Usable::Starting => {
            others().all(|other| matches!(other, Usable::No | Usable::Never))
        }
    }
}

/// The first ten in order.
fn few<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(10);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    if shown.is_empty() { "none".to_owned() } else { shown + &tail }
}

const BACK: &str = "the configured weights hold again";
