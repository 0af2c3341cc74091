//! `skinny export` for other programs: ONNX models, PyTorch's state dicts, masks.

use std::borrow::Cow;
use std::io::Write;

use serde_json::json;
use skinny::interchange::{OnnxOptions, Rename, masks_to_bytes, state_dict_to_bytes, to_onnx};
use skinny::network::{Graph, TensorsError, write_atomically};
use skinny::sparsity::Mask;

use crate::arguments::{ExportArguments, PackChoice, ValueChoice};
use crate::commands::source::Source;
use crate::failure::Failure;
use crate::output::{Output, bytes, note, percent, thousands};

/// What another program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An ONNX model.
    Onnx,
    /// Weights for `load_state_dict`.
    StateDict,
    /// Masks for `torch.nn.utils.prune`.
    Masks,
}

impl Foreign {
    /// As it is said in results.
    fn name(self) -> &'static str {
        match self {
            Foreign::Onnx => "onnx",
            Foreign::StateDict => "state_dict",
            Foreign::Masks => "masks",
        }
    }
}

/// Refuses options that would have no effect on what is written.
pub fn check(arguments: &ExportArguments, foreign: Foreign) -> Result<(), Failure> {
    let refuse = |flag: &str, reason: &str| Err(Failure::usage(format!("{flag} {reason}")));
    if arguments.values != ValueChoice::F32 || arguments.pack != PackChoice::Small {
        return refuse(
            "--values and --pack",
            "are for .skinny files; leave them out",
        );
    }
    if arguments.verify.is_some() {
        return refuse(
            "--verify",
            "measures .skinny files; leave it out: here the weights are written bit for bit",
        );
    }
    if arguments.with_preprocess && foreign != Foreign::Onnx {
        return refuse("--with-preprocess", "is for .onnx models; leave it out");
    }
    if !arguments.rename.is_empty() && foreign == Foreign::Onnx {
        return refuse("--rename", "is for .safetensors files; leave it out");
    }
    if arguments.fold && foreign != Foreign::Onnx {
        return refuse(
            "--fold",
            "would leave weights that the PyTorch module does not have; leave it out",
        );
    }
    Ok(())
}

/// Writes the file; the options were checked.
pub fn export(
    arguments: &ExportArguments,
    foreign: Foreign,
    mut source: Source,
    output: Output,
) -> Result<(), Failure> {
    if arguments.fold {
        let layers = source.model.fold_batchnorm()?;
        note!("{layers} batch normalizations folded");
    }
    let graph = source.model.network.graph()?;
    let rename = Rename::parse(&arguments.rename)?;
    let names = graph.parameters.iter().map(|parameter| &*parameter.name);
    if let Some(old) = rename.unused(names) {
        return Err(Failure::usage(format!(
            "--rename {old}={} fits no layer of {}; `skinny summary` lists them",
            rename.beginnings[old], graph.name
        )));
    }
    let mut path = arguments.to.clone();
    let mut kept = None;
    let file = match foreign {
        Foreign::Onnx => onnx(arguments, &graph, &source)?,
        Foreign::StateDict => state_dict_to_bytes(&graph, &source.model.tensors, &rename)?,
        Foreign::Masks => {
            path.set_extension("safetensors");
            let masks = masks(&graph, &source);
            let (ones, all) = (masks.iter()).fold((0, 0), |(ones, all), (_, _, mask)| {
                (ones + mask.count(), all + mask.len())
            });
            kept = Some((ones, all));
            masks_to_bytes(
                (masks.iter()).map(|(name, shape, mask)| (*name, *shape, &**mask)),
                &rename,
            )?
        }
    };
    write_atomically(&path, |out| out.write_all(&file)).map_err(|source| TensorsError::Write {
        path: path.clone(),
        source,
    })?;
    output.object(&json!({
        "file": path, "file_bytes": file.len(), "format": foreign.name(), "preprocess": arguments.with_preprocess,
        "kept": kept.map(|(kept, _)| kept), "weights": kept.map(|(_, all)| all),
    }))?;
    let size = bytes(file.len() as u64);
    let told = match (foreign, kept) {
        (_, Some((kept, all))) => format!(
            "masks keep {} of {} weights ({})",
            thousands(kept as u64),
            thousands(all as u64),
            percent(kept as f64 / all.max(1) as f64)
        ),
        (Foreign::Onnx, _) if arguments.with_preprocess => {
            "reads the values 0 to 255 of pictures at the input's size".to_owned()
        }
        (Foreign::Onnx, _) => "reads pictures after all preprocessing".to_owned(),
        _ => "for load_state_dict(strict=True)".to_owned(),
    };
    output.text(&format!("{}: {size}, {told}", path.display()))
}

fn onnx(arguments: &ExportArguments, graph: &Graph, source: &Source) -> Result<Vec<u8>, Failure> {
    let options = OnnxOptions {
        preprocess: arguments
            .with_preprocess
            .then_some(&source.model.preprocess),
    };
    Ok(to_onnx(graph, &source.model.tensors, &options)?)
}

/// The mask of every weight, in the order of the network: the run's, or that of the weights that are not zero.
fn masks<'a>(graph: &'a Graph, source: &'a Source) -> Vec<(&'a str, &'a [usize], Cow<'a, Mask>)> {
    let weights = (graph.parameters.iter()).filter(|parameter| parameter.role.thresholded());
    weights
        .filter_map(|parameter| {
            let mask = match source.model.masks.get(&parameter.name) {
                Some(mask) => Cow::Borrowed(mask),
                None => {
                    let values = &source.model.tensors.get(&parameter.name)?.data;
                    Cow::Owned(Mask::of_nonzero(values))
                }
            };
            Some((&*parameter.name, &*parameter.shape, mask))
        })
        .collect()
}
