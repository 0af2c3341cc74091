//! The tables of a recipe, with their defaults and the values that they accept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skinny_data::{Augment, AugmentError};
use skinny_interchange::Options;
use skinny_network::Init;
use skinny_sparsity::Duration;

use crate::RecipeError;
use crate::optimizer::{Optimizer, OptimizerKind};
use crate::schedule::ScheduleKind;

/// The largest decay: little nearer to 1, a number of single precision would be 1.
const BELOW_ONE: f64 = 1.0 - 1e-7;
/// What is smaller, single precision takes for 0, or knows inexactly.
const LEAST: f64 = f32::MIN_POSITIVE as f64;

/// The most images of a batch: buffers for all of them are kept.
const MOST_IMAGES: usize = 1 << 16;

/// `[data]`: what is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// A set of `skinny data list`, or `folder` together with `path`.
    pub name: String,
    /// The folder of pictures of the set `folder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Images per step.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Random changes of training pictures, e.g. `["shift:2", "mirror", "affine:10,0.1,5"]`.
    #[serde(default)]
    pub augment: Vec<String>,
    /// What makes the values of pictures comparable.
    #[serde(default, skip_serializing_if = "is_channel")]
    pub normalize: Normalize,
    /// Training pictures held out, on which `best` is chosen.
    #[serde(default)]
    pub validation: usize,
    /// Only so many training pictures (after those held out), of picture folders spread over the classes; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Only so many test pictures, of picture folders spread over the classes; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

impl DataSettings {
    /// Random changes of training pictures.
    ///
    /// # Errors
    /// [`RecipeError::Value`] with the forms that there are.
    pub fn augmentation(&self) -> Result<Vec<Augment>, RecipeError> {
        let one = |text: &String| {
            text.parse()
                .map_err(|error: AugmentError| RecipeError::Value {
                    key: "data.augment".into(),
                    reason: error.to_string(),
                })
        };
        self.augment.iter().map(one).collect()
    }

    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        let refuse = |key: &str, reason: String| {
            Err(RecipeError::Value {
                key: format!("data.{key}"),
                reason,
            })
        };
        if !(1..=MOST_IMAGES).contains(&self.batch) {
            let reason = format!("{} is not between 1 and {MOST_IMAGES}", self.batch);
            return refuse("batch", reason);
        }
        for (key, most) in [("train", self.train), ("test", self.test)] {
            if most == Some(0) {
                return refuse(key, "must be at least 1, or left out for all".into());
            }
        }
        self.augmentation().map(|_| ())
    }
}

/// What makes the values of pictures comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Each channel minus its mean, divided by its standard deviation: published ones, or those of some training pictures.
    #[default]
    Channel,
    /// Global contrast normalization of each picture.
    Gcn,
    /// The same, and ZCA whitening fitted to the training set; random changes work on whitened pictures.
    GcnZca,
}

fn is_channel(normalize: &Normalize) -> bool {
    *normalize == Normalize::Channel
}

fn default_batch() -> usize {
    128
}

/// `[network]`: what is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// A network of the zoo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A network's TOML file, beside the recipe or relative to the current folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Outputs of its last layer with weights, where the data has another number of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Weights to start from instead of random ones, beside the recipe or relative to the current folder: safetensors,
    /// PyTorch's `.pt` or ONNX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// How those weights are matched with the network's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub import: Options,
}

fn is_default(options: &Options) -> bool {
    *options == Options::default()
}

/// Factors of learning rate and weight decay for parameters whose name matches a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorSettings {
    /// Multiplies the learning rate.
    #[serde(default = "one")]
    pub lr: f32,
    /// Multiplies the weight decay.
    #[serde(default = "one")]
    pub decay: f32,
}

fn one() -> f32 {
    1.0
}

/// Factors of the learning rate by phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseRates {
    /// In dense phases.
    pub dense: f64,
    /// In sparse phases, until the last flip.
    pub sparse: f64,
    /// After the last flip of the run (DSD trains its last, dense, phase at a tenth).
    pub last: f64,
}

impl Default for PhaseRates {
    fn default() -> Self {
        PhaseRates {
            dense: 1.0,
            sparse: 1.0,
            last: 1.0,
        }
    }
}

/// `[train]`: how the network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Passes over the training pictures.
    pub epochs: u32,
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// The base learning rate; the peak of one-cycle.
    pub lr: f64,
    /// μ of SGD, β₁ of AdamW.
    pub momentum: f64,
    /// Nesterov's form of SGD.
    pub nesterov: bool,
    /// β₂ of AdamW.
    pub beta2: f64,
    /// ε of AdamW.
    pub epsilon: f64,
    /// λ, on weights and biases alike unless a factor says otherwise.
    pub weight_decay: f64,
    /// Upper bound of the gradient's global norm; 0 = none.
    pub clip_norm: f64,
    /// The shape of the learning rate.
    pub schedule: ScheduleKind,
    /// Linear warm-up at the start, e.g. `"5%"`.
    pub lr_warmup: Duration,
    /// Period of `schedule = "step"`.
    pub lr_every: Duration,
    /// Falls of `schedule = "multi-step"`.
    pub lr_at: Vec<Duration>,
    /// What a fall multiplies the rate by.
    pub lr_factor: f64,
    /// Where `schedule = "cosine"` ends, as a fraction of the base rate.
    pub lr_final: f64,
    /// Factors of the rate by phase.
    pub phase_lr: PhaseRates,
    /// Steps over which the rate rises from 0 again after each flip, e.g. `"100it"`.
    pub flip_warmup: Duration,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// Decay per step of an average of the weights, which is then what is evaluated and saved; 0 = none.
    pub ema: f64,
    /// How weights start for which the network does not say it: `{ kind = "he" }`, `{ kind = "xavier" }`, `{ kind = "gaussian", std = 0.05 }`.
    pub init: Init,
    /// Whether weights start by `init` even where the network says how they start.
    pub init_everywhere: bool,
    /// Batches, augmented as in training, over which BatchNorm's statistics are re-estimated after flips and before the
    /// last save; 0 leaves them as training moved them.
    pub batchnorm_batches: usize,
    /// Factors by parameter name, `*` matches anything: `{ "fc*.weight" = { lr = 0.1 } }`.
    pub factors: BTreeMap<String, FactorSettings>,
    /// Time between checkpoints, e.g. `"1ep"` or `"500it"`.
    pub checkpoint: Duration,
}

impl Default for TrainSettings {
    fn default() -> Self {
        TrainSettings {
            epochs: 15,
            optimizer: OptimizerKind::Sgd,
            lr: 0.05,
            momentum: 0.9,
            nesterov: false,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 0.0,
            schedule: ScheduleKind::Constant,
            lr_warmup: Duration::Steps(0),
            lr_every: Duration::Percent(100.0),
            lr_at: Vec::new(),
            lr_factor: 0.1,
            lr_final: 0.0,
            phase_lr: PhaseRates::default(),
            flip_warmup: Duration::Steps(0),
            label_smoothing: 0.0,
            ema: 0.0,
            init: Init::He {},
            init_everywhere: false,
            batchnorm_batches: 20,
            factors: BTreeMap::new(),
            checkpoint: Duration::Epochs(1.0),
        }
    }
}

impl TrainSettings {
    /// The update rule with its constants.
    pub fn optimizer(&self) -> Optimizer {
        let (momentum, weight_decay) = (self.momentum as f32, self.weight_decay as f32);
        let nesterov = self.nesterov;
        match self.optimizer {
            OptimizerKind::Sgd => Optimizer::Sgd {
                momentum,
                weight_decay,
                nesterov,
            },
            OptimizerKind::CaffeSgd => Optimizer::CaffeSgd {
                momentum,
                weight_decay,
                nesterov,
            },
            OptimizerKind::Adamw => Optimizer::Adamw {
                beta1: momentum,
                beta2: self.beta2 as f32,
                epsilon: self.epsilon as f32,
                weight_decay,
            },
        }
    }

    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        let within = |key: &str, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                return Ok(());
            }
            let reason = match (low, high) {
                (LEAST, _) => {
                    format!("{value} is not above 0 (in single precision) and at most {high}")
                }
                (_, f64::MAX) => format!("{value} is not a finite number of {low} or more"),
                _ => format!("{value} is not between {low} and {high}"),
            };
            Err(RecipeError::Value {
                key: format!("train.{key}"),
                reason,
            })
        };
        if self.epochs == 0 {
            return Err(RecipeError::Value {
                key: "train.epochs".into(),
                reason: "must be at least 1".into(),
            });
        }
        within("lr", self.lr, LEAST, 1e3)?;
        within("momentum", self.momentum, 0.0, BELOW_ONE)?;
        within("beta2", self.beta2, 0.0, BELOW_ONE)?;
        within("epsilon", self.epsilon, LEAST, 1.0)?;
        within("weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("clip_norm", self.clip_norm, 0.0, f64::MAX)?;
        if self.clip_norm > 0.0 {
            within("clip_norm", self.clip_norm, LEAST, f64::from(f32::MAX))?;
        }
        within("label_smoothing", self.label_smoothing, 0.0, BELOW_ONE)?;
        within("ema", self.ema, 0.0, BELOW_ONE)?;
        within("lr_factor", self.lr_factor, LEAST, 1.0)?;
        within("lr_final", self.lr_final, 0.0, 1.0)?;
        within_init(self.init, within)?;
        for (pattern, factor) in &self.factors {
            let key = |part| format!("factors.\"{pattern}\".{part}");
            within(&key("lr"), f64::from(factor.lr), 0.0, 1e3)?;
            within(&key("decay"), f64::from(factor.decay), 0.0, 1e3)?;
        }
        for (name, rate) in [
            ("dense", self.phase_lr.dense),
            ("sparse", self.phase_lr.sparse),
            ("last", self.phase_lr.last),
        ] {
            within(&format!("phase_lr.{name}"), rate, LEAST, 1e3)?;
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(RecipeError::Value {
                key: "train.nesterov".into(),
                reason: "needs a momentum above 0".into(),
            });
        }
        self.refuse_unused()
    }

    /// A key that does nothing with the others was meant to do something.
    fn refuse_unused(&self) -> Result<(), RecipeError> {
        let [multi_step, step] =
            [ScheduleKind::MultiStep, ScheduleKind::Step].map(|schedule| self.schedule == schedule);
        let default = Self::default();
        let never = self.lr_every == default.lr_every;
        let adamw = self.optimizer == OptimizerKind::Adamw;
        let refused = [
            (
                self.nesterov && adamw,
                "nesterov",
                "is a form of SGD; set it to false or use another optimizer",
            ),
            (
                !adamw && self.beta2 != default.beta2,
                "beta2",
                "is of optimizer \"adamw\" alone; leave it out",
            ),
            (
                !adamw && self.epsilon != default.epsilon,
                "epsilon",
                "is of optimizer \"adamw\" alone; leave it out",
            ),
            (
                self.schedule == ScheduleKind::OneCycle && self.lr_warmup != default.lr_warmup,
                "lr_warmup",
                "does not go with schedule \"one-cycle\", which rises by itself; set it to \"0it\"",
            ),
            (
                self.schedule != ScheduleKind::Cosine && self.lr_final != default.lr_final,
                "lr_final",
                "is of schedule \"cosine\" alone; leave it out",
            ),
            (
                !multi_step && !step && self.lr_factor != default.lr_factor,
                "lr_factor",
                "is of schedules \"step\" and \"multi-step\" alone; leave it out",
            ),
            (
                multi_step && self.lr_at.is_empty(),
                "lr_at",
                "is empty, so the rate would never fall; say when, as [\"50%\", \"75%\"]",
            ),
            (
                !multi_step && !self.lr_at.is_empty(),
                "lr_at",
                "is of schedule \"multi-step\" alone; set it to []",
            ),
            (
                step && never,
                "lr_every",
                "is the whole run, so the rate would never fall; say how often, as \"30%\"",
            ),
            (
                !step && !never,
                "lr_every",
                "is of schedule \"step\" alone; set it to \"100%\"",
            ),
        ];
        match refused.into_iter().find(|(refused, ..)| *refused) {
            None => Ok(()),
            Some((_, key, reason)) => Err(RecipeError::Value {
                key: format!("train.{key}"),
                reason: reason.into(),
            }),
        }
    }
}

fn within_init(
    init: Init,
    within: impl Fn(&str, f64, f64, f64) -> Result<(), RecipeError>,
) -> Result<(), RecipeError> {
    match init {
        Init::Constant { value } => within("init.value", f64::from(value), -1e3, 1e3),
        Init::Gaussian { std } => within("init.std", f64::from(std), 0.0, 1e3),
        Init::Uniform { bound } => within("init.bound", f64::from(bound), 0.0, 1e3),
        Init::He | Init::Xavier => Ok(()),
    }
}
