//! The network of method `small_dense`: the same layers with fewer channels, so that all of its parameters together are
//! as many as the sparse network keeps.

use skinny_network::{Graph, Network, Operation};
use skinny_sparsity::SparsitySettings;

use crate::RecipeError;

/// Widths that are tried, as fractions of this.
const WIDTHS: usize = 1000;

/// The widest network of these layers that has no more parameters than `network` keeps at the density of `sparsity`.
pub fn thinner(network: &Network, sparsity: &SparsitySettings) -> Result<Network, RecipeError> {
    let graph = network.graph()?;
    let most = kept(&graph, sparsity);
    let unit = channels_unit(network);
    let mut width = 0;
    let mut found = None;
    // The number of parameters grows with the width, so the widest that fits is found by halving.
    let mut step = WIDTHS.next_power_of_two();
    while step > 0 {
        if width + step <= WIDTHS {
            let tried = scaled(network, width + step, unit);
            if count(&tried.graph()?) <= most {
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

/// Channels that every layer must have a multiple of, for the groups of all convolutions.
fn channels_unit(network: &Network) -> usize {
    let groups = network.layers.iter().map(|layer| match &layer.operation {
        Operation::Conv(conv) => conv.groups.max(1),
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
fn scaled(network: &Network, width: usize, unit: usize) -> Network {
    let mut scaled = network.clone();
    scaled.name = format!("{}-thin-{width}", network.name);
    let mut outs: Vec<&mut usize> = (scaled.layers.iter_mut())
        .filter_map(|layer| match &mut layer.operation {
            Operation::Conv(conv) => Some(&mut conv.out),
            Operation::Linear(linear) => Some(&mut linear.out),
            _ => None,
        })
        .collect();
    outs.pop();
    for out in outs {
        let channels = *out as u128 * width as u128 / (WIDTHS as u128 * unit as u128);
        *out = (channels as usize).max(1) * unit;
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
