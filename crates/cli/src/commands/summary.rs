//! `skinny summary`: the layers of a network.

use std::path::Path;

use serde_json::json;
use skinny::model::Model;
use skinny::network::{Network, zoo_names};

use crate::commands::source;
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
    let network = network.unwrap_or_default();
    let summary = match source::is_skinny(Path::new(network)) {
        true => Model::load(Path::new(network))?.graph().summary(),
        false => Network::load(network)?.graph()?.summary(),
    };
    output.object(&serde_json::to_value(&summary).map_err(Failure::usage)?)?;
    output.text(summary.to_string().trim_end())
}
