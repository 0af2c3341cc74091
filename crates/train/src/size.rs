//! What a packed file will take, before there is one.

/// Bytes of a parameter of `values` values of which `kept` are stored as f32, with the cheapest of three indices: none
/// (all values), a bit for every value, or a byte for every gap between kept values (and one more for every 255
/// values passed over).
pub fn packed_bytes(values: usize, kept: Option<usize>) -> u64 {
    let dense = 4 * values as u64;
    let Some(kept) = kept else { return dense };
    let bitmask = values.div_ceil(8);
    let gaps = kept + values / 255;
    dense.min((4 * kept + bitmask.min(gaps)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_index_wins() {
        assert_eq!(packed_bytes(1000, None), 4000);
        assert_eq!(packed_bytes(1000, Some(1000)), 4000);
        assert_eq!(packed_bytes(1000, Some(500)), 2000 + 125);
        assert_eq!(packed_bytes(1000, Some(50)), 200 + 53);
    }
}
