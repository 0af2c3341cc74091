//! What a packed file will take, before there is one.

use skinny_model::index_floor_bytes;

/// Bytes to expect of a parameter of `values` values of which `kept` are stored as f32: the values and the least index that says
/// which they are. Of what is stored beside there is nothing in it: the description of the network, the names of its parts.
pub fn expected_bytes(values: usize, kept: Option<usize>) -> u64 {
    let kept = kept.unwrap_or(values);
    4 * kept as u64 + index_floor_bytes(values, kept).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_the_least_index_are_counted() {
        assert_eq!(expected_bytes(1000, None), 4000);
        assert_eq!(expected_bytes(1000, Some(1000)), 4000);
        assert_eq!(expected_bytes(1000, Some(500)), 2000 + 125);
        assert_eq!(expected_bytes(1000, Some(50)), 200 + 36);
    }
}
