//! What must hold for any bytes; the fuzz targets and the replay of their corpus share it.

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use skinny_model::{Level, Model, PackOptions, ValueKind, pack};

/// A file is an error, or everything in it can be asked for, and it survives being packed with every bit but the signs of zeros of
/// which nothing says that they are kept.
pub fn model(bytes: &[u8]) -> Result<(), String> {
    let model = Model::from_bytes(bytes).map_err(|error| error.to_string())?;
    for parameter in model.parameters() {
        let values = parameter.values();
        assert_eq!(values.len(), parameter.kept());
        let dense = parameter.dense();
        assert_eq!(dense.len(), parameter.len());
        if let Some(mask) = parameter.mask() {
            assert_eq!(mask.count(), parameter.kept());
            assert!((0..dense.len()).all(|i| mask.get(i) || dense[i].to_bits() == 0));
        }
    }
    let unpacked = model.unpack();
    for level in [Level::Fast, Level::Small] {
        let options = PackOptions {
            level,
            values: ValueKind::F32,
        };
        let packed = pack(&unpacked, &options, &mut |_| ()).expect("what was read can be packed");
        let Ok(again) = Model::from_bytes(packed) else {
            // Weights that are nearly all the same take fewer bytes than a reader believes.
            continue;
        };
        for (before, after) in model.parameters().zip(again.parameters()) {
            let is_weight = before.shape().len() > 1;
            let sign = |value: f32| match value == 0.0 && is_weight && before.mask().is_none() {
                true => 0.0,
                false => value,
            };
            let bits = |values: Vec<f32>| {
                values
                    .into_iter()
                    .map(|v| sign(v).to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(before.dense()), bits(after.dense()));
        }
    }
    Ok(())
}

const NETWORK: &str = r#"{"name":"n","input":[1,1,40],"layers":[
    {"name":"flat","type":"flatten"},{"name":"fc","type":"linear","out":24,"bias":false}]}"#;

/// A file whose header is right and whose parts are of these bytes: the first chooses which parts there are, the others fill them.
pub fn parts(bytes: &[u8]) -> Result<(), String> {
    let Some(([choice, length], rest)) = bytes.split_first_chunk() else {
        return Err("too short".into());
    };
    let (first, second) = rest.split_at(rest.len().min(usize::from(*length)));
    let offsets: Vec<u8> = (0..24u8)
        .flat_map(|row| {
            let place = first.get(usize::from(row)).copied().unwrap_or(0);
            i64::from(place).to_le_bytes()
        })
        .collect();
    let shape: Vec<u8> = [24i64, 40]
        .iter()
        .flat_map(|extent| extent.to_le_bytes())
        .collect();
    let bits: Vec<u8> = first.iter().copied().chain([0; 120]).take(120).collect();
    let even = &first[..first.len() / 2 * 2];
    let whole = &second[..second.len() / 4 * 4];
    let half = &second[..second.len() / 2 * 2];
    let book: Vec<u8> = second
        .iter()
        .rev()
        .copied()
        .chain([0; 80])
        .take(80)
        .collect();
    let scale: Vec<u8> = second
        .iter()
        .rev()
        .copied()
        .chain([0; 96])
        .take(96)
        .collect();
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, &[u8])> = Vec::new();
    match choice % 7 {
        0 => {
            tensors.push(("bitmask", Dtype::U8, vec![24, 5], &bits));
            tensors.push(("row_offsets", Dtype::I64, vec![24], &offsets));
            tensors.push(("shape", Dtype::I64, vec![2], &shape));
        }
        1 => {
            tensors.push(("gaps", Dtype::U8, vec![first.len()], first));
            tensors.push(("row_offsets", Dtype::I64, vec![24], &offsets));
        }
        2 => {
            tensors.push(("gaps", Dtype::U16, vec![even.len() / 2], even));
            tensors.push(("row_offsets", Dtype::I64, vec![24], &offsets));
        }
        3 | 4 => tensors.push(("rice", Dtype::U8, vec![first.len()], first)),
        5 => tensors.push(("mask", Dtype::U8, vec![first.len()], first)),
        _ => {}
    }
    match choice / 7 % 8 {
        0 => tensors.push(("compressed", Dtype::F32, vec![whole.len() / 4], whole)),
        1 => tensors.push(("compressed", Dtype::F16, vec![half.len() / 2], half)),
        2 => {
            tensors.push(("compressed", Dtype::I8, vec![second.len()], second));
            tensors.push(("scale", Dtype::F32, vec![24], &scale));
        }
        3 => {
            tensors.push(("codes", Dtype::U8, vec![second.len()], second));
            tensors.push(("codebook", Dtype::F32, vec![20], &book));
        }
        4 => {
            tensors.push(("codes", Dtype::U8, vec![second.len()], second));
            tensors.push(("codebook", Dtype::F32, vec![16], &book[..64]));
        }
        5 => tensors.push(("coded", Dtype::U8, vec![second.len()], second)),
        6 => {
            tensors.push(("coded", Dtype::U8, vec![second.len()], second));
            tensors.push(("codebook", Dtype::F32, vec![20], &book));
        }
        _ => {
            tensors.push(("coded", Dtype::U8, vec![second.len()], second));
            tensors.push(("scale", Dtype::F32, vec![24], &scale));
        }
    }
    let views = tensors.into_iter().map(|(part, dtype, shape, bytes)| {
        let view = TensorView::new(dtype, shape, bytes).expect("lengths were made to fit");
        (format!("fc.weight.{part}"), view)
    });
    let text = [
        ("format", "skinny"),
        ("version", "1"),
        ("network", NETWORK),
        ("preprocess", "{}"),
        ("shapes", r#"{"fc.weight":[24,40]}"#),
    ];
    // Whichever map the library is built with.
    let text = text
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let file =
        safetensors::serialize(views, Some(text.collect())).expect("parts have names of their own");
    model(&file)
}
