//! `skinny recipes`: the built-in recipes.

use serde_json::json;
use skinny::train::{BUILT_IN, Recipe};

use crate::failure::Failure;
use crate::output::Output;

/// Lists the built-in recipes, or shows one.
pub fn recipes(name: Option<&str>, output: Output) -> Result<(), Failure> {
    match name {
        Some(name) => {
            let recipe = Recipe::load(name, &[])?;
            output.object(&serde_json::to_value(&recipe).map_err(Failure::usage)?)?;
            let text = BUILT_IN
                .iter()
                .find(|built_in| built_in.name == name)
                .map_or_else(|| recipe.to_toml(), |built_in| built_in.toml.to_string());
            output.text(text.trim_end())
        }
        None => {
            let longest = BUILT_IN.iter().map(|built_in| built_in.name.len()).max();
            let width = longest.unwrap_or(0) + 2;
            for built_in in BUILT_IN {
                output.object(
                    &json!({ "name": built_in.name, "description": built_in.description() }),
                )?;
                output.text(&format!(
                    "{:<width$}{}",
                    built_in.name,
                    built_in.description()
                ))?;
            }
            Ok(())
        }
    }
}
