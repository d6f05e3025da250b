//! Median and spread of a few repetitions; median, quartiles and confidence of many.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self { median: median(&values)?, min: *values.first()?, max: *values.last()? })
    }
}

/// Of sorted values; the mean of the middle two where their number is even.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(sorted.len() / 2 - 1)?, upper))
}

/// The value at `share` (0 to 1) of sorted values, nearest rank.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// What many values say about the median of what they were drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub count: usize,
    pub median: f64,
    /// A quarter of the values lies below the first, a quarter above the second.
    pub quartiles: [f64; 2],
    /// At least 95 of 100 such intervals contain the true median.
    pub interval: [f64; 2],
}

impl Estimate {
    /// `None` with fewer than 6 values: their whole range is less than 95 % sure.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let [low, high] = median_ranks(values.len())?;
        Some(Self {
            count: values.len(),
            median: median(&values)?,
            quartiles: [percentile(&values, 0.25)?, percentile(&values, 0.75)?],
            interval: [*values.get(low)?, *values.get(high)?],
        })
    }

    pub fn contains(&self, value: f64) -> bool {
        let [low, high] = self.interval;
        low <= value && value <= high
    }
}

/// Which two of `count` sorted values, from 0, enclose the true median in 95 % of all samples or
/// more. How many values lie below it is binomial with one half, whatever their distribution, so
/// nothing is assumed about its shape: as many are left out at each end as go into 2.5 %.
fn median_ranks(count: usize) -> Option<[usize; 2]> {
    let mut out = 0;
    // ln P(out values below the median); the probability itself is 0 in f64 from 1,075 values on.
    #[allow(clippy::cast_precision_loss)]
    let mut ln_probability = -(count as f64) * std::f64::consts::LN_2;
    let mut tail = ln_probability.exp();
    while tail <= 0.025 && out < count {
        out += 1;
        #[allow(clippy::cast_precision_loss)]
        let ratio = (count - out + 1) as f64 / out as f64;
        ln_probability += ratio.ln();
        tail += ln_probability.exp();
    }
    let low = out.checked_sub(1)?;
    Some([low, count.checked_sub(out)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn percentile_is_the_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.50), Some(50.0));
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
    /// The ranks of the tables (from 1: 1 and 6, 2 and 9, 6 and 15, 40 and 61).
    #[test]
    fn ranks_are_those_of_the_tables() {
        let cases = [(6, [0, 5]), (10, [1, 8]), (20, [5, 14]), (100, [39, 60])];
        for (count, ranks) in cases {
            assert_eq!(median_ranks(count), Some(ranks), "{count} values");
        }
        assert_eq!(median_ranks(5), None);
        assert_eq!(median_ranks(0), None);
    }

    #[test]
    fn ranks_of_many_values_follow_the_normal_distribution() {
        for count in [400_u32, 2_000, 100_000] {
            let [low, high] = median_ranks(count as usize).unwrap();
            assert_eq!(low + high + 1, count as usize);
            let expected = f64::from(count) / 2.0 - 1.96 * f64::from(count).sqrt() / 2.0;
            assert!((low as f64 - expected).abs() < 1.5, "{count}: {low}, {expected}");
        }
    }

    #[test]
    fn an_estimate_does_not_depend_on_the_order() {
        let estimate = Estimate::of((1..=100).rev().map(f64::from)).unwrap();
        let [quartiles, interval] = [[25.0, 75.0], [40.0, 61.0]];
        assert_eq!(estimate, Estimate { count: 100, median: 50.5, quartiles, interval });
        assert!(estimate.contains(40.0) && estimate.contains(61.0));
        assert!(!estimate.contains(39.9) && !estimate.contains(61.1));
        assert_eq!(Estimate::of([1.0; 5]), None);
    }

    /// Of skewed values, as CPU times are: the square of a uniform number, whose median is 1/4.
    #[test]
    fn the_interval_holds_the_true_median_as_often_as_it_says() {
        let mut random = Random::new(1);
        let mut value = || (random.below(1 << 20) as f64 / f64::from(1 << 20)).powi(2);
        let holds = (0..1000).filter(|_| {
            let values: Vec<f64> = (0..50).map(|_| value()).collect();
            Estimate::of(values).unwrap().contains(0.25)
        });
        // 96.7 % for 50 values; 6 standard deviations either way.
        assert!((933..=999).contains(&holds.count()));
    }
}
