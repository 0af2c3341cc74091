//! The files that `scripts/pytorch_fixtures.py` writes, as it documents them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use skinny_network::{Graph, Network, Operation};

use super::reference;

/// How many times the deviation that PyTorch shows between its own float32 code paths and float64 an engine
/// may deviate: its sums run in another order. The CPU engine with AVX-512 needs 2.4.
const ALLOWED: f64 = 8.0;

/// One training run of PyTorch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// File name without extension.
    pub name: String,
    /// Name in the zoo, or `networks/x.toml` beside the fixture.
    pub network: String,
    /// Images per step.
    pub batch: usize,
    /// Number of classes.
    pub classes: usize,
    /// Number of training steps.
    pub steps: usize,
    /// Part of the names of images and labels.
    pub draw: usize,
    /// How close the run comes to the other branch of a ReLU or max pool; none if it has neither.
    pub margin: Option<f64>,
    /// Update rule.
    pub optimizer: Rule,
    /// Learning rate of each step.
    pub learning_rates: Vec<f32>,
    /// 0 = off.
    pub label_smoothing: f32,
    /// Bound of the gradient norm.
    pub clip_norm: Option<f32>,
    /// Decay of the moving average.
    pub ema_decay: Option<f32>,
    /// Expected density of the masks.
    pub mask_density: Option<f64>,
    /// Most stored elements of a tensor.
    pub samples: usize,
    /// First generated values of the first images.
    pub input_check: Vec<f32>,
    /// Labels of the first step.
    pub labels_check: Vec<u32>,
    /// Mean loss of each step.
    pub loss: Series,
    /// Gradient norm of each step, masked, before clipping.
    pub gradient_norm: Series,
    /// First logits of the images of step 0 in evaluation mode, before training.
    pub logits_before: Series,
    /// The same after training.
    pub logits_after: Series,
    /// Parameters and running statistics.
    pub parameters: Vec<Tensor>,
}

/// Constants of the update rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which rule.
    pub kind: RuleKind,
    /// μ of both forms of SGD.
    pub momentum: f32,
    /// Nesterov's form of SGD.
    pub nesterov: bool,
    /// Of AdamW.
    pub beta1: f32,
    /// Of AdamW.
    pub beta2: f32,
    /// Of AdamW.
    pub epsilon: f32,
    /// λ of every rule.
    pub weight_decay: f32,
}

/// Name of an update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// PyTorch's SGD.
    Sgd,
    /// Caffe's SGD: the learning rate inside the velocity.
    CaffeSgd,
    /// `torch.optim.AdamW`.
    Adamw,
}

/// Numbers with one common deviation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// In float64.
    pub values: Vec<f64>,
    /// Largest deviation of float32.
    pub deviation: f64,
}

/// One parameter or running statistic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// `layer.weight` and so on.
    pub name: String,
    /// PyTorch's layout.
    pub shape: Vec<usize>,
    /// Factor of the generated values.
    pub scale: f32,
    /// Summand of the generated values.
    pub offset: f32,
    /// First generated values.
    pub check: Vec<f32>,
    /// Of step 0, unmasked and unclipped; none for a running statistic.
    pub gradient: Option<Summary>,
    /// Values after the last step minus values before the first.
    pub change: Summary,
    /// Moving average minus values before the first step.
    pub average: Option<Summary>,
}

/// What is stored of a tensor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// L2 norm.
    pub norm: f64,
    /// Sum of all elements.
    pub sum: f64,
    /// The elements at [`reference::sample_indices`].
    pub samples: Vec<f64>,
    /// Float32's largest deviation of an element, L2 norm of all deviations, deviation of the sum.
    pub deviations: [f64; 3],
}

/// The folder of the fixtures.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// All cases whose name starts with `prefix`, by name.
pub fn cases(prefix: &str) -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of the fixtures")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| {
            path.file_stem()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixture starts with {prefix}");
    paths.iter().map(|path| read(path)).collect()
}

/// The case of this name.
pub fn case(name: &str) -> Case {
    read(&folder().join(format!("{name}.json")))
}

fn read(path: &Path) -> Case {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Case {
    /// The network with dropout off, as the reference has it.
    pub fn graph(&self) -> Graph {
        let mut network = if self.network.ends_with(".toml") {
            Network::load_file(&folder().join(&self.network))
        } else {
            Network::load(&self.network)
        }
        .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        for layer in &mut network.layers {
            if let Operation::Dropout { p } = &mut layer.operation {
                *p = 0.0;
            }
        }
        network
            .graph()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The images of a training step, `[batch, C, H, W]`.
    pub fn images(&self, graph: &Graph, step: usize) -> Vec<f32> {
        let length = self.batch * graph.input.iter().product::<usize>();
        reference::values(&format!("input.{}.{step}", self.draw), length, 1.0, 0.0)
    }

    /// The labels of a training step.
    pub fn labels(&self, step: usize) -> Vec<u32> {
        reference::labels(
            &format!("labels.{}.{step}", self.draw),
            self.batch,
            self.classes,
        )
    }

    /// The stored numbers of the parameter `name`.
    pub fn parameter(&self, name: &str) -> &Tensor {
        (self.parameters.iter().find(|tensor| tensor.name == name))
            .unwrap_or_else(|| panic!("{}: PyTorch has no {name}", self.name))
    }
}

impl Series {
    /// A complaint about each of `actual` that is too far off; `actual` may be longer than what is stored.
    pub fn complaints(&self, what: &str, actual: &[f64]) -> Vec<String> {
        if actual.len() < self.values.len() {
            return vec![format!(
                "{what}: {} values, PyTorch has {}",
                actual.len(),
                self.values.len()
            )];
        }
        let largest = self
            .values
            .iter()
            .fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let allowed = ALLOWED * self.deviation + f64::from(f32::EPSILON) * largest;
        let pairs = actual.iter().zip(&self.values).enumerate();
        pairs
            .filter_map(|(i, (&a, &e))| complaint(&format!("{what} {i}"), a, e, allowed))
            .collect()
    }
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The generated values.
    pub fn values(&self) -> Vec<f32> {
        reference::values(&self.name, self.len(), self.scale, self.offset)
    }

    /// The largest magnitude of a generated value.
    pub fn magnitude(&self) -> f64 {
        f64::from(self.offset.abs() + self.scale)
    }
}

impl Summary {
    /// A complaint about each number that is too far off. `rounding` is the size of one float32 rounding of an
    /// element, for deviations that are small by luck; `indices` are those of the samples.
    pub fn complaints(
        &self,
        what: &str,
        actual: &[f64],
        indices: &[usize],
        rounding: f64,
    ) -> Vec<String> {
        assert_eq!(indices.len(), self.samples.len(), "{what}");
        let [largest, norm, sum] = self.deviations;
        // What stayed exactly as it was (a learning-rate factor of 0) has to.
        let rounding = if self.norm == 0.0 && norm == 0.0 {
            0.0
        } else {
            rounding
        };
        let whole = rounding * (actual.len() as f64).sqrt();
        let actual_norm = actual.iter().map(|x| x * x).sum::<f64>().sqrt();
        let actual_sum = actual.iter().sum::<f64>();
        let mut found: Vec<String> = Vec::new();
        found.extend(complaint(
            &format!("{what}: norm"),
            actual_norm,
            self.norm,
            ALLOWED * norm + whole,
        ));
        found.extend(complaint(
            &format!("{what}: sum"),
            actual_sum,
            self.sum,
            ALLOWED * (sum + norm) + whole,
        ));
        for (&index, &expected) in indices.iter().zip(&self.samples) {
            let allowed = ALLOWED * largest + rounding;
            found.extend(complaint(
                &format!("{what}: element {index}"),
                actual[index],
                expected,
                allowed,
            ));
        }
        found
    }
}

/// A complaint if `actual` is not within `allowed` of `expected`; NaN never is.
fn complaint(what: &str, actual: f64, expected: f64, allowed: f64) -> Option<String> {
    // Stored numbers have eight digits.
    let allowed = allowed + 1e-8 * expected.abs();
    let fine = (actual - expected).abs() <= allowed;
    (!fine).then(|| format!("{what}: {actual:.9e}, PyTorch has {expected:.9e} ± {allowed:.1e}"))
}
