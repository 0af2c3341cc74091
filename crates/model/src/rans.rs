//! An entropy coder for bits: rANS with probabilities that adapt to what was coded.
//!
//! Each bit is coded with the probability that its [`Chance`] has come to, which the decoder knows too, so that no table
//! is stored. rANS decodes in the opposite direction of encoding: the encoder first collects all bits with
//! their probabilities and then encodes them from the last to the first.

/// Lowest state between two bits; the state stays below 2³² times this.
const LOWEST: u64 = 1 << 32;
/// Bits of a coded probability.
const SCALE: u32 = 15;

/// How likely a bit is one, learned from the bits so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chance {
    /// The probability in units of 2⁻³².
    one: u32,
    /// Bits seen, up to a limit.
    seen: u16,
}

/// The most bits that a chance counts.
pub(crate) const MOST_SEEN: u16 = 1023;

/// A bit moves the probability by the share `STEPS[seen]` / 2¹⁶ of what it was wrong by.
const STEPS: [i64; MOST_SEEN as usize + 1] = {
    let mut steps = [0; MOST_SEEN as usize + 1];
    let mut seen = 0;
    while seen <= MOST_SEEN as usize {
        // 1 / (seen + 1.5), the estimate of Krichevsky and Trofimov.
        steps[seen] = (2 << 16) / (2 * seen as i64 + 3);
        seen += 1;
    }
    steps
};

impl Chance {
    /// One and zero are equally likely, and nothing is known.
    pub const EVEN: Chance = Chance {
        one: 1 << 31,
        seen: 0,
    };

    /// A probability in units of 2⁻³², as sure as if it came from `seen` bits, at most [`MOST_SEEN`].
    pub fn new(one: u32, seen: u16) -> Chance {
        Chance { one, seen }
    }

    /// Probability of a one in units of 2⁻³².
    #[inline]
    pub fn one(self) -> u32 {
        self.one
    }

    /// Probability of a one in units of 2⁻¹⁵, from 1 to 2¹⁵ − 1.
    #[inline]
    pub fn coded(self) -> u64 {
        u64::from(self.one >> (32 - SCALE)).max(1)
    }

    /// The more bits the chance has seen, up to `limit`, the less a bit changes it.
    #[inline]
    pub fn learn(&mut self, bit: bool, limit: u16) {
        let target = if bit { i64::from(u32::MAX) } else { 0 };
        let one = i64::from(self.one);
        // Between the probability and the target.
        self.one = (one + (((target - one) * STEPS[usize::from(self.seen)]) >> 16)) as u32;
        self.seen += u16::from(self.seen < limit);
    }
}

/// Collects bits to encode.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// The coded probability of a one, and the bit in the lowest place.
    bits: Vec<u16>,
}

impl Encoder {
    /// Adds a bit with its probability of being one, in units of 2⁻¹⁵, from 1 to 2¹⁵ − 1.
    #[inline]
    pub fn bit(&mut self, one: u64, bit: bool) {
        self.bits.push((one as u16) << 1 | u16::from(bit));
    }

    /// Adds a bit with its chance, which learns it.
    #[inline]
    pub fn learn(&mut self, chance: &mut Chance, limit: u16, bit: bool) {
        self.bit(chance.coded(), bit);
        chance.learn(bit, limit);
    }

    /// Appends the encoded bits: the state, and then 32 bits at a time.
    pub fn finish(self, bytes: &mut Vec<u8>) {
        let mut words = Vec::new();
        let mut state = LOWEST;
        for record in self.bits.into_iter().rev() {
            let one = u64::from(record >> 1);
            let (start, size) = match record & 1 {
                1 => (0, one),
                _ => (one, (1 << SCALE) - one),
            };
            if state >= size << (64 - SCALE) {
                words.push(state as u32);
                state >>= 32;
            }
            state = (state / size) << SCALE | (state % size + start);
        }
        bytes.extend(state.to_le_bytes());
        bytes.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    }
}

/// Decodes bits. From a damaged stream come other bits; [`Decoder::is_at_end`] tells.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    state: u64,
    rest: &'a [u8],
    beyond: bool,
}

impl<'a> Decoder<'a> {
    /// A decoder of what [`Encoder::finish`] wrote; `None` if that is shorter than a state.
    pub fn new(bytes: &'a [u8]) -> Option<Decoder<'a>> {
        let (state, rest) = bytes.split_first_chunk()?;
        Some(Decoder {
            state: u64::from_le_bytes(*state),
            rest,
            beyond: false,
        })
    }

    /// The next bit, coded with this probability.
    #[inline]
    pub fn bit(&mut self, one: u64) -> bool {
        let low = self.state & ((1 << SCALE) - 1);
        let bit = low < one;
        self.state = match bit {
            true => one * (self.state >> SCALE) + low,
            false => ((1 << SCALE) - one) * (self.state >> SCALE) + low - one,
        };
        if self.state < LOWEST {
            self.refill();
        }
        bit
    }

    /// The next bit, coded with this chance, which learns it.
    #[inline]
    pub fn learn(&mut self, chance: &mut Chance, limit: u16) -> bool {
        let bit = self.bit(chance.coded());
        chance.learn(bit, limit);
        bit
    }

    fn refill(&mut self) {
        let word = match self.rest.split_first_chunk() {
            Some((word, rest)) => {
                self.rest = rest;
                u32::from_le_bytes(*word)
            }
            None => {
                self.beyond = true;
                0
            }
        };
        self.state = self.state << 32 | u64::from(word);
    }

    /// Whether everything has been decoded that was encoded: no byte is left, and the state is the encoder's first.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty() && !self.beyond && self.state == LOWEST
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(bits: &[bool], limit: u16) -> Vec<u8> {
        let (mut encoder, mut chance) = (Encoder::default(), Chance::EVEN);
        for &bit in bits {
            encoder.learn(&mut chance, limit, bit);
        }
        let mut bytes = Vec::new();
        encoder.finish(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn bits_come_back(bits in prop::collection::vec(prop::bool::weighted(0.1), 0..2000), limit in 0u16..=MOST_SEEN) {
            let bytes = encode(&bits, limit);
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut chance = Chance::EVEN;
            for &bit in &bits {
                prop_assert_eq!(decoder.learn(&mut chance, limit), bit);
            }
            prop_assert!(decoder.is_at_end());
        }

        #[test]
        fn a_cut_stream_is_noticed(bits in prop::collection::vec(any::<bool>(), 100..300), cut in 1usize..12) {
            let bytes = encode(&bits, 255);
            let mut decoder = Decoder::new(&bytes[..bytes.len() - cut]).unwrap();
            let mut chance = Chance::EVEN;
            for _ in &bits {
                decoder.learn(&mut chance, 255);
            }
            prop_assert!(!decoder.is_at_end());
        }
    }

    #[test]
    fn a_state_that_is_too_low_or_too_high_does_not_overflow() {
        for bytes in [[0xff; 8], [0; 8]] {
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut chance = Chance::EVEN;
            for _ in 0..10_000 {
                decoder.learn(&mut chance, 255);
            }
            assert!(!decoder.is_at_end());
        }
    }

    #[test]
    fn the_length_comes_near_the_entropy() {
        for per_mille in [1, 20, 250, 500] {
            let total = 1_000_000u64;
            let bits: Vec<bool> = (0..total)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1000 < per_mille)
                .collect();
            let p = per_mille as f64 / 1000.0;
            let entropy = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2()) * total as f64 / 8.0;
            let coded = encode(&bits, MOST_SEEN).len() as f64;
            assert!(
                coded < 1.015 * entropy + 32.0,
                "{per_mille}: {coded} {entropy}"
            );
        }
    }
}
