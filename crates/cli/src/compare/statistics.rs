//! What a few seeds say: means, standard deviations, and intervals by Student's t.

/// How sure an interval is.
const CONFIDENCE: f64 = 0.95;

/// Some measured values of one quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with n − 1 in it; none of a single value.
    pub sd: Option<f64>,
    /// The interval of 95 % for the mean of all that could have been drawn; none of a single value.
    pub interval: Option<(f64, f64)>,
}

impl Sample {
    /// None of no values.
    pub fn of(values: &[f64]) -> Option<Sample> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        let interval = sd.map(|sd| {
            let half =
                quantile(0.5 + CONFIDENCE / 2.0, (count - 1) as f64) * sd / (count as f64).sqrt();
            (mean - half, mean + half)
        });
        (count > 0).then_some(Sample {
            count,
            mean,
            sd,
            interval,
        })
    }
}

/// The median of sorted values; of an even number the mean of the two in the middle.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// What a difference from the baseline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Below the baseline, and the interval does not reach 0.
    Better,
    /// Above the baseline, and the interval does not reach 0.
    Worse,
    /// The interval reaches 0: seeds alone differ as much.
    Noise,
    /// Pairs that all differ by the same, which is not nothing: there is no interval.
    Alike,
    /// One pair: there is no interval.
    TooFew,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Noise => "within noise",
            Verdict::Alike => "the same in all seeds",
            Verdict::TooFew => "too few seeds",
        }
    }
}

/// Values against those of a baseline, each with its partner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The differences, value less baseline.
    pub sample: Sample,
    /// Probability of so large a mean difference, on either side, if there were none; of two pairs or more that do not all agree.
    pub p: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
}

impl Difference {
    /// The paired t-test of (value, baseline); none of no pairs.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Difference> {
        let differences: Vec<f64> = pairs
            .iter()
            .map(|(value, baseline)| value - baseline)
            .collect();
        let mut sample = Sample::of(&differences)?;
        // Errors are counts of pictures divided by their number: equal differences may differ in the last bits.
        let spread = sample.sd.filter(|sd| *sd > 1e-12);
        let p = spread.map(|sd| {
            let t = sample.mean.abs() / (sd / (sample.count as f64).sqrt());
            2.0 * (1.0 - cumulative(t, (sample.count - 1) as f64))
        });
        sample.interval = sample.interval.filter(|_| spread.is_some());
        let verdict = match sample.interval {
            Some((_, high)) if high < 0.0 => Verdict::Better,
            Some((low, _)) if low > 0.0 => Verdict::Worse,
            Some(_) => Verdict::Noise,
            None if sample.count == 1 => Verdict::TooFew,
            None if sample.mean.abs() <= 1e-12 => Verdict::Noise,
            None => Verdict::Alike,
        };
        Some(Difference { sample, p, verdict })
    }
}

/// Probability that Student's t with so many degrees of freedom is at most `t`.
fn cumulative(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The t below which a share `p` (0.5 to 1) of Student's distribution lies.
fn quantile(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while cumulative(high, freedom) < p && high < 1e12 {
        high *= 2.0;
    }
    // Halving an interval of doubles comes to an end.
    while let middle = 0.5 * (low + high)
        && middle > low
        && middle < high
    {
        match cumulative(middle, freedom) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// The regularized incomplete beta function I_x(a, b), by its continued fraction (Numerical Recipes, 6.4; modified Lentz).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    let tiny = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / tiny(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut factor = 1.0;
        for term in [even, odd] {
            d = 1.0 / tiny(1.0 + term * d);
            c = tiny(1.0 + term / c);
            factor = c * d;
            fraction *= factor;
        }
        if (factor - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction / a
}

/// The logarithm of Γ(x) for x > 0 (Lanczos with g = 7 and nine terms, good to 15 digits).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Reflection.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum: f64 = TERMS[0]
        + (TERMS[1..].iter().enumerate())
            .map(|(index, term)| term / (x + index as f64 + 1.0))
            .sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the printed tables of Student's distribution.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, p, expected) in [
            (1.0, 0.975, 12.706_2),
            (2.0, 0.975, 4.302_7),
            (3.0, 0.975, 3.182_4),
            (4.0, 0.975, 2.776_4),
            (9.0, 0.975, 2.262_2),
            (29.0, 0.975, 2.045_2),
            (120.0, 0.975, 1.979_9),
            (1e6, 0.975, 1.960_0),
            (2.0, 0.95, 2.920_0),
            (5.0, 0.995, 4.032_1),
            (1.0, 0.5, 0.0),
        ] {
            let found = quantile(p, freedom);
            assert!((found - expected).abs() < 6e-5, "{freedom} {p}: {found}");
            assert!((cumulative(found, freedom) - p).abs() < 1e-12);
            assert!((cumulative(-found, freedom) - (1.0 - p)).abs() < 1e-12);
        }
        // With one degree of freedom it is Cauchy's distribution, with two it has a closed form.
        for t in [0.1, 1.0, 3.0, 50.0f64] {
            let cauchy = 0.5 + t.atan() / std::f64::consts::PI;
            assert!((cumulative(t, 1.0) - cauchy).abs() < 1e-13);
            let two = 0.5 + t / (2.0 * (2.0 + t * t).sqrt());
            assert!((cumulative(t, 2.0) - two).abs() < 1e-13);
        }
    }

    /// Student's own data on sleep, as every textbook has it: t = -4.0621, p = 0.002833, interval -2.46 to -0.70.
    #[test]
    fn students_sleep_comes_out_as_in_textbooks() {
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let pairs: Vec<(f64, f64)> = first.into_iter().zip(second).collect();
        let difference = Difference::of(&pairs).unwrap();
        assert!((difference.sample.mean + 1.58).abs() < 1e-12);
        assert!((difference.p.unwrap() - 0.002_832_89).abs() < 1e-7);
        let (low, high) = difference.sample.interval.unwrap();
        assert!((low + 2.459_885_8).abs() < 1e-6 && (high + 0.700_114_2).abs() < 1e-6);
        assert_eq!(difference.verdict, Verdict::Better);
        let turned: Vec<(f64, f64)> = pairs.iter().map(|&(a, b)| (b, a)).collect();
        assert_eq!(Difference::of(&turned).unwrap().verdict, Verdict::Worse);
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        assert_eq!(Sample::of(&[]), None);
        let one = Sample::of(&[0.5]).unwrap();
        assert_eq!((one.sd, one.interval), (None, None));
        assert_eq!(Difference::of(&[]), None);
        let verdict = |pairs: &[(f64, f64)]| Difference::of(pairs).unwrap().verdict;
        assert_eq!(verdict(&[(0.1, 0.2)]), Verdict::TooFew);
        let alike = Difference::of(&[(0.2, 0.1), (0.3, 0.2)]).unwrap();
        assert_eq!(alike.verdict, Verdict::Alike);
        assert_eq!((alike.sample.interval, alike.p), (None, None));
        assert_eq!(verdict(&[(0.1, 0.1), (0.2, 0.2)]), Verdict::Noise);
        assert_eq!(
            verdict(&[(0.2, 0.1), (0.1, 0.2), (0.3, 0.25)]),
            Verdict::Noise
        );
    }
}
