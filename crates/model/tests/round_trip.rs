//! What is packed comes back: bit for bit with f32, within the error of the kind otherwise.

mod support;

use proptest::prelude::*;
use skinny_model::{Level, Model, PackOptions, Unpacked, ValueKind, pack};
use skinny_network::Network;
use skinny_sparsity::Mask;

const LEVELS: [Level; 2] = [Level::Fast, Level::Small];

fn network(outputs: usize, kernel: usize) -> Network {
    Network::from_toml(&format!(
        r#"
name = "test"
input = [3, 9, 9]
[[layers]]
name = "conv"
type = "conv"
out = {outputs}
kernel = {kernel}
bias = false
[[layers]]
name = "norm"
type = "batchnorm"
[[layers]]
name = "flatten"
type = "flatten"
[[layers]]
name = "fc"
type = "linear"
out = 7
"#
    ))
    .unwrap()
}

/// Random weights at a density.
fn model(network: Network, density: f64, seed: u64, with_masks: bool) -> Unpacked {
    support::random(network, seed, with_masks, |_, _, _| density)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn assert_same(model: &Unpacked, read: &Model<&[u8]>) {
    assert_eq!(read.network(), &model.network);
    assert_eq!(read.preprocess(), &model.preprocess);
    for parameter in read.parameters() {
        let name = parameter.name();
        let tensor = model.tensors.get(name).unwrap();
        assert_eq!(parameter.shape(), tensor.shape);
        assert_eq!(bits(&parameter.dense()), bits(&tensor.data), "{name}");
        let mask = parameter.mask();
        match (model.masks.get(name), &mask) {
            (Some(given), Some(mask)) => assert_eq!(given, mask.as_ref(), "{name}"),
            // Without an index, kept is what is not zero.
            (Some(given), None) => {
                assert_eq!(given, &Mask::of_nonzero(&tensor.data), "{name}");
            }
            (None, mask) => {
                let kept = |i| mask.as_ref().is_none_or(|mask| mask.get(i));
                assert!((0..tensor.data.len()).all(|i| kept(i) || tensor.data[i].to_bits() == 0));
            }
        }
        if let Some(mask) = mask {
            assert_eq!(mask.count(), parameter.kept());
            let kept: Vec<f32> = mask.iter().map(|i| tensor.data[i]).collect();
            assert_eq!(bits(&parameter.values()), bits(&kept));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn f32_keeps_every_bit(
        outputs in 1usize..40, kernel in 1usize..6, density in 0.0f64..=1.2, seed: u64, with_masks: bool,
    ) {
        let model = model(network(outputs, kernel), density.powi(2), seed, with_masks);
        for level in LEVELS {
            let options = PackOptions { level, values: ValueKind::F32 };
            let bytes = pack(&model, &options, &mut |_| ()).unwrap();
            assert_same(&model, &Model::from_bytes(&bytes[..]).unwrap());
        }
    }

    #[test]
    fn other_kinds_keep_masks_and_come_near(
        outputs in 1usize..40, density in 0.0f64..=1.2, seed: u64, with_masks: bool,
    ) {
        let model = model(network(outputs, 3), density.powi(2), seed, with_masks);
        for level in LEVELS {
            for values in ValueKind::ALL {
                let options = PackOptions { level, values };
                let bytes = pack(&model, &options, &mut |_| ()).unwrap();
                let read = Model::from_bytes(&bytes[..]).unwrap();
                for parameter in read.parameters() {
                    let before = &model.tensors.get(parameter.name()).unwrap().data;
                    let after = parameter.dense();
                    let allowed = match values {
                        ValueKind::F32 => 0.0,
                        ValueKind::F16 => 0.09 / 2048.0,
                        ValueKind::Int8 => 0.09 / 250.0,
                        ValueKind::Codebook256 => 0.01,
                        ValueKind::Codebook16 => 0.03,
                    };
                    for (before, after) in before.iter().zip(&after) {
                        prop_assert!((before - after).abs() <= allowed, "{values:?} {before} {after}");
                    }
                    if let (Some(given), Some(mask)) = (model.masks.get(parameter.name()), parameter.mask()) {
                        prop_assert_eq!(given, mask.as_ref());
                    }
                }
                // Decoded values are packed into the same values again.
                let again = pack(&read.unpack(), &PackOptions { level, values: ValueKind::F32 }, &mut |_| ()).unwrap();
                let again = Model::from_bytes(again).unwrap();
                for parameter in read.parameters() {
                    let other = again.parameter(parameter.name()).unwrap();
                    prop_assert_eq!(bits(&parameter.dense()), bits(&other.dense()));
                }
            }
        }
    }
}

/// `w * mask` in other programs leaves −0.0 where a negative weight is dropped.
#[test]
fn pruned_elsewhere_costs_the_same_whatever_the_sign_of_its_zeros() {
    let plain = model(network(20, 5), 0.1, 3, false);
    let mut signed = plain.clone();
    for parameter in signed.network.graph().unwrap().parameters {
        let values = &mut signed.tensors.get_mut(&parameter.name).unwrap().data;
        if parameter.role.thresholded() {
            let zeros = values.iter_mut().filter(|value| **value == 0.0);
            zeros.step_by(2).for_each(|value| *value = -0.0);
        }
    }
    for level in LEVELS {
        for values in ValueKind::ALL {
            let options = PackOptions { level, values };
            let packed = |model| pack(model, &options, &mut |_| ()).unwrap();
            assert!(packed(&signed) == packed(&plain), "{values:?}");
        }
    }
}

/// A full mask says that zeros are kept.
#[test]
fn kept_zeros_of_a_layer_without_dropped_weights_come_back() {
    for level in LEVELS {
        let mut model = model(network(4, 3), 1.2, 3, true);
        let zero = &mut model.tensors.get_mut("fc.weight").unwrap().data;
        zero[..5].fill(0.0);
        let values = ValueKind::F32;
        let bytes = pack(&model, &PackOptions { level, values }, &mut |_| ()).unwrap();
        let read = Model::from_bytes(&bytes[..]).unwrap();
        let mask = read.unpack().masks.remove("fc.weight");
        assert_eq!(mask, Some(Mask::all(7 * 4 * 49)));
    }
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let model = model(network(20, 5), 0.2, 5, true);
    let options = PackOptions::default();
    let bytes = pack(&model, &options, &mut |_| ()).unwrap();
    assert_eq!(pack(&model, &options, &mut |_| ()).unwrap(), bytes);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let good = model(network(4, 3), 0.5, 9, true);
    let refusal = |change: &dyn Fn(&mut Unpacked), values: ValueKind| {
        let mut model = good.clone();
        change(&mut model);
        let options = PackOptions {
            values,
            ..PackOptions::default()
        };
        let error = pack(&model, &options, &mut |_| ()).unwrap_err().to_string();
        assert!(!error.contains('\n'));
        error
    };
    let set = |model: &mut Unpacked, value: f32| {
        let place = model.masks["fc.weight"].iter().next().unwrap();
        model.tensors.get_mut("fc.weight").unwrap().data[place] = value;
    };
    assert!(
        refusal(
            &|m| {
                m.masks.insert("norm.weight".into(), Mask::all(4));
            },
            ValueKind::F32
        )
        .contains("no weight")
    );
    assert!(
        refusal(
            &|m| {
                m.masks.insert("fc.weight".into(), Mask::all(4));
            },
            ValueKind::F32
        )
        .contains("for 4 weights")
    );
    assert!(
        refusal(
            &|m| {
                m.masks.insert("fc.weight".into(), Mask::none(7 * 4 * 49));
            },
            ValueKind::F32
        )
        .contains("dropped by the mask")
    );
    assert!(refusal(&|m| set(m, f32::NAN), ValueKind::Int8).contains("int8 cannot hold"));
    assert!(refusal(&|m| set(m, 1e6), ValueKind::F16).contains("f16 cannot hold"));
    assert!(
        refusal(
            &|m| {
                m.tensors.remove("norm.bias");
            },
            ValueKind::F32
        )
        .contains("missing `norm.bias`")
    );
}
