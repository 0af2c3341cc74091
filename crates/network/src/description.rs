//! A network as data: its layers in order.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// A network: an ordered list of named layers over an input of one shape.
///
/// Read from TOML with [`Network::from_toml`] or from anything that serde reads. A `Network` is
/// only a description; [`Network::graph`] checks it and gives the shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Name of the network.
    pub name: String,
    /// Shape of one input: channels, height, width.
    pub input: [usize; 3],
    /// The layers; each reads only layers before it, the last one is the output.
    pub layers: Vec<Layer>,
}

/// One layer of a [`Network`].
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Name of the layer, the first part of its weights' names.
    pub name: String,
    /// What the layer reads: names of earlier layers, or "input"; `None` is the layer before.
    pub inputs: Option<Vec<String>>,
    /// What the layer does.
    pub operation: Operation,
    /// How its parameters start; where it is silent, the recipe decides.
    pub init: LayerInit,
    /// Factors of the learning rate.
    pub lr: Factors,
    /// Factors of the weight decay.
    pub decay: Factors,
}

impl Layer {
    /// A layer that reads the layer before it, with factors 1 and no initialization of its own.
    pub fn new(name: impl Into<String>, operation: Operation) -> Self {
        Self {
            name: name.into(),
            inputs: None,
            operation,
            init: LayerInit::default(),
            lr: Factors::default(),
            decay: Factors::default(),
        }
    }

    /// Checks the factors and the initialization: finite numbers, none of them negative but the
    /// value of a constant.
    pub(crate) fn check_settings(&self) -> Result<(), NetworkError> {
        let wrong = |key: &str, message: String| {
            Err(NetworkError::Value {
                owner: format!("layer `{}`", self.name),
                key: key.to_owned(),
                message,
            })
        };
        for (key, factors) in [("lr", self.lr), ("decay", self.decay)] {
            for factor in [factors.weight, factors.bias] {
                if !(factor.is_finite() && factor >= 0.0) {
                    return wrong(key, format!("{factor} must be 0 or more; the default is 1"));
                }
            }
        }
        for init in [self.init.weight, self.init.bias].into_iter().flatten() {
            match init {
                Init::Constant { value } if !value.is_finite() => {
                    return wrong("init", format!("{value} must be a finite number"));
                }
                Init::Gaussian { std: spread } | Init::Uniform { bound: spread }
                    if !(spread.is_finite() && spread >= 0.0) =>
                {
                    return wrong("init", format!("{spread} must be 0 or more"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a layer does. Shapes are channels × height × width.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Convolution, with optional bias.
    Conv(Conv),
    /// Fully connected layer on a flat input, with optional bias.
    Linear(Linear),
    /// Batch normalization per channel, with scale and shift.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// Weight of the newest batch in the running statistics (PyTorch's meaning).
        momentum: f32,
    },
    /// max(x, 0).
    Relu,
    /// Largest value of each window; padding never wins.
    MaxPool(Pool),
    /// Mean of each window, over the part of it that lies inside the unpadded input.
    AveragePool(Pool),
    /// Mean of each channel, giving C × 1 × 1.
    GlobalPool,
    /// Local response normalization across channels: x / (k + alpha/size · Σ x²)^beta.
    Lrn {
        /// Number of neighbouring channels, odd.
        size: usize,
        /// Factor of the sum of squares.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Constant term.
        k: f32,
    },
    /// Drops values while training and scales the others by 1 / (1 − p).
    Dropout {
        /// Probability that a value is dropped, in [0, 1).
        p: f32,
    },
    /// C × H × W to (C·H·W) × 1 × 1, in that order.
    Flatten,
    /// Sum of two or more inputs of equal shape.
    Add,
    /// Softmax over the channels; only as the last layer.
    Softmax,
}

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Output channels.
    pub out: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros above and below, left and right.
    pub padding: [usize; 2],
    /// Groups of channels that are convolved apart.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// Sizes of a fully connected layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Output features.
    pub out: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// Sizes of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Rows above and below, columns left and right that hold nothing.
    pub padding: [usize; 2],
    /// Whether a last window that is only partly filled counts (Caffe) or not (PyTorch's default).
    /// A window never starts beyond the input and its leading padding.
    pub ceil: bool,
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Init {
    /// Every value the same. In TOML also a bare number.
    Constant {
        /// The value.
        value: f32,
    },
    /// Normal distribution with mean 0.
    Gaussian {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform distribution on [−bound, bound].
    Uniform {
        /// Largest absolute value.
        bound: f32,
    },
    /// He: normal with standard deviation √(2 / fan_in). In TOML also `"he"`.
    He,
    /// Xavier (Glorot): uniform on ±√(6 / (fan_in + fan_out)). In TOML also `"xavier"`.
    Xavier,
}

/// How the parameters of one layer start; `None` leaves it to the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LayerInit {
    /// Of `X.weight`.
    pub weight: Option<Init>,
    /// Of `X.bias`.
    pub bias: Option<Init>,
}

/// Factors for the two kinds of parameters of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// For `X.weight`.
    pub weight: f32,
    /// For `X.bias`.
    pub bias: f32,
}

impl Default for Factors {
    fn default() -> Self {
        Self {
            weight: 1.0,
            bias: 1.0,
        }
    }
}

impl Operation {
    /// The word for this operation in a description's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv(_) => "conv",
            Self::Linear(_) => "linear",
            Self::BatchNorm { .. } => "batchnorm",
            Self::Relu => "relu",
            Self::MaxPool(_) => "maxpool",
            Self::AveragePool(_) => "avgpool",
            Self::GlobalPool => "globalpool",
            Self::Lrn { .. } => "lrn",
            Self::Dropout { .. } => "dropout",
            Self::Flatten => "flatten",
            Self::Add => "add",
            Self::Softmax => "softmax",
        }
    }
}
