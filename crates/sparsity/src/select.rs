//! Exact selection of the highest scores in linear time and without an index per weight.
//!
//! The bit pattern of a non-negative float rises with its value, so the score of the last kept weight can be found by a radix search:
//! three passes over the scores, each fixing the next digit from a histogram. What is needed beside the scores is a few kilobytes.

use crate::Mask;

/// Shift and width of each digit of a 31-bit key, highest first.
const DIGITS: [(u32, u32); 3] = [(20, 11), (10, 10), (0, 10)];

/// The rank of a score by its absolute value: a higher score has a higher key. Finite scores only.
#[inline]
pub(crate) fn key(score: f32) -> u32 {
    score.to_bits() & 0x7fff_ffff
}

/// Things to be selected: each has a key and the number of weights that it stands for.
pub(crate) trait Candidates {
    /// Calls `visit(key, weights)` for every candidate, in index order.
    fn each(&self, visit: impl FnMut(u32, usize));
}

/// Single weights, those of the support if there is one.
#[derive(Clone, Copy)]
pub(crate) struct Single<'a> {
    pub score: &'a [f32],
    pub support: Option<&'a Mask>,
}

impl Candidates for Single<'_> {
    #[inline]
    fn each(&self, mut visit: impl FnMut(u32, usize)) {
        match self.support {
            None => self.score.iter().for_each(|&s| visit(key(s), 1)),
            Some(support) => support.iter().for_each(|i| visit(key(self.score[i]), 1)),
        }
    }
}

/// Where a selection from one or more pools ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Key of the last candidates: above it all are selected, below it none.
    pub key: u32,
    /// Per pool, the weights of the candidates above the key.
    pub above: Vec<usize>,
    /// Per pool, the weights of the candidates with exactly the key.
    pub at: Vec<usize>,
}

/// Finds where a selection of `k` weights from all pools together ends, if pool `i` counts for at least `floors[i]` weights.
///
/// It is the highest key for which the pools, each taking its candidates with at least that key or its floor if that is more, reach `k`.
/// The pools must hold at least `k` weights together.
pub(crate) fn cut<C: Candidates>(pools: &[C], floors: &[usize], k: usize) -> Cut {
    let mut above = vec![0; pools.len()];
    let mut at = vec![0; pools.len()];
    let mut prefix = 0;
    for (shift, width) in DIGITS {
        let histograms: Vec<Vec<usize>> = pools
            .iter()
            .map(|pool| histogram(pool, prefix, shift, width))
            .collect();
        let mut digit = (1 << width) - 1;
        loop {
            for (count, histogram) in at.iter_mut().zip(&histograms) {
                *count = histogram[digit];
            }
            let reached: usize = (0..pools.len())
                .map(|i| floors[i].max(above[i] + at[i]))
                .sum();
            if reached >= k || digit == 0 {
                break;
            }
            for (above, at) in above.iter_mut().zip(&at) {
                *above += at;
            }
            digit -= 1;
        }
        prefix = prefix << width | digit as u32;
    }
    Cut {
        key: prefix,
        above,
        at,
    }
}

/// Weights per value of the next digit, among the candidates whose key starts with `prefix`.
fn histogram<C: Candidates>(pool: &C, prefix: u32, shift: u32, width: u32) -> Vec<usize> {
    let mut counts = vec![0; 1 << width];
    let mask = (1 << width) - 1;
    pool.each(|key, weights| {
        if key >> shift >> width == prefix {
            counts[(key >> shift & mask) as usize] += weights;
        }
    });
    counts
}

/// The mask of the `k` highest of single weights, ties to the lowest index. There must be at least `k`.
pub(crate) fn highest(candidates: Single, k: usize) -> Mask {
    let cut = cut(&[candidates], &[0], k);
    let mut ties = k - cut.above[0];
    let support = candidates.support.map(Mask::words);
    let words = candidates.score.chunks(64).enumerate().map(|(w, chunk)| {
        let (mut above, mut at) = (0u64, 0u64);
        for (j, &score) in chunk.iter().enumerate() {
            above |= u64::from(key(score) > cut.key) << j;
            at |= u64::from(key(score) == cut.key) << j;
        }
        let ranked = support.map_or(u64::MAX, |words| words[w]);
        let tied = lowest_bits(at & ranked, ties);
        ties -= tied.count_ones() as usize;
        above & ranked | tied
    });
    Mask::from_live_words(candidates.score.len(), words.collect())
}

/// The lowest `count` set bits of a word, or all if there are fewer.
fn lowest_bits(mut word: u64, count: usize) -> u64 {
    let set = word.count_ones() as usize;
    if count >= set {
        return word;
    }
    let mut kept = 0;
    for _ in 0..count {
        kept |= word & word.wrapping_neg();
        word &= word - 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_rise_with_magnitude() {
        let rising = [
            0.0,
            f32::from_bits(1),
            f32::MIN_POSITIVE,
            0.5,
            -1.0,
            1.5,
            f32::MAX,
        ];
        assert!(rising.windows(2).all(|w| key(w[0]) < key(w[1])));
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn cut_of_two_pools_with_floors() {
        let single = |score| Single {
            score,
            support: None,
        };
        let pools = [single(&[5.0, 4.0, 3.0, 3.0][..]), single(&[3.0, 1.0][..])];
        let expected = |key: f32, above, at| Cut {
            key: key.to_bits(),
            above,
            at,
        };
        assert_eq!(
            cut(&pools, &[0, 0], 3),
            expected(3.0, vec![2, 0], vec![2, 1])
        );
        assert_eq!(
            cut(&pools, &[0, 0], 2),
            expected(4.0, vec![1, 0], vec![1, 0])
        );
        // The floor of the second pool is 2, so that only 2 are left for the first.
        assert_eq!(
            cut(&pools, &[0, 2], 4),
            expected(4.0, vec![1, 0], vec![1, 0])
        );
        assert_eq!(
            cut(&pools, &[0, 0], 6),
            expected(1.0, vec![4, 1], vec![0, 1])
        );
    }

    #[test]
    fn lowest_bits_are_lowest() {
        assert_eq!(lowest_bits(0b1011_0100, 2), 0b0001_0100);
        assert_eq!(lowest_bits(0b1011_0100, 0), 0);
        assert_eq!(lowest_bits(0b1011_0100, 9), 0b1011_0100);
        assert_eq!(lowest_bits(u64::MAX, 64), u64::MAX);
    }

    proptest! {
        #[test]
        fn cut_key_is_the_kth_score(bits in prop::collection::vec(0u32..0x7f80_0000, 1..200), pick in any::<prop::sample::Index>()) {
            let score: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let k = pick.index(score.len()) + 1;
            let mut sorted = bits;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let cut = cut(&[Single { score: &score, support: None }], &[0], k);
            prop_assert_eq!(cut.key, sorted[k - 1]);
            prop_assert_eq!(cut.above[0], sorted.iter().filter(|&&b| b > sorted[k - 1]).count());
            prop_assert_eq!(cut.at[0], sorted.iter().filter(|&&b| b == sorted[k - 1]).count());
        }
    }
}
