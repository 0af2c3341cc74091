//! Preprocessing as ONNX nodes: the values of a picture, not its geometry.

use std::borrow::Cow;

use skinny_network::{Gcn, Preprocess, Zca};

use super::kind;
use super::nodes::{Attribute, Nodes, Values};

/// Adds what `preprocess` does to the values 0 to 255 of pictures of shape `input`; gives the name of the result.
///
/// The settings have been checked against the input.
pub(crate) fn add<'a>(
    nodes: &mut Nodes<'a>,
    from: &str,
    preprocess: &'a Preprocess,
    input: [usize; 3],
) -> String {
    let mut value = from.to_owned();
    let constant = |nodes: &mut Nodes<'a>, name: &str, number: f32| {
        nodes.constant(name, &[], Values::F32(vec![number].into()));
    };
    if preprocess.scale != 1.0 {
        constant(nodes, "preprocess.scale", preprocess.scale);
        value = step(nodes, "Mul", "scaled", &[&value, "preprocess.scale"], &[]);
    }
    if let Some(settings) = &preprocess.gcn {
        value = gcn(nodes, &value, settings);
    }
    if let Some(settings) = &preprocess.zca {
        value = zca(nodes, &value, settings, input);
    }
    // One value for each channel, or one for all.
    for (values, kind, name, result) in [
        (&preprocess.mean, "Sub", "preprocess.mean", "centred"),
        (&preprocess.std, "Div", "preprocess.std", "normalized"),
    ] {
        if !values.is_empty() {
            let shape = [values.len(), 1, 1];
            nodes.constant(name, &shape, Values::F32(Cow::Borrowed(values)));
            value = step(nodes, kind, result, &[&value, name], &[]);
        }
    }
    value
}

/// Adds a node called `preprocess.<name>`, and gives that name.
fn step(
    nodes: &mut Nodes,
    kind: &str,
    name: &str,
    inputs: &[&str],
    attributes: &[Attribute],
) -> String {
    let name = format!("preprocess.{name}");
    nodes.node(kind, &name, inputs, attributes);
    name
}

/// In double precision, because a picture of one colour has no contrast but what rounding leaves.
fn gcn(nodes: &mut Nodes, from: &str, settings: &Gcn) -> String {
    let scalar = |nodes: &mut Nodes, name: &str, value: f32| {
        nodes.constant(name, &[], Values::F64(f64::from(value)));
    };
    scalar(nodes, "preprocess.gcn.eps", settings.eps);
    scalar(nodes, "preprocess.gcn.scale", settings.scale);
    let all = [
        Attribute::Ints("axes", &[1, 2, 3]),
        Attribute::Int("keepdims", 1),
    ];
    let wide = [Attribute::Int("to", kind::DOUBLE)];
    let wide = step(nodes, "Cast", "gcn.wide", &[from], &wide);
    let mean = step(nodes, "ReduceMean", "gcn.mean", &[&wide], &all);
    let centred = step(nodes, "Sub", "gcn.centred", &[&wide, &mean], &[]);
    let squares = step(nodes, "ReduceSumSquare", "gcn.squares", &[&centred], &all);
    let norm = step(nodes, "Sqrt", "gcn.norm", &[&squares], &[]);
    let norm = step(
        nodes,
        "Max",
        "gcn.divisor",
        &[&norm, "preprocess.gcn.eps"],
        &[],
    );
    let unit = step(nodes, "Div", "gcn.unit", &[&centred, &norm], &[]);
    let scaled = step(
        nodes,
        "Mul",
        "gcn.scaled",
        &[&unit, "preprocess.gcn.scale"],
        &[],
    );
    let narrow = [Attribute::Int("to", kind::FLOAT)];
    step(nodes, "Cast", "gcn", &[&scaled], &narrow)
}

fn zca<'a>(nodes: &mut Nodes<'a>, from: &str, settings: &'a Zca, input: [usize; 3]) -> String {
    let values = settings.mean.len();
    let mean = Values::F32(Cow::Borrowed(&settings.mean));
    nodes.constant("preprocess.zca.mean", &[values], mean);
    let matrix = Values::F32(Cow::Borrowed(&settings.matrix));
    nodes.constant("preprocess.zca.matrix", &[values, values], matrix);
    let shape = [0, input[0] as i64, input[1] as i64, input[2] as i64];
    nodes.constant("preprocess.zca.shape", &[4], Values::I64(shape.to_vec()));
    let flat = step(
        nodes,
        "Flatten",
        "zca.flat",
        &[from],
        &[Attribute::Int("axis", 1)],
    );
    let centred = step(
        nodes,
        "Sub",
        "zca.centred",
        &[&flat, "preprocess.zca.mean"],
        &[],
    );
    let inputs = [&*centred, "preprocess.zca.matrix"];
    let white = step(
        nodes,
        "Gemm",
        "zca.white",
        &inputs,
        &[Attribute::Int("transB", 1)],
    );
    step(
        nodes,
        "Reshape",
        "zca",
        &[&white, "preprocess.zca.shape"],
        &[],
    )
}
