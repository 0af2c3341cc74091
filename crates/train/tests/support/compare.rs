//! Runs a case on an engine and says what differs from PyTorch.

use skinny_network::Graph;
use skinny_sparsity::Mask;
use skinny_train::{Engine, EngineSettings, Examples, Factors, Optimizer, Section};

use super::fixture::{Case, RuleKind, Summary};
use super::reference;

/// Everything in which the engine that `make` builds differs from PyTorch, one line each.
pub fn differences<E, F>(case: &Case, make: F) -> Vec<String>
where
    E: Engine,
    F: Fn(Graph, EngineSettings, Vec<Vec<f32>>) -> E,
{
    let graph = case.graph();
    let start = starting_values(case, &graph);
    let mut found = gradients(case, &graph, &start, &make);
    found.extend(training(case, &graph, &start, &make));
    found
        .iter_mut()
        .for_each(|line| line.insert_str(0, &format!("{}: ", case.name)));
    found
}

/// The settings that a case asks for.
pub fn settings(case: &Case, graph: &Graph) -> EngineSettings {
    let rule = &case.optimizer;
    let (momentum, weight_decay, nesterov) = (rule.momentum, rule.weight_decay, rule.nesterov);
    EngineSettings {
        batch: case.batch,
        threads: 2,
        optimizer: match rule.kind {
            RuleKind::Sgd => Optimizer::Sgd {
                momentum,
                weight_decay,
                nesterov,
            },
            RuleKind::CaffeSgd => Optimizer::CaffeSgd {
                momentum,
                weight_decay,
                nesterov,
            },
            RuleKind::Adamw => Optimizer::Adamw {
                beta1: rule.beta1,
                beta2: rule.beta2,
                epsilon: rule.epsilon,
                weight_decay,
            },
        },
        label_smoothing: case.label_smoothing,
        clip_norm: case.clip_norm,
        ema: case.ema_decay,
        seed: 0,
        factors: graph
            .parameters
            .iter()
            .map(|p| Factors {
                lr: p.lr,
                decay: p.decay,
            })
            .collect(),
    }
}

/// The masks of a case, in the order of the parameters.
pub fn masks(case: &Case, graph: &Graph) -> Vec<Option<Mask>> {
    let mask = |p: &skinny_network::Parameter| {
        let density = case.mask_density.filter(|_| p.role.thresholded())?;
        let kept = reference::kept(&p.name, p.len(), density);
        Some(Mask::from_fn(p.len(), |index| kept[index]))
    };
    graph.parameters.iter().map(mask).collect()
}

/// The generated weights, masked, in the order of the parameters.
fn starting_values(case: &Case, graph: &Graph) -> Vec<Vec<f32>> {
    let mut start: Vec<Vec<f32>> = graph
        .parameters
        .iter()
        .map(|p| case.parameter(&p.name).values())
        .collect();
    for (values, mask) in start.iter_mut().zip(masks(case, graph)) {
        if let Some(mask) = mask {
            mask.apply(values);
        }
    }
    start
}

fn engine<E: Engine>(
    case: &Case,
    graph: &Graph,
    start: &[Vec<f32>],
    make: &impl Fn(Graph, EngineSettings, Vec<Vec<f32>>) -> E,
) -> E {
    let mut engine = make(graph.clone(), settings(case, graph), start.to_vec());
    for (parameter, mask) in masks(case, graph).into_iter().enumerate() {
        if mask.is_some() {
            engine.set_mask(parameter, mask);
        }
    }
    engine
}

/// Logits before training, and loss and unmasked gradients of step 0.
fn gradients<E: Engine>(
    case: &Case,
    graph: &Graph,
    start: &[Vec<f32>],
    make: &impl Fn(Graph, EngineSettings, Vec<Vec<f32>>) -> E,
) -> Vec<String> {
    let mut engine = engine(case, graph, start, make);
    let (images, labels) = (case.images(graph, 0), case.labels(0));
    let mut found = logits(case, &mut engine, &images, false);
    let outcome = engine.gradients(
        Examples {
            images: &images,
            labels: &labels,
        },
        0,
    );
    if outcome.images != case.batch {
        found.push(format!(
            "{} images in the outcome of {}",
            outcome.images, case.batch
        ));
    }
    let mut values = Vec::new();
    for (parameter, described) in graph.parameters.iter().enumerate() {
        if let Some(gradient) = &case.parameter(&described.name).gradient {
            engine.read(Section::Gradients, parameter, &mut values);
            let actual: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            let root_mean_square = gradient.norm / (actual.len() as f64).sqrt();
            let rounding = f64::from(f32::EPSILON) * root_mean_square;
            found.extend(compare(
                case,
                "gradient",
                &described.name,
                gradient,
                &actual,
                rounding,
            ));
        }
    }
    found
}

/// Losses and gradient norms of all steps; weights, averages and logits after them.
fn training<E: Engine>(
    case: &Case,
    graph: &Graph,
    start: &[Vec<f32>],
    make: &impl Fn(Graph, EngineSettings, Vec<Vec<f32>>) -> E,
) -> Vec<String> {
    let mut engine = engine(case, graph, start, make);
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for (step, &rate) in case.learning_rates.iter().enumerate() {
        let (images, labels) = (case.images(graph, step), case.labels(step));
        let outcome = engine.train_step(
            Examples {
                images: &images,
                labels: &labels,
            },
            rate,
            step as u64,
        );
        losses.push(outcome.mean_loss());
        norms.push(outcome.gradient_norm);
    }
    let mut found = case.loss.complaints("loss of step", &losses);
    found.extend(
        case.gradient_norm
            .complaints("gradient norm of step", &norms),
    );
    found.extend(logits(case, &mut engine, &case.images(graph, 0), true));
    let masks = masks(case, graph);
    let mut values = Vec::new();
    for (parameter, described) in graph.parameters.iter().enumerate() {
        let tensor = case.parameter(&described.name);
        let sections = [
            ("change", Section::Weights, Some(&tensor.change)),
            ("average", Section::Average, tensor.average.as_ref()),
        ];
        for (what, section, summary) in sections {
            let Some(summary) = summary else { continue };
            engine.read(section, parameter, &mut values);
            let dropped = |&(index, _): &(usize, &f32)| {
                masks[parameter]
                    .as_ref()
                    .is_some_and(|mask| !mask.get(index))
            };
            if values
                .iter()
                .enumerate()
                .filter(dropped)
                .any(|(_, value)| value.to_bits() != 0)
            {
                found.push(format!(
                    "{what} of {}: a dropped weight is not +0.0",
                    described.name
                ));
            }
            let pairs = values.iter().zip(&start[parameter]);
            let actual: Vec<f64> = pairs
                .map(|(&now, &then)| f64::from(now) - f64::from(then))
                .collect();
            let rounding = 0.5 * f64::from(f32::EPSILON) * tensor.magnitude();
            found.extend(compare(
                case,
                what,
                &described.name,
                summary,
                &actual,
                rounding,
            ));
        }
    }
    found
}

fn logits<E: Engine>(case: &Case, engine: &mut E, images: &[f32], trained: bool) -> Vec<String> {
    let mut logits = Vec::new();
    engine.logits(images, &mut logits);
    let actual: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    if actual.len() != case.batch * case.classes {
        return vec![format!(
            "{} logits for {} × {}",
            actual.len(),
            case.batch,
            case.classes
        )];
    }
    match trained {
        false => case
            .logits_before
            .complaints("logit before training", &actual),
        true => case
            .logits_after
            .complaints("logit after training", &actual),
    }
}

fn compare(
    case: &Case,
    what: &str,
    name: &str,
    summary: &Summary,
    actual: &[f64],
    rounding: f64,
) -> Vec<String> {
    let indices = reference::sample_indices(name, actual.len(), case.samples);
    summary.complaints(&format!("{what} of {name}"), actual, &indices, rounding)
}
