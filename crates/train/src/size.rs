//! What a packed file will take, before there is one.

use skinny_model::index_floor_bytes;

/// Bytes that a trained f32 takes once it is entropy-coded: its sign and its lowest 22 bits as they are, of the others, exponents
/// above all, some three bits. Measured on the networks of `results/`: 3.1 to 3.4.
const CODED: f64 = 3.3;

/// Bytes to expect of a parameter of `values` values of which `kept` are stored as f32: the values and the least index that says
/// which they are. Of what is stored beside there is nothing in it: the description of the network, the names of its parts.
pub fn expected_bytes(values: usize, kept: Option<usize>) -> u64 {
    let kept = kept.unwrap_or(values);
    (CODED * kept as f64 + index_floor_bytes(values, kept)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_the_least_index_are_counted() {
        assert_eq!(expected_bytes(1000, None), 3300);
        assert_eq!(expected_bytes(1000, Some(1000)), 3300);
        assert_eq!(expected_bytes(1000, Some(500)), 1650 + 125);
        assert_eq!(expected_bytes(1000, Some(50)), 165 + 36);
    }
}
