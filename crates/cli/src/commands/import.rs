//! `skinny import`: weights of other programs under the names of a network.

use serde_json::json;
use skinny::interchange::{InterchangeError, Source, import as take};
use skinny::network::{Network, shape_text};

use crate::arguments::ImportArguments;
use crate::failure::Failure;
use crate::output::{Output, note, table};

/// Lists the tensors of a file; with a network, matches them with its parameters and writes those.
pub fn import(arguments: &ImportArguments, output: Output) -> Result<(), Failure> {
    if let Some(to) = &arguments.to
        && to.extension().is_none_or(|ending| ending != "safetensors")
    {
        return Err(Failure::usage(format!(
            "--to {} is written as safetensors; end it in .safetensors",
            to.display()
        )));
    }
    let options = arguments.matching.options()?;
    let Some(name) = &arguments.network else {
        if arguments.matching.any() {
            return Err(Failure::usage(
                "--match, --rename and --no-strict say how weights match a network; name it with --network",
            ));
        }
        return list(&Source::open(&arguments.file)?, output);
    };
    let graph = Network::load(name)?.graph()?;
    let source = Source::open(&arguments.file)?;
    let imported = take(&source, &graph, &options).map_err(|error| {
        // All of them, of which the message has only the first.
        for line in error
            .mismatches()
            .into_iter()
            .flat_map(|found| found.lines())
        {
            note!("{line}");
        }
        InterchangeError::InFile {
            path: arguments.file.clone(),
            source: Box::new(error),
        }
    })?;
    for line in imported.mismatches.lines() {
        note!("{line}");
    }
    if let Some(to) = &arguments.to {
        imported.tensors.save(to)?;
    }
    let wrong: Vec<_> = (imported.mismatches.wrong_shape.iter())
        .map(|wrong| json!({ "name": wrong.name, "parameter": wrong.parameter, "shape": wrong.found, "needed": wrong.needed }))
        .collect();
    output.object(&json!({
        "file": arguments.file, "format": source.format().to_string(), "network": graph.name, "to": arguments.to,
        "pairs": imported.pairs, "missing": imported.mismatches.missing,
        "unexpected": imported.mismatches.unexpected, "wrong_shape": wrong,
    }))?;
    let rows: Vec<Vec<String>> = (imported.pairs.iter())
        .map(|pair| {
            vec![
                pair.name.clone(),
                pair.parameter.clone(),
                shape_text(&pair.shape),
            ]
        })
        .collect();
    output.text(&with_head(
        &["in the file", "in the network", "shape"],
        rows,
    ))?;
    let count = format!(
        "{} of {} parameters",
        imported.pairs.len(),
        graph.parameters.len()
    );
    output.text(&match &arguments.to {
        Some(to) => format!("\n{}: {count}", to.display()),
        None => format!("\n{count} match; --to FILE writes them"),
    })
}

fn list(source: &Source, output: Output) -> Result<(), Failure> {
    let entries = source.entries().iter();
    let tensors: Vec<_> = (entries.clone())
        .map(|entry| json!({ "name": entry.name(), "shape": entry.shape(), "type": entry.numbers().to_string() }))
        .collect();
    output.object(&json!({ "format": source.format().to_string(), "tensors": tensors }))?;
    let rows = entries
        .map(|entry| {
            let (name, shape) = (entry.name().to_owned(), shape_text(&entry.shape()));
            vec![name, shape, entry.numbers().to_string()]
        })
        .collect();
    output.text(&with_head(&["tensor", "shape", "type"], rows))
}

/// Names from files may have line breaks and other control characters.
fn with_head(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let plain = |cell: String| -> String {
        cell.chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect()
    };
    let head = head.iter().map(|cell| cell.to_string()).collect();
    let rows = rows
        .into_iter()
        .map(|row| row.into_iter().map(plain).collect());
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
