//! The index takes about the entropy of the mask: H(d)/d bits for each kept weight at density d.

mod support;

use skinny_model::{Level, Model, PackOptions, ValueKind, index_floor_bytes, pack};
use skinny_network::Network;

#[test]
fn the_index_comes_within_three_per_cent_of_the_floor() {
    for density in [0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02] {
        let options = PackOptions {
            level: Level::Small,
            values: ValueKind::Codebook16,
        };
        // NIN for CIFAR-10 with weights kept at random: the masks with the most information.
        let network = Network::load("nin-cifar10").unwrap();
        let model = support::random(network, 5, true, |_, _, _| density);
        let bytes = pack(&model, &options, &mut |_| ()).unwrap();
        let read = Model::from_bytes(bytes).unwrap();
        let (mut index, mut floor) = (0, 0.0);
        for weight in read
            .parameters()
            .filter(|p| p.parameter().role.thresholded())
        {
            index += weight.index_bytes();
            floor += index_floor_bytes(weight.len(), weight.kept());
            let most = 1.05 * index_floor_bytes(weight.len(), weight.kept()) + 24.0;
            assert!(
                (weight.index_bytes() as f64) < most,
                "{density} {}",
                weight.name()
            );
        }
        let ratio = index as f64 / floor;
        println!("density {density}: {index} bytes, floor {floor:.0}, ratio {ratio:.4}");
        assert!(ratio < 1.01, "{density}: {ratio}");
    }
}
