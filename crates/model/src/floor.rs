//! The fewest bytes that any index takes on average.

/// Bytes of information in which `kept` of `weights` weights are kept, if every choice is as likely as any other:
/// H(d) bits for each weight at density d, or H(d)/d for each kept one.
///
/// An index can take less only where the choice is not like chance.
pub fn index_floor_bytes(weights: usize, kept: usize) -> f64 {
    if kept == 0 || kept >= weights {
        return 0.0;
    }
    let density = kept as f64 / weights as f64;
    let bits = -density * density.log2() - (1.0 - density) * (1.0 - density).log2();
    bits * weights as f64 / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_entropy() {
        let bits = |density: f64| {
            let kept = (density * 1e6) as usize;
            8.0 * index_floor_bytes(1_000_000, kept) / kept as f64
        };
        for (density, expected) in [(0.5, 2.0), (0.25, 3.245), (0.1, 4.69), (0.05, 5.73)] {
            assert!((bits(density) - expected).abs() < 0.005, "{density}");
        }
        assert_eq!(index_floor_bytes(7, 7), 0.0);
        assert_eq!(index_floor_bytes(7, 0), 0.0);
    }
}
