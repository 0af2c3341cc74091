//! Weights in files: what other writers produce, and what nobody should.

#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;

use std::fs;
use std::path::Path;

use skinny_network::{Network, Tensor, Tensors};

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn refusal(bytes: &[u8]) -> String {
    let message = Tensors::from_bytes(bytes).unwrap_err().to_string();
    assert!(!message.contains('\n') && message.len() < 300, "{message}");
    message
}

#[test]
fn kept_zeros_negative_zeros_and_nans_keep_their_bits() {
    let bits = [
        0x0000_0000,
        0x8000_0000,
        0x7fc0_0001,
        0xffa0_0000,
        0x7f80_0000,
        0x0000_0001,
    ];
    let mut tensors = Tensors::new();
    tensors.insert(
        "w",
        Tensor {
            shape: vec![2, 3],
            data: bits.map(f32::from_bits).to_vec(),
        },
    );
    let read = Tensors::from_bytes(&tensors.to_bytes().unwrap()).unwrap();
    assert_eq!(read.get("w").unwrap().shape, [2, 3]);
    let read: Vec<u32> = read
        .get("w")
        .unwrap()
        .data
        .iter()
        .map(|value| value.to_bits())
        .collect();
    assert_eq!(read, bits);
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let mut tensors = Tensors::new();
    tensors.insert(
        "b",
        Tensor {
            shape: vec![1],
            data: vec![1.0],
        },
    );
    tensors.insert(
        "a",
        Tensor {
            shape: vec![],
            data: vec![-2.0],
        },
    );
    tensors.metadata.insert("z".to_owned(), "1".to_owned());
    tensors
        .metadata
        .insert("format".to_owned(), "pt".to_owned());
    let header = r#"{"__metadata__":{"format":"pt","z":"1"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    assert_eq!(
        tensors.to_bytes().unwrap(),
        file(&padded, &[0, 0, 0, 0xc0, 0, 0, 0x80, 0x3f])
    );
    // The crate that other programs read with agrees.
    let bytes = tensors.to_bytes().unwrap();
    let other = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(other.tensor("b").unwrap().data(), 1.0f32.to_le_bytes());
}

#[test]
fn half_precision_is_widened_and_batch_counters_are_left_out() {
    let header = r#"{"half":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"brain":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},"bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[6,14]}}"#;
    let data = [0x00, 0x3c, 0x00, 0x80, 0xc0, 0xbf, 1, 0, 0, 0, 0, 0, 0, 0];
    let tensors = Tensors::from_bytes(&file(header, &data)).unwrap();
    assert_eq!(tensors.names().collect::<Vec<_>>(), ["brain", "half"]);
    assert_eq!(tensors.get("half").unwrap().data, [1.0, 0.0]);
    assert!(tensors.get("half").unwrap().data[1].is_sign_negative());
    assert_eq!(tensors.get("brain").unwrap().data, [-1.5]);
}

#[test]
fn other_types_are_refused_by_name() {
    let header = r#"{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#;
    assert_eq!(
        refusal(&file(header, &[0; 8])),
        "tensor `x` has values of type F64; convert it to F32, F16 or BF16"
    );
}

#[test]
fn hostile_files_are_errors() {
    let one = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    for (bytes, part) in [
        (vec![], "shorter than its own length field"),
        (vec![1; 7], "shorter than its own length field"),
        (vec![0xff; 64], "header is longer than the file"),
        (file("", &[]), "not a whole safetensors file"),
        (
            file("{}", &[1]),
            "holds 1 bytes of values where its header says 0",
        ),
        (
            file(one, &[0; 3]),
            "holds 3 bytes of values where its header says 4",
        ),
        (
            file(one, &[0; 5]),
            "holds 5 bytes of values where its header says 4",
        ),
        (file(&one.replace("[1]", "[2]"), &[0; 4]), "not a whole"),
        (file(&one.replace("F32", "F99"), &[0; 4]), "F99"),
        (file(&one.replace("[0,4]", "[4,0]"), &[0; 4]), "not a whole"),
        (
            file(&one.replace("[0,4]", "[0,-4]"), &[0; 4]),
            "not a whole",
        ),
        (file(&one.replace("[0,4]", "[4,8]"), &[0; 8]), "not a whole"),
        (
            file(&one.replace("[1]", "[18446744073709551615, 2, 0]"), &[0; 4]),
            "not a whole",
        ),
        (file("{\"x\":3}", &[]), "not a whole"),
        (file(&"[".repeat(10_000), &[]), "not a whole"),
        (file("{\"\u{0}\n", &[]), "not a whole"),
        // Two tensors on the same bytes, and a hole between two.
        (
            file(
                r#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
                &[0; 4],
            ),
            "not a whole",
        ),
        (
            file(
                r#"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
                &[0; 4],
            ),
            "not a whole",
        ),
    ] {
        let message = refusal(&bytes);
        assert!(message.contains(part), "{message}\nshould have: {part}");
    }
    // Lengths that add up beyond the address space: eight tensors of 2^61 − 1 bytes, and one more.
    let step = (1u64 << 61) - 1;
    let tensors: Vec<String> = (0..9u64)
        .map_while(|index| Some((index, (step * index), step.checked_mul(index + 1)?)))
        .map(|(index, start, end)| {
            format!(
                r#""t{index}":{{"dtype":"U8","shape":[{step}],"data_offsets":[{start},{end}]}}"#
            )
        })
        .chain([format!(
            r#""z":{{"dtype":"U8","shape":[7],"data_offsets":[{},{}]}}"#,
            step * 8,
            step * 8 + 7
        )])
        .collect();
    let message = refusal(&file(&format!("{{{}}}", tensors.join(",")), &[]));
    assert!(
        message.contains("where its header says 18446744073709551615"),
        "{message}"
    );
}

#[test]
fn tensors_that_contradict_themselves_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let mut tensors = Tensors::new();
    tensors.insert(
        "w",
        Tensor {
            shape: vec![2, 3],
            data: vec![0.0; 5],
        },
    );
    let message = tensors.save(&path).unwrap_err().to_string();
    assert_eq!(
        message,
        "tensor `w` cannot be written: shape 2x3 and 5 values disagree"
    );
    let mut tensors = Tensors::new();
    tensors.insert("__metadata__", Tensor::zeros(&[1]));
    assert!(
        tensors
            .to_bytes()
            .unwrap_err()
            .to_string()
            .contains("rename it")
    );
    assert!(!path.exists());
}

#[test]
fn files_are_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let graph = Network::load("lenet-300-100").unwrap().graph().unwrap();
    let tensors: Tensors = graph
        .parameters
        .iter()
        .map(|parameter| {
            (
                parameter.name.clone(),
                Tensor {
                    shape: parameter.shape.clone(),
                    data: (0..parameter.len()).map(|value| value as f32).collect(),
                },
            )
        })
        .collect();
    Tensors::new().save(&path).unwrap();
    tensors.save(&path).unwrap();
    assert_eq!(Tensors::load(&path).unwrap(), tensors);
    assert_eq!(fs::read(&path).unwrap(), tensors.to_bytes().unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let message = tensors
        .save(&folder.path().join("none/w"))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("cannot write the weights ") && message.contains("none/w"),
        "{message}"
    );
}

#[test]
fn unreadable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    assert!(
        Tensors::load(&path)
            .unwrap_err()
            .to_string()
            .starts_with("cannot read the weights ")
    );
    fs::write(&path, b"nothing").unwrap();
    let message = Tensors::load(&path).unwrap_err().to_string();
    assert!(
        message.contains("w.safetensors: not a whole safetensors file"),
        "{message}"
    );
}

/// Runs every file of a fuzz target's corpus through the function that the target calls.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(
        files.len() >= 5,
        "{} seeds in {}",
        files.len(),
        folder.display()
    );
    for file in files {
        run(&fs::read(file).unwrap());
    }
}

#[test]
fn the_fuzz_corpus_of_networks_never_panics() {
    replay("network", check::network);
}

#[test]
fn the_fuzz_corpus_of_tensors_never_panics() {
    replay("tensors", check::tensors);
}
