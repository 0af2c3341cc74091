//! Update rules and their named slots.

use serde::{Deserialize, Serialize};

/// Which update rule a recipe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// SGD with momentum in PyTorch's form: the learning rate stays outside the velocity.
    Sgd,
    /// SGD with momentum in Caffe's form: the learning rate is kept inside the velocity.
    CaffeSgd,
    /// AdamW (Loshchilov & Hutter 2019): decoupled weight decay, bias-corrected moments.
    Adamw,
}

/// An update rule with its constants. `g` is the gradient, `λ` the weight decay, `W` the weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// `g += λW; V = μV + g; W −= lr·V` (Nesterov: `W −= lr·(g + μV)`).
    Sgd {
        /// μ
        momentum: f32,
        /// λ
        weight_decay: f32,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// `V = μV + lr·(g + λW); W −= V` (Nesterov: `W −= (1 + μ)·V − μ·V_before`).
    CaffeSgd {
        /// μ
        momentum: f32,
        /// λ
        weight_decay: f32,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// `W −= lr·λW; m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²; W −= lr·m̂/(√v̂ + ε)`.
    Adamw {
        /// β₁
        beta1: f32,
        /// β₂
        beta2: f32,
        /// ε
        epsilon: f32,
        /// λ
        weight_decay: f32,
    },
}

impl Optimizer {
    /// The names of the slots that the rule keeps for every weight.
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { .. } | Optimizer::CaffeSgd { .. } => &["momentum"],
            Optimizer::Adamw { .. } => &["first_moment", "second_moment"],
        }
    }

    /// How far a gradient of 1 that stays moves a weight in a step at rate 1: momentum adds up what came before. The scale of AdamW's
    /// steps is its own, so that weight decay and penalties stand beside them.
    pub(crate) fn reach(&self) -> f64 {
        match self {
            Optimizer::Sgd { momentum, .. } | Optimizer::CaffeSgd { momentum, .. } => {
                1.0 / (1.0 - f64::from(*momentum))
            }
            Optimizer::Adamw { .. } => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_rule() {
        let sgd = Optimizer::Sgd {
            momentum: 0.9,
            weight_decay: 0.0,
            nesterov: false,
        };
        assert_eq!(sgd.slots(), ["momentum"]);
        let adamw = Optimizer::Adamw {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        };
        assert_eq!(adamw.slots(), ["first_moment", "second_moment"]);
    }
}
