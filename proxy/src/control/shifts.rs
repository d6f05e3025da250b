//! Splits whose weights an operator has shifted for a while, without touching the file. Pure: the
//! arithmetic, and what a reload and time make of a shift.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::merge::Accepted;
use config::model::{Action, SplitTarget};
use config::value::Name;

/// Weights by upstream, in [`UNIT`]s of what the configuration calls 1.
pub type Weights = BTreeMap<Name, u32>;

/// So finely can the rest of a split be shared out.
pub const UNIT: u32 = 1000;

/// What is shifted now, by route.
#[derive(Default)]
pub struct Shifts(BTreeMap<Name, Shift>);

/// One route's shift.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// As the operator said it, in weights of the configuration.
    named: BTreeMap<Name, u32>,
    /// What the configuration says.
    split: Vec<SplitTarget>,
    weights: Weights,
    ending: Option<Ending>,
}

/// When a shift ends, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub process_ms: u64,
    pub unix_ms: u64,
}

/// A shift as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub configured: BTreeMap<Name, u16>,
    pub weights: Weights,
    /// Unix milliseconds; `None`: until the split changes or the process ends.
    pub until: Option<u64>,
}

impl Shift {
    /// Weights for some upstreams of a split; the others share what is left of its sum as they
    /// share it in the configuration. Named all, the sum may be another one.
    ///
    /// # Errors
    /// A sentence: an upstream that is no part of it, or weights that cannot be.
    pub fn new(
        split: &[SplitTarget],
        named: BTreeMap<Name, u32>,
        ending: Option<Ending>,
    ) -> Result<Shift, String> {
        let weights = weights(split, &named)?;
        Ok(Shift { named, split: split.to_vec(), weights, ending })
    }

    pub fn shown(&self) -> Shown {
        Shown {
            configured: configured(&self.split),
            weights: self.weights.clone(),
            until: self.ending.map(|ending| ending.unix_ms),
        }
    }

    /// Takes over what the file says now. A shift without an end lasts until its split changes;
    /// one with an end until other upstreams are in it.
    fn follow(&mut self, split: Option<&[SplitTarget]>) -> Result<(), String> {
        let split = split.ok_or("the route has no split any more")?;
        if split == self.split {
            return Ok(());
        }
        let names = |split: &[SplitTarget]| -> BTreeSet<Name> {
            split.iter().map(|part| part.upstream.clone()).collect()
        };
        if names(split) != names(&self.split) {
            return Err("other upstreams are in the split".to_owned());
        }
        if self.ending.is_none() {
            return Err("the split has changed".to_owned());
        }
        *self = Shift::new(split, self.named.clone(), self.ending)?;
        Ok(())
    }
}

impl Shifts {
    pub fn set(&mut self, route: Name, shift: Shift) {
        self.0.insert(route, shift);
    }

    /// False: it was not shifted.
    pub fn remove(&mut self, route: &str) -> bool {
        self.0.remove(route).is_some()
    }

    /// The weights of a route that is shifted.
    pub fn weights(&self, route: &Name) -> Option<&Weights> {
        self.0.get(route).map(|shift| &shift.weights)
    }

    /// Follows the configuration; returns the routes whose shift ends with it, and why.
    pub fn follow(&mut self, accepted: &Accepted) -> Vec<(Name, String)> {
        let mut ended = Vec::new();
        self.0.retain(|route, shift| {
            let followed = shift.follow(split_of(accepted, route.as_str()));
            let kept = followed.is_ok();
            ended.extend(followed.err().map(|why| (route.clone(), why)));
            kept
        });
        ended
    }

    /// Process milliseconds of the next end.
    pub fn next_end(&self) -> Option<u64> {
        self.0.values().filter_map(|shift| shift.ending).map(|ending| ending.process_ms).min()
    }

    /// Ends what has run out; returns the routes.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Name> {
        let over = |shift: &Shift| shift.ending.is_some_and(|ending| ending.process_ms <= now_ms);
        let ended: Vec<Name> =
            self.0.iter().filter(|(_, shift)| over(shift)).map(|(name, _)| name.clone()).collect();
        for route in &ended {
            self.0.remove(route);
        }
        ended
    }

    pub fn shown(&self) -> BTreeMap<Name, Shown> {
        self.0.iter().map(|(route, shift)| (route.clone(), shift.shown())).collect()
    }
}

/// The parts of a route's split; `None`: it has none, or there is no such route.
pub fn split_of<'a>(accepted: &'a Accepted, route: &str) -> Option<&'a [SplitTarget]> {
    match &accepted.routes.get(route)?.value.action {
        Action::Split(parts) => Some(parts),
        _ => None,
    }
}

pub fn configured(split: &[SplitTarget]) -> BTreeMap<Name, u16> {
    split.iter().map(|part| (part.upstream.clone(), part.weight)).collect()
}

/// `web 80, web-canary 20`.
pub fn list<'a>(weights: impl IntoIterator<Item = (&'a Name, f64)>) -> String {
    let shown = weights.into_iter().map(|(name, weight)| format!("{name} {weight}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// In weights of the configuration.
pub fn in_units(weight: u32) -> f64 {
    f64::from(weight) / f64::from(UNIT)
}

impl Ending {
    pub fn after(lasts: Duration) -> Ending {
        let ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX / 4);
        Ending {
            process_ms: crate::clock::process_ms().saturating_add(ms),
            unix_ms: crate::clock::unix_ms().saturating_add(ms),
        }
    }
}

fn weights(split: &[SplitTarget], named: &BTreeMap<Name, u32>) -> Result<Weights, String> {
    if named.is_empty() {
        return Err("no weight is given".to_owned());
    }
    let parts = configured(split);
    if let Some(other) = named.keys().find(|name| !parts.contains_key(*name)) {
        let parts = parts.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
        return Err(format!("{other} is no part of the split, which has {parts}"));
    }
    let total: u64 = parts.values().map(|weight| u64::from(*weight)).sum();
    let given: u64 = named.values().map(|weight| u64::from(*weight)).sum();
    if total.max(given).saturating_mul(UNIT.into()) > u32::MAX.into() {
        return Err(format!("the weights add up to more than {}", u32::MAX / UNIT));
    }
    let rest: Vec<(&Name, u64)> = parts
        .iter()
        .filter(|(name, _)| !named.contains_key(*name))
        .map(|(name, weight)| (name, u64::from(*weight)))
        .collect();
    let mut all: Weights =
        named.iter().map(|(name, weight)| (name.clone(), weight.saturating_mul(UNIT))).collect();
    if rest.is_empty() {
        return if given > 0 { Ok(all) } else { Err("all weights are 0".to_owned()) };
    }
    let Some(left) = total.checked_sub(given) else {
        return Err(format!(
            "the weights given add up to {given}, those of the split to {total}: give less, or \
             name every upstream of the split"
        ));
    };
    let shared = share(left * u64::from(UNIT), &rest).ok_or_else(|| {
        let names = rest.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        format!("the rest of {left} is for {names}, configured with 0: name the weight as well")
    })?;
    all.extend(shared);
    Ok(all)
}

/// Shares `amount` in these proportions, exactly: the largest remainders are rounded up. `None`:
/// something is to be shared and all proportions are 0.
fn share(amount: u64, parts: &[(&Name, u64)]) -> Option<Weights> {
    let whole: u64 = parts.iter().map(|(_, weight)| weight).sum();
    if whole == 0 && amount > 0 {
        return None;
    }
    let whole = whole.max(1);
    let mut shares: Vec<(&Name, u64, u64)> = parts
        .iter()
        .map(|(name, weight)| (*name, amount * weight / whole, amount * weight % whole))
        .collect();
    let missing = amount - shares.iter().map(|(_, share, _)| share).sum::<u64>();
    // Stable: of equal remainders the first name's.
    shares.sort_by_key(|(.., remainder)| std::cmp::Reverse(*remainder));
    let up = |at: usize| u64::from((at as u64) < missing);
    let exact = shares.iter().enumerate().map(|(at, (name, share, _))| {
        ((*name).clone(), u32::try_from(share + up(at)).unwrap_or(u32::MAX))
    });
    Some(exact.collect())
}

#[cfg(test)]
mod tests {
    use config::NoEnvironment;
    use config::merge::merge;
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn split(parts: &[(&str, u16)]) -> Vec<SplitTarget> {
        let target = |(upstream, weight): &(&str, u16)| SplitTarget {
            upstream: name(upstream),
            weight: *weight,
        };
        parts.iter().map(target).collect()
    }

    fn named(parts: &[(&str, u32)]) -> BTreeMap<Name, u32> {
        parts.iter().map(|(upstream, weight)| (name(upstream), *weight)).collect()
    }

    fn shifted(parts: &[(&str, u16)], to: &[(&str, u32)]) -> Result<String, String> {
        let weights = weights(&split(parts), &named(to))?;
        Ok(list(weights.iter().map(|(name, weight)| (name, in_units(*weight)))))
    }

    #[test]
    fn the_others_share_the_rest() {
        for (parts, to, expected) in [
            (&[("web", 95), ("canary", 5)][..], &[("canary", 20)][..], "canary 20, web 80"),
            (&[("a", 1), ("b", 1), ("c", 2)], &[("a", 2)], "a 2, b 0.667, c 1.333"),
            (&[("blue", 100), ("green", 0)], &[("green", 100)], "blue 0, green 100"),
            (&[("blue", 100), ("green", 0)], &[("blue", 0), ("green", 1)], "blue 0, green 1"),
            (&[("a", 60), ("b", 40), ("c", 0)], &[("c", 50)], "a 30, b 20, c 50"),
        ] {
            assert_eq!(shifted(parts, to).as_deref(), Ok(expected), "{parts:?} {to:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        let both = &[("blue", 100), ("green", 0)][..];
        for (to, why) in [
            (&[][..], "no weight is given"),
            (&[("red", 1)], "red is no part of the split, which has blue, green"),
            (&[("green", 101)], "add up to 101, those of the split to 100"),
            (&[("blue", 50)], "the rest of 50 is for green, configured with 0"),
            (&[("blue", 0), ("green", 0)], "all weights are 0"),
            (&[("blue", u32::MAX)], "add up to more than 4294967"),
        ] {
            let told = shifted(both, to).unwrap_err();
            assert!(told.contains(why), "{to:?}: {told}");
        }
    }

    proptest! {
        /// The sum is kept, what is named is what was asked for, the others keep their proportion.
        #[test]
        fn sums_and_proportions(
            weights_of in prop::collection::vec(0_u16..=1000, 2..12),
            first in 0_u32..=1000,
        ) {
            let names: Vec<String> = (0..weights_of.len()).map(|n| format!("u{n}")).collect();
            let parts: Vec<(&str, u16)> =
                names.iter().map(String::as_str).zip(weights_of.iter().copied()).collect();
            let total: u32 = weights_of.iter().map(|weight| u32::from(*weight)).sum();
            let others = total - u32::from(weights_of[0]);
            match weights(&split(&parts), &named(&[("u0", first)])) {
                Err(_) => prop_assert!(first > total || (others == 0 && first < total)),
                Ok(shifted) => {
                    prop_assert_eq!(shifted.values().sum::<u32>(), total * UNIT);
                    prop_assert_eq!(shifted[&name("u0")], first * UNIT);
                    let left = f64::from(total - first) * f64::from(UNIT);
                    for (upstream, weight) in &parts[1..] {
                        let exact = left * f64::from(*weight) / f64::from(others.max(1));
                        let got = f64::from(shifted[&name(upstream)]);
                        prop_assert!((got - exact).abs() < 1.0, "{upstream}: {got} of {exact}");
                    }
                }
            }
        }
    }

    fn accepted(action: &str) -> Accepted {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:1'] }} }}\nupstreams:\n  \
             u: {{ endpoints: ['127.0.0.1:2'] }}\nroutes:\n  \
             r: {{ hosts: [a.openclaw.example], {action} }}\n"
        );
        merge(None, config::parse("edge.yaml", &text, &NoEnvironment).unwrap())
    }

    /// The route with this split.
    fn splits(parts: &[(&str, u16)]) -> Accepted {
        let mut accepted = accepted("upstream: u");
        let route = accepted.routes.get_mut("r").unwrap();
        let action = Action::Split(split(parts));
        route.value = std::sync::Arc::new(config::model::Route {
            action,
            ..config::model::Route::clone(&route.value)
        });
        accepted
    }

    fn one(ending: Option<Ending>) -> Shifts {
        let mut shifts = Shifts::default();
        let parts = split(&[("web", 95), ("canary", 5)]);
        shifts.set(name("r"), Shift::new(&parts, named(&[("canary", 20)]), ending).unwrap());
        shifts
    }

    const SOON: Option<Ending> = Some(Ending { process_ms: 1_000, unix_ms: 5_000 });

    #[test]
    fn a_shift_with_an_end_follows_other_weights_and_ends_with_other_upstreams() {
        let mut shifts = one(SOON);
        assert_eq!(shifts.follow(&splits(&[("canary", 5), ("web", 95)])), []);
        assert_eq!(shifts.follow(&splits(&[("web", 50), ("canary", 50)])), []);
        let now = &shifts.shown()[&name("r")];
        assert_eq!(now.weights, named(&[("canary", 20_000), ("web", 80_000)]));
        assert_eq!((now.configured[&name("web")], now.until), (50, Some(5_000)));
        let ended = shifts.follow(&splits(&[("web", 90), ("canary", 5), ("new", 5)]));
        assert_eq!(ended, [(name("r"), "other upstreams are in the split".to_owned())]);
        assert!(shifts.shown().is_empty());
        // Not possible with what is configured now.
        let ended = one(SOON).follow(&splits(&[("web", 5), ("canary", 5)]));
        assert!(ended[0].1.contains("add up to 20"), "{ended:?}");
    }

    #[test]
    fn a_shift_without_an_end_lasts_until_the_split_changes() {
        let mut shifts = one(None);
        assert_eq!(shifts.next_end(), None);
        assert_eq!(shifts.expire(u64::MAX), []);
        assert_eq!(shifts.follow(&splits(&[("web", 95), ("canary", 5)])), []);
        let ended = shifts.follow(&splits(&[("web", 94), ("canary", 6)]));
        assert_eq!(ended, [(name("r"), "the split has changed".to_owned())]);
        let ended = one(SOON).follow(&accepted("upstream: u"));
        assert_eq!(ended, [(name("r"), "the route has no split any more".to_owned())]);
    }

    #[test]
    fn time_ends_it() {
        let mut shifts = one(SOON);
        assert_eq!(shifts.next_end(), Some(1_000));
        assert_eq!(shifts.expire(999), []);
        assert_eq!(shifts.expire(1_000), [name("r")]);
        assert_eq!((shifts.next_end(), shifts.remove("r")), (None, false));
    }
}
