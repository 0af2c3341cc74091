//! The network of method `small_dense`: the same layers with fewer channels, so that all of its parameters together are
//! as many as the sparse network keeps.

use skinny_network::{Graph, Layer, Network, Operation};
use skinny_sparsity::SparsitySettings;

use crate::RecipeError;

/// Widths that are tried, as fractions of this.
const WIDTHS: usize = 1000;

/// The widest network of these layers that has no more parameters than `network` keeps at the density of `sparsity`.
pub fn thinner(network: &Network, sparsity: &SparsitySettings) -> Result<Network, RecipeError> {
    let graph = network.graph()?;
    let most = kept(&graph, sparsity);
    let mut width = 0;
    let mut found = None;
    // The number of parameters grows with the width, so the widest that fits is found by halving.
    let mut step = WIDTHS.next_power_of_two();
    while step > 0 {
        if width + step <= WIDTHS {
            let tried = scaled(network, &graph, width + step);
            let fits = |graph: Graph| count(&graph) <= most;
            if tried.graph().is_ok_and(fits) {
                width += step;
                found = Some(tried);
            }
        }
        step /= 2;
    }
    found.ok_or_else(|| RecipeError::Value {
        key: "sparsity.density".into(),
        reason: format!(
            "no network with the layers of {} has as few as {most} parameters; raise the density",
            network.name
        ),
    })
}

/// Parameters that the sparse network keeps.
fn kept(graph: &Graph, sparsity: &SparsitySettings) -> u64 {
    let density = sparsity.density.unwrap_or(1.0);
    let parameters = graph.parameters.iter();
    parameters
        .filter(|parameter| parameter.role.trainable())
        .map(|parameter| {
            match parameter.role.thresholded() && !sparsity.keeps_dense(&parameter.name) {
                true => (density * parameter.len() as f64).round() as u64,
                false => parameter.len() as u64,
            }
        })
        .sum()
}

fn count(graph: &Graph) -> u64 {
    let trainable = graph.parameters.iter().filter(|p| p.role.trainable());
    trainable.map(|parameter| parameter.len() as u64).sum()
}

/// The channels that each depthwise convolution gives for one that it reads; 0 for every other layer.
fn multipliers(network: &Network, graph: &Graph) -> Vec<usize> {
    let of = |layer: &Layer| match &layer.operation {
        Operation::Conv(conv) if conv.groups > 1 => {
            let weight = format!("{}.weight", layer.name);
            let of_layer = (graph.parameters.iter()).find(|parameter| parameter.name == weight);
            match of_layer {
                Some(parameter) if parameter.shape[1] == 1 => conv.out / conv.groups,
                _ => 0,
            }
        }
        _ => 0,
    };
    network.layers.iter().map(of).collect()
}

/// Channels that every layer must have a multiple of, for the groups of all convolutions that are not depthwise.
fn channels_unit(network: &Network, multipliers: &[usize]) -> usize {
    let layers = network.layers.iter().zip(multipliers);
    let groups = layers.map(|(layer, multiplier)| match &layer.operation {
        Operation::Conv(conv) if *multiplier == 0 => conv.groups.max(1),
        _ => 1,
    });
    groups.fold(1, |unit, groups| {
        unit / common_divisor(unit, groups) * groups
    })
}

fn common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => common_divisor(b, a % b),
    }
}

/// The network with all channels but those of the last layer with weights times `width / WIDTHS`.
fn scaled(network: &Network, graph: &Graph, width: usize) -> Network {
    let mut scaled = network.clone();
    scaled.name = format!("{}-thin-{width}", network.name);
    if width == WIDTHS {
        return scaled;
    }
    let multipliers = multipliers(network, graph);
    let unit = channels_unit(network, &multipliers);
    let thinned = |channels: usize| match channels <= unit {
        true => channels,
        false => {
            let units = channels as u128 * width as u128 / (WIDTHS as u128 * unit as u128);
            (units as usize).max(1) * unit
        }
    };
    let weighted =
        |layer: &Layer| matches!(layer.operation, Operation::Conv(_) | Operation::Linear(_));
    let last = scaled.layers.iter().rposition(weighted);
    for (index, layer) in scaled.layers.iter_mut().enumerate() {
        match &mut layer.operation {
            // A depthwise convolution has as many groups as the layer before it has channels.
            Operation::Conv(conv) if multipliers[index] > 0 => {
                conv.groups = thinned(conv.groups);
                conv.out = multipliers[index] * conv.groups;
            }
            Operation::Conv(conv) if Some(index) != last => conv.out = thinned(conv.out),
            Operation::Linear(linear) if Some(index) != last => linear.out = thinned(linear.out),
            _ => {}
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use skinny_sparsity::Method;

    fn settings(density: f64) -> SparsitySettings {
        SparsitySettings {
            density: Some(density),
            ..SparsitySettings::of(Method::SmallDense)
        }
    }

    #[test]
    fn thinner_networks_have_almost_as_many_parameters_as_the_sparse_one() {
        for (name, densities) in [
            ("lenet5", &[0.5, 0.25, 0.1, 0.05][..]),
            ("lenet-300-100", &[0.5, 0.1]),
            ("nin-mnist", &[0.5, 0.25]),
            ("nin-cifar10", &[0.5, 0.1]),
            ("resnet20", &[0.5, 0.1]),
            ("alexnet", &[0.5]),
        ] {
            let network = Network::load(name).unwrap();
            for &density in densities {
                let most = kept(&network.graph().unwrap(), &settings(density));
                let thin = thinner(&network, &settings(density)).unwrap();
                let graph = thin.graph().unwrap();
                let found = count(&graph);
                assert!(found <= most, "{name} {density}: {found} of {most}");
                assert!(
                    found as f64 > 0.85 * most as f64,
                    "{name} {density}: {found} of {most}"
                );
                assert_eq!(graph.output, network.graph().unwrap().output);
            }
        }
    }

    #[test]
    fn depthwise_convolutions_stay_so_and_no_layer_becomes_wider() {
        let layer = |name: &str, keys: &str| {
            format!("[[layers]]\nname = \"{name}\"\ntype = \"conv\"\n{keys}\n")
        };
        let text = [
            "name = \"separable\"\ninput = [3, 16, 16]\n".to_owned(),
            layer("stem", "out = 33\nkernel = 3"),
            layer("depth1", "out = 33\nkernel = 3\ngroups = 33"),
            layer("point1", "out = 64\nkernel = 1"),
            layer("depth2", "out = 128\nkernel = 3\ngroups = 64"),
            layer("point2", "out = 128\nkernel = 1"),
            layer("grouped", "out = 64\nkernel = 3\ngroups = 4"),
            layer("last", "out = 10\nkernel = 1"),
            "[[layers]]\nname = \"pool\"\ntype = \"globalpool\"\n".to_owned(),
        ];
        let network = Network::from_toml(&text.concat()).unwrap();
        let extents = |network: &Network| -> Vec<Vec<usize>> {
            let graph = network.graph().unwrap();
            let weights = graph.parameters.iter().filter(|p| p.role.thresholded());
            weights.map(|parameter| parameter.shape.clone()).collect()
        };
        let whole = extents(&network);
        for density in [1.0, 0.9, 0.5, 0.2] {
            let thin = extents(&thinner(&network, &settings(density)).unwrap());
            let narrower = |(thin, whole): (&Vec<usize>, &Vec<usize>)| thin[0] <= whole[0];
            assert!(thin.iter().zip(&whole).all(narrower), "{thin:?}");
            assert_eq!((thin[1][1], thin[3][1]), (1, 1), "{thin:?}");
            assert_eq!(thin == whole, density == 1.0);
        }
    }

    #[test]
    fn density_1_is_the_network_itself_and_too_little_is_refused() {
        let network = Network::load("lenet5").unwrap();
        let same = thinner(&network, &settings(1.0)).unwrap();
        assert_eq!(same.layers, network.layers);
        let network = Network::load("lenet-300-100").unwrap();
        let error = thinner(&network, &settings(1e-6)).unwrap_err().to_string();
        assert!(error.contains("raise the density"), "{error}");
    }

    #[test]
    fn exempt_layers_count_whole() {
        let graph = Network::load("lenet5").unwrap().graph().unwrap();
        let exempt = SparsitySettings {
            keep_dense: vec!["fc*".into()],
            ..settings(0.1)
        };
        // conv1 has 500 and conv2 25,000 weights, of 430,500; biases are 580.
        assert_eq!(kept(&graph, &exempt), 50 + 2500 + 405_000 + 580);
    }
}
