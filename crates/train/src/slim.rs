//! The search for the least density that is still good enough: which density is tried next, by what was tried.

/// A search in density; what has come out of a density decides which is tried next, so that a search that is begun
/// anew goes the same way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlimSearch {
    /// The density that is tried first.
    pub start: f64,
    /// Densities below it are not tried.
    pub least: f64,
    /// The search ends when the least density that is good and the largest below it that is not are this close: 0.1 is a tenth.
    pub tolerance: f64,
    /// It ends after so many densities in any case.
    pub most: usize,
}

impl SlimSearch {
    /// The density to try next, with three significant digits; none at the end of the search. `tried` says which densities
    /// were good, in any order. Density 1 is the network itself, which is good.
    pub fn next(&self, tried: &[(f64, bool)]) -> Option<f64> {
        if tried.len() >= self.most {
            return None;
        }
        let good = (tried.iter().filter(|(_, good)| *good))
            .map(|(density, _)| *density)
            .fold(1.0, f64::min);
        // What failed above a density that is good failed by chance.
        let bad = (tried.iter())
            .filter(|(density, is_good)| !is_good && *density < good)
            .map(|(density, _)| *density)
            .reduce(f64::max);
        let next = match bad {
            None if tried.is_empty() => self.start.clamp(self.least, 1.0),
            None if good <= self.least => return None,
            None => (good / 2.0).max(self.least),
            Some(bad) if good / bad <= 1.0 + self.tolerance => return None,
            // Nothing was good yet: more, but not much more than needed.
            Some(bad) if good >= 1.0 && 4.0 * bad < 1.0 => 2.0 * bad,
            Some(bad) => (good * bad).sqrt(),
        };
        let next: f64 = format!("{next:.2e}").parse().unwrap_or(next);
        // Rounding must not lead to a density that was tried.
        let new = next < 1.0 && tried.iter().all(|(density, _)| *density != next);
        new.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where every density from `limit` on is good.
    fn search(start: f64, limit: f64) -> Vec<(f64, bool)> {
        let search = SlimSearch {
            start,
            least: 0.001,
            tolerance: 0.1,
            most: 30,
        };
        let mut tried = Vec::new();
        while let Some(density) = search.next(&tried) {
            assert!((0.001..1.0).contains(&density), "{density}");
            tried.push((density, density >= limit));
        }
        tried
    }

    #[test]
    fn the_least_good_density_is_found_from_anywhere() {
        for start in [0.9, 0.3, 0.05, 0.002] {
            for limit in [0.7, 0.2, 0.04, 0.003] {
                let tried = search(start, limit);
                let good = tried.iter().filter(|(_, good)| *good).map(|(d, _)| *d);
                let found = good.reduce(f64::min).unwrap();
                assert!(found / limit < 1.12, "{start} {limit}: {tried:?}");
                assert!(tried.len() <= 13, "{start} {limit}: {tried:?}");
            }
        }
    }

    #[test]
    fn it_ends_at_either_end() {
        let all = search(0.1, 0.0);
        assert_eq!(all.last(), Some(&(0.001, true)));
        let none = search(0.1, 2.0);
        assert!(none.iter().all(|(_, good)| !good));
        assert!(none.last().unwrap().0 > 0.9, "{none:?}");
    }

    #[test]
    fn failures_by_chance_do_not_lead_astray() {
        let search = SlimSearch {
            start: 0.2,
            least: 0.001,
            tolerance: 0.1,
            most: 5,
        };
        // 0.2 failed, 0.1 did not: the search goes on below 0.1.
        let tried = [(0.2, false), (0.1, true)];
        assert_eq!(search.next(&tried), Some(0.05));
        let tried = [
            (0.2, true),
            (0.1, true),
            (0.05, true),
            (0.025, true),
            (0.0125, true),
        ];
        assert_eq!(search.next(&tried), None, "after so many");
    }
}
