//! Gaps between kept weights in Rice's code: short gaps in few bits.
//!
//! Bytes: the parameter `p` (one byte), then bits, the lowest of each byte first: for each kept weight the number of dropped ones
//! before it, counted on from row to row, as `gap >> p` ones, a zero, and the `p` lowest bits. The last byte is filled with ones,
//! which no zero follows.

use skinny_sparsity::Mask;

use super::Refusal;
use crate::bits::{BitReader, BitWriter};

/// The largest parameter.
const MOST: u32 = 31;

/// The mask in the fewest bytes that one parameter gives.
pub(crate) fn encode(mask: &Mask) -> Vec<u8> {
    let bits = |parameter: u32| -> u64 {
        gaps(mask)
            .map(|gap| (gap >> parameter) + 1 + u64::from(parameter))
            .sum()
    };
    let mean = (mask.len() - mask.count()) as f64 / mask.count().max(1) as f64;
    let about = (mean * std::f64::consts::LN_2).max(1.0).log2() as u32;
    let parameter = (about.saturating_sub(1)..=(about + 1).min(MOST))
        .min_by_key(|parameter| bits(*parameter))
        .unwrap_or(0);
    let mut writer = BitWriter::after(vec![parameter as u8]);
    for gap in gaps(mask) {
        let mut ones = gap >> parameter;
        while ones >= 32 {
            writer.write(u32::MAX.into(), 32);
            ones -= 32;
        }
        writer.write((1 << ones) - 1, ones as u32 + 1);
        writer.write(gap & ((1 << parameter) - 1), parameter);
    }
    writer.finish(true)
}

fn gaps(mask: &Mask) -> impl Iterator<Item = u64> {
    let mut next = 0;
    mask.iter().map(move |index| {
        let gap = index - next;
        next = index + 1;
        gap as u64
    })
}

/// The mask of `len` weights.
pub(crate) fn decode(bytes: &[u8], len: usize) -> Result<Mask, Refusal> {
    let damaged = "the Rice-coded gaps are cut off or damaged";
    let (&parameter, bits) = bytes.split_first().ok_or(damaged)?;
    let parameter = u32::from(parameter);
    if parameter > MOST {
        return Err(damaged.into());
    }
    let mut reader = BitReader::new(bits);
    let mut words = vec![0u64; len.div_ceil(64)];
    let mut next = 0;
    loop {
        let left = reader.left();
        let Some(high) = reader.ones() else {
            // What is left at the end only fills a byte.
            return match left < 8 {
                true => Ok(Mask::from_words(len, words).expect("no index is beyond the last")),
                false => Err(damaged.into()),
            };
        };
        let low = reader.read(parameter).ok_or(damaged)?;
        if high > len as u64 >> parameter {
            return Err("the Rice-coded gaps reach beyond the last weight".into());
        }
        next += (high << parameter | low) as usize;
        if next >= len {
            return Err("the Rice-coded gaps reach beyond the last weight".into());
        }
        words[next / 64] |= 1 << (next % 64);
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{Matrix, tests::mask, tests::masks};

    proptest! {
        #[test]
        fn masks_come_back((matrix, mask) in masks()) {
            let bytes = encode(&mask);
            prop_assert_eq!(decode(&bytes, matrix.len()), Ok(mask.clone()));
            // A cut in the middle of a gap is seen; between two gaps, fewer weights are kept.
            for cut in 0..bytes.len() {
                if let Ok(shorter) = decode(&bytes[..cut], matrix.len()) {
                    prop_assert!(shorter.is_subset(&mask));
                }
            }
        }

        #[test]
        fn any_bytes_are_refused_or_a_mask(bytes: Vec<u8>, len in 1usize..5000) {
            let _ = decode(&bytes, len);
        }
    }

    #[test]
    fn the_lengths_are_those_of_theory() {
        // Bits per kept weight of Rice's code with its best parameter at these densities.
        for (density, expected) in [(0.5, 2.0), (0.25, 3.29), (0.1, 4.76), (0.05, 5.79)] {
            let matrix = Matrix {
                rows: 1000,
                columns: 1000,
            };
            let mask = mask(matrix, density, 3);
            let bits = 8.0 * encode(&mask).len() as f64 / mask.count() as f64;
            assert!((bits - expected).abs() < 0.02, "{density}: {bits}");
        }
    }
}
