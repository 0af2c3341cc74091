//! What must hold for any bytes; the fuzz targets and the replay of their corpus share it.

use skinny_network::{Network, Tensors};

/// A description is an error, or it survives being written and gives a graph or an error.
pub fn network(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(network) = Network::from_toml(text) else {
        return;
    };
    // A NaN survives too, but is not equal to itself.
    let written = network.to_toml();
    let again = Network::from_toml(&written).expect("what is written can be read");
    assert_eq!(again.to_toml(), written);
    if let Ok(graph) = network.graph() {
        assert_eq!(again, network);
        let summary = graph.summary();
        assert_eq!(summary.rows.len(), network.layers.len());
        assert!(!summary.to_string().is_empty());
    }
}

/// A file of weights is an error, or it survives being written.
pub fn tensors(bytes: &[u8]) {
    let Ok(tensors) = Tensors::from_bytes(bytes) else {
        return;
    };
    let written = tensors.to_bytes().expect("what was read can be written");
    let again = Tensors::from_bytes(&written).expect("what is written can be read");
    assert_eq!(
        again.to_bytes().expect("what was read can be written"),
        written
    );
}
