//! What must hold for any bytes; the fuzz targets and the replay of their corpus share it.

use skinny_train::{CpuEngine, Engine, Recipe, Resolved, Section, decode_checkpoint, initialize};

fn one_line(reason: &str) {
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
}

/// A recipe is an error in one line, or comes back the same from what it is written as: `true`. One that names no file
/// is worked out, or refused in one line.
pub fn recipe(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let recipe = match Recipe::from_toml(text, &[]) {
        Ok(recipe) => recipe,
        Err(error) => {
            one_line(&error.to_string());
            return false;
        }
    };
    let written = recipe.to_toml();
    let again =
        Recipe::from_toml(&written, &[]).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again, recipe);
    let names_a_file = recipe.network.file.is_some()
        || recipe.network.weights.is_some()
        || recipe
            .network
            .name
            .as_deref()
            .is_some_and(|name| name.contains(['.', '/', '\\']));
    if names_a_file {
        return true;
    }
    match Resolved::new(recipe, 1000) {
        Ok(resolved) => {
            assert!(resolved.total_steps() > 0);
            for step in [0, resolved.total_steps() / 2, resolved.total_steps() - 1] {
                assert!(resolved.rate(step).is_finite());
                let density = resolved.plan.at(step).density();
                assert!(density > 0.0 && density <= 1.0);
            }
        }
        Err(error) => one_line(&error.to_string()),
    }
    true
}

/// The run whose checkpoints are read: 4 -> 3 -> 2 features, a threshold in the middle.
pub fn run() -> (Resolved, CpuEngine) {
    let network = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/small.toml");
    let network = match std::path::Path::new(network).exists() {
        true => network,
        false => concat!(env!("CARGO_MANIFEST_DIR"), "/small.toml"),
    };
    let text = format!(
        r#"
        name = "small"
        data = {{ name = "glyphs", batch = 4 }}
        network = {{ file = "{network}" }}
        train = {{ epochs = 2, ema = 0.5, clip_norm = 1.0 }}
        sparsity = {{ method = "one_shot", density = 0.5 }}
        "#
    );
    let recipe = Recipe::from_toml(&text, &[]).unwrap();
    let resolved = Resolved::new(recipe, 8).unwrap();
    let weights = initialize(&resolved.graph, resolved.recipe.train.init, 0);
    let settings = resolved.engine_settings(1);
    let engine = CpuEngine::new(resolved.graph.clone(), settings, weights);
    (resolved, engine)
}

/// A state is an error in one line, or is taken over whole: `true`. The checksum is not looked at, so that what it would
/// refuse is read.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for checked in [true, false] {
        let (resolved, mut engine) = run();
        match decode_checkpoint(bytes, &resolved, &mut engine, checked) {
            Ok(_) => {
                whole(&engine);
                accepted = true;
            }
            Err(reason) => one_line(&reason),
        }
    }
    accepted
}

/// Everything has its length, and what the masks drop is zero.
fn whole(engine: &CpuEngine) {
    let mut values = Vec::new();
    for (index, parameter) in engine.graph().parameters.iter().enumerate() {
        for section in [Section::Weights, Section::Average, Section::Slot(0)] {
            engine.read(section, index, &mut values);
            assert_eq!(values.len(), parameter.len());
        }
        if let Some(mask) = engine.mask(index) {
            assert_eq!(mask.len(), parameter.len());
            engine.read(Section::Weights, index, &mut values);
            let dropped = values.iter().enumerate().filter(|(i, _)| !mask.get(*i));
            assert!(dropped.into_iter().all(|(_, value)| value.to_bits() == 0));
        }
    }
}
