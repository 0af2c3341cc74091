//! The methods and their default settings.

use crate::{
    Budget, Duration, Ramp, Reactivated, SlotsAtReactivation, SlotsAtThreshold, SparsitySettings,
};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sparse network is reached. Each method has its own keys and defaults, see [`SparsitySettings::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Ordinary training.
    #[default]
    Dense,
    /// Dense for `warmup`, then one threshold and fine-tuning to the end (Han et al. 2015).
    OneShot,
    /// Dense for `warmup`, then `thresholds` many small thresholds, evenly spaced, the last one `final` before the end
    /// (Zhu & Gupta 2017).
    Gradual,
    /// Dense for `warmup`, sparse for `sparse`, dense to the end: the result is dense by design (Han et al. 2016).
    Dsd,
    /// Dense for `warmup`, then sparse for `sparse` and dense for `dense` in turn as often as both fit before `final`; what is left of
    /// the run is the final sparse phase, at least as long as `final` (Jin et al. 2016).
    Iht,
    /// The phases of `iht` with a global budget, all slots zeroed at every re-activation and longer dense phases (Peste et al. 2021).
    AcDc,
    /// A random mask from the first step to the last.
    StaticRandom,
    /// A random mask from the first step; every so often the least weights are replaced by random ones (Mocanu et al. 2018).
    Set,
    /// The same, but those with the largest gradients grow (Evci et al. 2020).
    Rigl,
    /// Dense for `warmup` with the weights drawn to zero by `l1`, then one threshold and fine-tuning to the end (Han et al. 2015).
    L1,
    /// Ordinary training of a thinner network that has as many weights as the sparse one would keep.
    SmallDense,
}

impl Method {
    /// Whether the mask is there from the first step, drawn at random.
    pub fn starts_random(self) -> bool {
        matches!(self, Method::StaticRandom | Method::Set | Method::Rigl)
    }

    /// Whether the run never thresholds.
    pub fn never_sparse(self) -> bool {
        matches!(self, Method::Dense | Method::SmallDense)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Method::Dense => "dense",
            Method::OneShot => "one_shot",
            Method::Gradual => "gradual",
            Method::Dsd => "dsd",
            Method::Iht => "iht",
            Method::AcDc => "ac_dc",
            Method::StaticRandom => "static_random",
            Method::Set => "set",
            Method::Rigl => "rigl",
            Method::L1 => "l1",
            Method::SmallDense => "small_dense",
        })
    }
}

/// The settings of a method: a key that is `None` here is not used by it (`density`, which has no default, and keys that
/// depend on another key's value excepted).
pub(crate) fn preset(method: Method) -> SparsitySettings {
    let percent = |value| Some(Duration::Percent(value));
    let base = SparsitySettings {
        method,
        ..SparsitySettings::default()
    };
    let thresholding = SparsitySettings {
        budget: Some(Budget::Uniform),
        slots_at_threshold: Some(SlotsAtThreshold::Zero),
        ..base.clone()
    };
    let reactivating = SparsitySettings {
        reactivated: Some(Reactivated::Zero),
        slots_at_reactivation: Some(SlotsAtReactivation::Zero),
        decay_frozen: Some(false),
        ..thresholding.clone()
    };
    // ERK, as in the comparison of Evci et al. 2020.
    let random = SparsitySettings {
        budget: Some(Budget::Erk),
        ..thresholding.clone()
    };
    let regrowing = SparsitySettings {
        slots_at_reactivation: Some(SlotsAtReactivation::Zero),
        regrow_every: percent(1.0),
        regrow_fraction: Some(0.3),
        regrow_until: percent(75.0),
        ..random.clone()
    };
    match method {
        Method::Dense | Method::SmallDense => base,
        Method::StaticRandom => random,
        Method::Set | Method::Rigl => regrowing,
        Method::L1 => SparsitySettings {
            warmup: percent(50.0),
            l1: Some(1e-4),
            ..thresholding
        },
        Method::OneShot => SparsitySettings {
            warmup: percent(50.0),
            ..thresholding
        },
        Method::Gradual => SparsitySettings {
            warmup: percent(20.0),
            final_phase: percent(33.0),
            ramp: Some(Ramp::Cubic),
            thresholds: Some(20),
            ..thresholding
        },
        Method::Dsd => SparsitySettings {
            warmup: percent(33.0),
            sparse: percent(33.0),
            ..reactivating
        },
        Method::Iht => SparsitySettings {
            warmup: percent(20.0),
            sparse: percent(13.0),
            dense: percent(7.0),
            final_phase: percent(33.0),
            ramp: Some(Ramp::Constant),
            final_thresholds: Some(1),
            ..reactivating
        },
        // The published schedule: of 200 epochs dense to 10, then 20 sparse and 20 dense in turn, sparse from 170.
        Method::AcDc => SparsitySettings {
            budget: Some(Budget::Global),
            slots_at_reactivation: Some(SlotsAtReactivation::ZeroAll),
            warmup: percent(5.0),
            sparse: percent(10.0),
            dense: percent(10.0),
            final_phase: percent(15.0),
            ramp: Some(Ramp::Constant),
            final_thresholds: Some(1),
            ..reactivating
        },
    }
}
