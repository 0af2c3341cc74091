//! `skinny predict`: the classes of pictures.

use serde_json::json;
use skinny::data::read_picture;
use skinny::train::softmax;

use crate::arguments::PredictArguments;
use crate::commands::classifier::Classifier;
use crate::commands::env::threads;
use crate::commands::source;
use crate::failure::Failure;
use crate::output::{Output, note};

/// Classifies each picture on its own; one that cannot be read does not keep the others from being classified.
pub fn predict(arguments: &PredictArguments, output: Output) -> Result<(), Failure> {
    let threads = threads(arguments.threads)?;
    let source = source::open(&arguments.run, arguments.weights, None)?;
    let input = source.model.network.input;
    let mut classifier = match source::is_skinny(&arguments.run) {
        true => Classifier::of_file(&source.model, threads, arguments.int8)?,
        false => Classifier::of_run(source.model, 1, threads, arguments.int8)?,
    };
    let preprocess = classifier.preprocess().clone();
    let mut logits = Vec::new();
    let mut failed = None;
    for path in &arguments.pictures {
        let image: Result<Vec<f32>, Failure> = read_picture(path)
            .map_err(Failure::from)
            .and_then(|picture| Ok(preprocess.apply(&picture, input)?));
        let image = match image {
            Ok(image) => image,
            Err(failure) => {
                note!("skinny: {}", failure.message);
                output.object(&json!({ "picture": path, "error": failure.message }))?;
                failed = Some(failure.code);
                continue;
            }
        };
        classifier.logits(&image, &mut logits);
        softmax(logits.len(), &mut logits);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        order.truncate(arguments.top.max(1));
        let name = |class: usize| {
            preprocess
                .labels
                .get(class)
                .cloned()
                .unwrap_or_else(|| class.to_string())
        };
        let classes: Vec<_> = order
            .iter()
            .map(|&class| json!({ "label": name(class), "class": class, "probability": logits[class] }))
            .collect();
        output.object(&json!({ "picture": path, "classes": classes }))?;
        let text: Vec<String> = order
            .iter()
            .map(|&class| format!("{} {:.1} %", name(class), 100.0 * logits[class]))
            .collect();
        output.text(&format!("{}: {}", path.display(), text.join(", ")))?;
    }
    match failed {
        Some(code) => Err(Failure {
            message: "some pictures could not be classified".into(),
            code,
        }),
        None => Ok(()),
    }
}
