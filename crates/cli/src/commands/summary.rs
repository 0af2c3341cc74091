//! `skinny summary`: the layers of a network.

use serde_json::json;
use skinny::network::{Network, zoo_names};

use crate::failure::Failure;
use crate::output::Output;

/// Prints the table of a network's layers, or the names of the zoo.
pub fn summary(network: Option<&str>, list: bool, output: Output) -> Result<(), Failure> {
    if list {
        for name in zoo_names() {
            output.object(&json!({ "name": name }))?;
            output.text(name)?;
        }
        return Ok(());
    }
    let summary = Network::load(network.unwrap_or_default())?
        .graph()?
        .summary();
    output.object(&serde_json::to_value(&summary).map_err(Failure::usage)?)?;
    output.text(summary.to_string().trim_end())
}
