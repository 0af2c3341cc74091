//! The support of one layer, one bit per weight.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which weights of a layer are kept: bit `i % 64` of word `i / 64` is set where weight `i` (row-major) is.
///
/// Bits beyond `len` are never set, so that counts and comparisons may work on whole words.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Mask {
    len: usize,
    words: Vec<u64>,
}

/// A mask as it comes from outside, before [`Mask::from_words`] has looked at it.
#[derive(Deserialize)]
struct Unchecked {
    len: usize,
    words: Vec<u64>,
}

impl TryFrom<Unchecked> for Mask {
    type Error = MaskError;

    fn try_from(raw: Unchecked) -> Result<Self, MaskError> {
        Mask::from_words(raw.len, raw.words)
    }
}

/// Why words are not a mask.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MaskError {
    /// The number of words does not fit the number of weights.
    #[error(
        "a mask of {len} weights takes {expected} words, not {words}: the file is truncated or of another layer"
    )]
    Words {
        /// Weights that the mask is for.
        len: usize,
        /// Words that were given.
        words: usize,
        /// Words that are needed.
        expected: usize,
    },
    /// A bit beyond the last weight is set.
    #[error(
        "a mask of {len} weights has bits set beyond its end: the file is corrupt or of another layer"
    )]
    DeadBits {
        /// Weights that the mask is for.
        len: usize,
    },
}

impl Mask {
    /// The mask of `len` weights that keeps none.
    pub fn none(len: usize) -> Self {
        Mask {
            len,
            words: vec![0; len.div_ceil(64)],
        }
    }

    /// The mask of `len` weights that keeps all.
    pub fn all(len: usize) -> Self {
        let mut mask = Mask {
            len,
            words: vec![u64::MAX; len.div_ceil(64)],
        };
        mask.clear_tail();
        mask
    }

    /// The mask that keeps every value but zeros, of either sign: a negative weight times a mask's 0 is −0.0.
    pub fn of_nonzero(values: &[f32]) -> Self {
        Mask::from_fn(values.len(), |i| values[i] != 0.0)
    }

    /// The mask of `len` weights that keeps those for which `keep(index)` holds.
    pub fn from_fn(len: usize, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut mask = Mask::none(len);
        for index in 0..len {
            mask.words[index / 64] |= u64::from(keep(index)) << (index % 64);
        }
        mask
    }

    /// The mask of `len` weights stored in `words`, lowest bit first.
    ///
    /// # Errors
    /// [`MaskError`] if there are more or fewer words than `len` needs, or a bit beyond `len` is set.
    pub fn from_words(len: usize, words: Vec<u64>) -> Result<Self, MaskError> {
        let expected = len.div_ceil(64);
        if words.len() != expected {
            return Err(MaskError::Words {
                len,
                words: words.len(),
                expected,
            });
        }
        let mut mask = Mask { len, words };
        let last = mask.words.last().copied();
        mask.clear_tail();
        if mask.words.last().copied() != last {
            return Err(MaskError::DeadBits { len });
        }
        Ok(mask)
    }

    fn clear_tail(&mut self) {
        if let (Some(last), 1..) = (self.words.last_mut(), self.len % 64) {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }

    /// Number of weights, kept or not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mask is for no weight at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bits, lowest first; none is set beyond [`Mask::len`].
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Number of kept weights.
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Kept fraction, 0–1; 1 for a mask of no weights, which drops none.
    pub fn density(&self) -> f64 {
        if self.len == 0 {
            1.0
        } else {
            self.count() as f64 / self.len as f64
        }
    }

    /// Whether weight `index` is kept.
    ///
    /// # Panics
    /// If `index` is not below [`Mask::len`].
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.len, "weight {index} of {}", self.len);
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// Keeps or drops weight `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Mask::len`].
    pub fn set(&mut self, index: usize, keep: bool) {
        assert!(index < self.len, "weight {index} of {}", self.len);
        let bit = 1 << (index % 64);
        if keep {
            self.words[index / 64] |= bit;
        } else {
            self.words[index / 64] &= !bit;
        }
    }

    /// The indices of the kept weights, ascending.
    pub fn iter(&self) -> Kept<'_> {
        Kept {
            words: &self.words,
            base: 0,
            bits: 0,
        }
    }

    /// Number of weights that both masks keep.
    ///
    /// # Panics
    /// If the masks are of different lengths.
    pub fn overlap(&self, other: &Mask) -> usize {
        self.pairs(other)
            .map(|(a, b)| (a & b).count_ones() as usize)
            .sum()
    }

    /// Whether every weight that this mask keeps is kept by `other` too.
    ///
    /// # Panics
    /// If the masks are of different lengths.
    pub fn is_subset(&self, other: &Mask) -> bool {
        self.pairs(other).all(|(a, b)| a & !b == 0)
    }

    /// The mask that keeps what either keeps.
    ///
    /// # Panics
    /// If the masks are of different lengths.
    pub fn union(&self, other: &Mask) -> Mask {
        Mask {
            len: self.len,
            words: self.pairs(other).map(|(a, b)| a | b).collect(),
        }
    }

    /// The mask that keeps what this one keeps and `other` does not.
    ///
    /// # Panics
    /// If the masks are of different lengths.
    pub fn without(&self, other: &Mask) -> Mask {
        Mask {
            len: self.len,
            words: self.pairs(other).map(|(a, b)| a & !b).collect(),
        }
    }

    fn pairs<'a>(&'a self, other: &'a Mask) -> impl Iterator<Item = (u64, u64)> + 'a {
        assert_eq!(
            self.len, other.len,
            "masks of {} and {} weights",
            self.len, other.len
        );
        self.words.iter().copied().zip(other.words.iter().copied())
    }

    /// Writes +0.0 where a weight is dropped and leaves the kept values as they are, bit for bit.
    ///
    /// # Panics
    /// If there are more or fewer values than weights.
    pub fn apply(&self, values: &mut [f32]) {
        assert_eq!(
            values.len(),
            self.len,
            "{} values under a mask of {}",
            values.len(),
            self.len
        );
        for (chunk, &word) in values.chunks_mut(64).zip(&self.words) {
            match word {
                0 => chunk.fill(0.0),
                u64::MAX => {}
                _ => {
                    for (j, value) in chunk.iter_mut().enumerate() {
                        let keep = (word >> j) as u32 & 1;
                        *value = f32::from_bits(value.to_bits() & keep.wrapping_neg());
                    }
                }
            }
        }
    }

    /// Keeps weight `index`, which must be below the length, if `keep`; without a branch.
    #[inline]
    pub(crate) fn merge(&mut self, index: usize, keep: bool) {
        debug_assert!(index < self.len);
        self.words[index / 64] |= u64::from(keep) << (index % 64);
    }

    /// The mask whose words are given, which the caller knows to have no dead bits set.
    pub(crate) fn from_live_words(len: usize, words: Vec<u64>) -> Self {
        debug_assert!(Mask::from_words(len, words.clone()).is_ok());
        Mask { len, words }
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} of {})", self.count(), self.len)
    }
}

impl<'a> IntoIterator for &'a Mask {
    type Item = usize;
    type IntoIter = Kept<'a>;

    fn into_iter(self) -> Kept<'a> {
        self.iter()
    }
}

/// The indices of the kept weights, ascending; see [`Mask::iter`].
#[derive(Debug, Clone)]
pub struct Kept<'a> {
    /// Words not yet opened.
    words: &'a [u64],
    /// Index just after the last bit of the open word.
    base: usize,
    /// What is left of the open word.
    bits: u64,
}

impl Iterator for Kept<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            let (&first, rest) = self.words.split_first()?;
            (self.bits, self.words) = (first, rest);
            self.base += 64;
        }
        let index = self.base - 64 + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_beyond_the_end_are_never_set() {
        for len in [0, 1, 63, 64, 65, 127, 128, 129] {
            let all = Mask::all(len);
            assert_eq!(all.count(), len);
            assert_eq!(Mask::from_words(len, all.words().to_vec()), Ok(all));
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        assert_eq!(
            Mask::from_words(65, vec![0]),
            Err(MaskError::Words {
                len: 65,
                words: 1,
                expected: 2
            })
        );
        assert_eq!(
            Mask::from_words(3, vec![0b1000]),
            Err(MaskError::DeadBits { len: 3 })
        );
        assert_eq!(Mask::from_words(3, vec![0b101]).unwrap().count(), 2);
        let error = serde_json::from_str::<Mask>(r#"{"len":3,"words":[8]}"#).unwrap_err();
        assert!(error.to_string().contains("beyond its end"), "{error}");
    }

    #[test]
    fn zeros_of_both_signs_are_dropped() {
        let mask = Mask::of_nonzero(&[0.0, -0.0, 1e-45, f32::NAN, -1.0]);
        assert_eq!(mask, Mask::from_words(5, vec![0b11100]).unwrap());
    }

    #[test]
    fn apply_writes_positive_zero_and_keeps_bits() {
        let mask = Mask::from_words(5, vec![0b01010]).unwrap();
        let mut values = [-0.0, -0.0, f32::NAN, f32::MIN_POSITIVE / 4.0, -1.0];
        mask.apply(&mut values);
        let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        assert_eq!(
            bits,
            [
                0,
                (-0.0f32).to_bits(),
                0,
                (f32::MIN_POSITIVE / 4.0).to_bits(),
                0
            ]
        );
    }

    #[test]
    #[should_panic(expected = "weight 3 of 3")]
    fn a_dead_bit_cannot_be_set() {
        Mask::none(3).set(3, true);
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_booleans(a in prop::collection::vec(any::<bool>(), 0..300), seed in any::<u64>()) {
            let b: Vec<bool> = (0..a.len()).map(|i| seed >> (i % 61) & 1 == 1).collect();
            let (m, o) = (Mask::from_fn(a.len(), |i| a[i]), Mask::from_fn(b.len(), |i| b[i]));
            let both = |f: fn(bool, bool) -> bool| (0..a.len()).filter(|&i| f(a[i], b[i])).collect::<Vec<_>>();
            prop_assert_eq!(m.iter().collect::<Vec<_>>(), both(|x, _| x));
            prop_assert_eq!(m.union(&o).iter().collect::<Vec<_>>(), both(|x, y| x | y));
            prop_assert_eq!(m.without(&o).iter().collect::<Vec<_>>(), both(|x, y| x & !y));
            prop_assert_eq!(m.overlap(&o), both(|x, y| x & y).len());
            prop_assert_eq!(m.is_subset(&o), both(|x, y| x & !y).is_empty());
            prop_assert_eq!(m.count(), m.iter().count());
            let mut values: Vec<f32> = (0..a.len()).map(|i| i as f32 + 1.0).collect();
            m.apply(&mut values);
            for (i, &v) in values.iter().enumerate() {
                prop_assert_eq!(m.get(i), a[i]);
                prop_assert_eq!(v, if a[i] { i as f32 + 1.0 } else { 0.0 });
            }
            let mut toggled = m.clone();
            for (i, &keep) in a.iter().enumerate() {
                toggled.set(i, !keep);
            }
            prop_assert_eq!(&toggled, &Mask::all(a.len()).without(&m));
            let json = serde_json::to_string(&m).unwrap();
            prop_assert_eq!(serde_json::from_str::<Mask>(&json).unwrap(), m);
        }
    }
}
