//! What becomes of values and optimizer slots at a flip.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What re-activated weights start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reactivated {
    /// +0.0.
    #[default]
    Zero,
    /// The value held immediately before the weight was dropped.
    Saved,
}

/// What becomes of the slots of weights that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SlotsAtThreshold {
    /// They become +0.0.
    #[default]
    Zero,
    /// They keep their values, frozen until the weights are re-activated.
    Keep,
}

/// What becomes of slots when weights are re-activated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SlotsAtReactivation {
    /// Those of the re-activated weights start from +0.0.
    #[default]
    Zero,
    /// All go on from the values that they hold.
    Keep,
    /// Those of all weights of the layer start from +0.0, and a trainer zeroes those of its other parameters too (AC/DC).
    ZeroAll,
}

/// What becomes of values and slots at a flip.
///
/// The default, which is also that of every method but `ac_dc`: re-activated weights start from zero; slots of dropped weights are
/// zeroed, so those of re-activated weights start from zero, and those of kept weights go on; frozen weights see no update at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FlipPolicy {
    /// What re-activated weights start from.
    pub reactivated: Reactivated,
    /// What becomes of the slots of dropped weights.
    pub slots_at_threshold: SlotsAtThreshold,
    /// What becomes of slots when weights are re-activated.
    pub slots_at_reactivation: SlotsAtReactivation,
    /// Whether the saved values of dropped weights decay while frozen, as they would with no gradient. The caller gives the factor
    /// to [`reactivate`](crate::reactivate).
    pub decay_frozen: bool,
}
