//! The corpus of the fuzz targets: files that no tool writes, and some that are right. Each is refused for what is wrong with it, in one
//! line, and none takes much more memory than its size.

#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;

use std::collections::BTreeMap;
use std::path::Path;

use peak_alloc::PeakAlloc;
use skinny_model::{Level, Model, PackOptions, Unpacked, ValueKind, pack};
use skinny_network::{Network, Preprocess, Tensor, Tensors};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that any file may cost: the chances of a coder, buffers that grow from a few entries, messages.
const BASE: usize = 64 << 10;
/// Bytes that the chances of columns may cost.
const COLUMNS: usize = 256 << 10;

fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    });
    files.collect()
}

/// With addresses of 32 bits some numbers are too large at once.
const WIDE: bool = usize::BITS >= 64;

/// What the refusal of some files says.
const REASONS: [(&str, &str); 20] = [
    ("offsets-overlap", "offset"),
    (
        "offsets-overflow",
        if WIDE {
            "offset"
        } else {
            "invalid value: integer"
        },
    ),
    ("version-newer", "update skinny"),
    (
        "network-huge",
        if WIDE {
            "memory"
        } else {
            "make the network smaller"
        },
    ),
    ("bitmask-keeps-more", "compressed has type F32 and shape 3"),
    ("bitmask-beyond-row", "beyond the end of a row"),
    ("bitmask-offsets-wrong", "row offset"),
    ("gaps-beyond-row", "reach beyond"),
    ("gaps-offsets-negative", "row offsets"),
    ("rice-cut-in-a-gap", "cut off"),
    ("rice-beyond-last", "beyond the last weight"),
    ("rice-ones-without-end", "cut off"),
    ("mask-cut", "cut off"),
    ("mask-form", "form 7"),
    ("codes-beyond-codebook", "beyond the codebook"),
    (
        "coded-more-than-bytes-can-hold",
        "cannot be in a file of this size",
    ),
    ("coded-cut", "cut off"),
    ("tensor-of-nobody", "`other`"),
    ("shapes-other", "shape"),
    ("zca-without-tensors", "preprocess.zca.mean"),
];

/// Headers and descriptions of many small things, which take the most memory for their size.
fn crowded() -> Vec<(String, Vec<u8>)> {
    let good = &corpus("model")["good-dense"];
    let length = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    let header = std::str::from_utf8(&good[8..8 + length]).unwrap().trim();
    let with = |header: String| {
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            &good[8 + length..],
        ]
        .concat()
    };
    let mut files = Vec::new();
    for item in [
        "0",
        "[]",
        "[0]",
        "[[[[[[0]]]]]]",
        "{}",
        "{'a':0}",
        "{'a':[{'b':0}]}",
        "''",
        "{'name':'a','type':'relu'}",
    ] {
        let list = vec![item; 100_000 / item.len()]
            .join(",")
            .replace('\'', r#"\""#);
        let escaped = |text: &str| text.replace('\'', r#"\""#);
        for (what, text) in [
            (
                "layers",
                escaped("{'name':'n','input':[1,1,20],'layers':[LIST]}"),
            ),
            ("input", escaped("{'name':'n','input':[LIST],'layers':[]}")),
            ("name", escaped("{'name':[LIST]}")),
        ] {
            let (before, rest) = header.split_once(r#""network": ""#).unwrap();
            let after = rest.split_once(r#"", "preprocess""#).unwrap().1;
            let text = text.replace("LIST", &list);
            let header = format!(r#"{before}"network": "{text}", "preprocess"{after}"#);
            files.push((format!("{what} of {item}"), with(header)));
        }
        let (before, rest) = header.split_once(r#""preprocess": "{}""#).unwrap();
        let text = format!(r#"{before}"preprocess": "{{\"labels\":[{list}]}}"{rest}"#);
        files.push((format!("labels of {item}"), with(text)));
    }
    let entry =
        |number: usize| format!(r#""{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let entries: Vec<String> = (0..2000).map(entry).collect();
    files.push((
        "tensors".into(),
        with(format!("{{{},{}", entries.join(","), &header[1..])),
    ));
    let keys: Vec<String> = (0..10_000)
        .map(|number| format!(r#""{number}":"""#))
        .collect();
    let (before, after) = header.split_once(r#""format""#).unwrap();
    files.push((
        "keys".into(),
        with(format!(r#"{before}{},"format"{after}"#, keys.join(","))),
    ));
    files
}

/// Right files that say as much as any of their length may.
fn full_of_information() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (what, out, value) in [("zeros", 64, 0.0), ("ones", 4, 1.0)] {
        let network = Network::from_toml(&format!(
            r#"
name = "n"
input = [1, 1, 32768]
layers = [
    {{ name = "flat", type = "flatten" }},
    {{ name = "fc", type = "linear", out = {out}, bias = false }},
]
"#
        ));
        let shape = vec![out, 32_768];
        let mut data = vec![value; out * 32_768];
        // Few weights differ, in some rows and columns.
        for index in (0..data.len()).step_by(9_973).filter(|index| index % 5 > 2) {
            data[index] = 0.5;
        }
        let mut tensors = Tensors::new();
        tensors.insert("fc.weight", Tensor { shape, data });
        let unpacked = Unpacked {
            network: network.unwrap(),
            preprocess: Preprocess::default(),
            tensors,
            masks: BTreeMap::new(),
        };
        for values in ValueKind::ALL {
            let options = PackOptions {
                level: Level::Small,
                values,
            };
            let bytes = pack(&unpacked, &options, &mut |_| ()).unwrap();
            files.push((format!("good-{what}-{}", values.name()), bytes));
        }
    }
    files
}

/// One test, because the peak of memory is that of the whole process.
#[test]
fn hostile_files_are_errors_and_cost_little() {
    let mut files = corpus("model");
    let hostile = files.keys().filter(|name| !name.starts_with("good-"));
    assert!(hostile.count() >= 80, "hostile.py writes more");
    files.extend(crowded());
    files.extend(full_of_information());
    let mut worst = (0.0f64, "");
    for (name, bytes) in &files {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let read = Model::from_bytes(&bytes[..]);
        let taken = MEMORY.peak_usage() - before;
        let times = taken as f64 / bytes.len().max(1) as f64;
        println!("{times:5.1} times its size: {name}");
        if times > worst.0 && bytes.len() > BASE {
            worst = (times, name);
        }
        assert!(
            taken
                <= 64 * bytes.len() + BASE + COLUMNS * usize::from(name.starts_with("good-zeros")),
            "{name}: {taken} bytes for {}",
            bytes.len()
        );
        match read {
            // Keys that nobody knows are passed over, and labels may be empty.
            Ok(_) => assert!(
                name.starts_with("good-") || name == "keys" || name == "labels of ''",
                "{name} was read"
            ),
            Err(error) => {
                let said = error.to_string();
                assert!(!name.starts_with("good-"), "{name}: {said}");
                assert!(
                    said.lines().count() == 1 && said.len() < 400,
                    "{name}: {said}"
                );
                if let Some((_, reason)) = REASONS.iter().find(|(of, _)| of == name) {
                    assert!(said.contains(reason), "{name}: {said}");
                }
                println!("{name}: {said}");
            }
        }
    }
    println!(
        "the most for its size takes {}: {:.1} times",
        worst.1, worst.0
    );
    for (name, _) in REASONS {
        assert!(files.contains_key(name), "{name} is missing");
    }
    for bytes in files.values() {
        let _ = check::model(bytes);
    }
    for bytes in corpus("parts").values() {
        let _ = check::parts(bytes);
    }
}
