//! The command `skinny`.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod compare;
mod failure;
mod output;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use arguments::{Arguments, Verb};
use failure::Failure;
use output::{Output, note};

fn main() -> ExitCode {
    // Paths are told in JSON, which has nothing else than Unicode.
    let mut given = std::env::args_os().skip(1);
    if let Some(argument) = given.find(|argument| argument.to_str().is_none()) {
        let argument = argument.to_string_lossy();
        let failure = Failure::usage(format!("{argument} is not UTF-8; rename the file"));
        let json = std::env::args_os().any(|argument| argument == "--json");
        return end(&failure, Output { json });
    }
    let arguments = Arguments::parse();
    // What the libraries have to say, e.g. that files of a folder were passed over.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .without_time()
        .with_target(false)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let json = arguments.json;
            end(&failure, Output { json })
        }
    }
}

/// Tells what went wrong.
fn end(failure: &Failure, output: Output) -> ExitCode {
    note!("skinny: {}", failure.message);
    // The exit code tells it too, if nobody reads this any more.
    let _ = output.object(&json!({
        "event": "error", "code": failure.code, "message": failure.message,
    }));
    ExitCode::from(failure.code)
}

/// Refuses a value of `SKINNY_INSTRUCTION_SET` that means nothing, which would go unnoticed.
fn check_instruction_set() -> Result<(), Failure> {
    const NAMES: [&str; 3] = ["baseline", "avx2", "avx512"];
    match std::env::var_os("SKINNY_INSTRUCTION_SET") {
        Some(value) if !NAMES.iter().any(|name| value == *name) && !value.is_empty() => {
            Err(Failure::usage(format!(
                "SKINNY_INSTRUCTION_SET={} is no instruction set; write {}",
                value.to_string_lossy(),
                NAMES.join(" or ")
            )))
        }
        _ => Ok(()),
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    check_instruction_set()?;
    let output = Output {
        json: arguments.json,
    };
    match &arguments.verb {
        Verb::Train(train) => commands::train::train(train, output),
        Verb::Eval(eval) => commands::eval::eval(eval, output),
        Verb::Predict(predict) => commands::predict::predict(predict, output),
        Verb::Sweep(arguments) => commands::sweep::sweep(arguments, output),
        Verb::Compare(arguments) => commands::compare::compare(arguments, output),
        Verb::Sensitivity(arguments) => commands::sensitivity::sensitivity(arguments, output),
        Verb::Slim(arguments) => commands::slim::slim(arguments, output),
        Verb::Plan(recipe) => commands::plan::plan(recipe, output),
        Verb::Summary { network, list } => {
            commands::summary::summary(network.as_deref(), *list, output)
        }
        Verb::Bench(bench) => commands::bench::bench(bench, output),
        Verb::Export(export) => commands::export::export(export, output),
        Verb::Import(import) => commands::import::import(import, output),
        Verb::Inspect { file, plots } => commands::inspect::inspect(file, plots.as_deref(), output),
        Verb::Report { runs, out } => commands::report::report(runs, out.as_deref(), output),
        Verb::Data { verb } => commands::data::data(verb, output),
        Verb::Recipes { name } => commands::recipes::recipes(name.as_deref(), output),
        Verb::Env => commands::env::env(output),
        Verb::Completions { shell } => commands::help::completions(*shell),
        Verb::Man { out } => commands::help::man(out.as_deref()),
    }
}
