//! The corpus of the fuzz targets: files that no tool writes, and some that one does. Each is an error or holds what it
//! says; none runs anything, and none takes much more memory than its size.

#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;

use std::path::{Path, PathBuf};

use peak_alloc::PeakAlloc;
use skinny_interchange::Source;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that any file may cost: buffers that grow from a few entries, and messages.
const BASE: usize = 16 << 10;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut files = Vec::new();
    for kind in ["torch", "onnx"] {
        for entry in std::fs::read_dir(folder.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files
}

/// Reads a file and gives whether it was refused; the memory it takes is at most 64 times its size.
fn read(name: &str, bytes: &[u8]) -> Option<String> {
    let copy = bytes.to_vec();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let refusal = Source::from_bytes(copy)
        .and_then(|source| source.tensors())
        .err();
    let taken = MEMORY.peak_usage() - before;
    if bytes.len() > 1 << 18 {
        eprintln!(
            "{:5.1} times its size: {name}",
            taken as f64 / bytes.len() as f64
        );
    }
    assert!(
        taken <= 64 * bytes.len() + BASE,
        "{name}: {taken} bytes for {}",
        bytes.len()
    );
    refusal.map(|error| error.to_string())
}

fn zip(pickle: &[u8]) -> Vec<u8> {
    let name = b"w/data.pkl";
    let size = (pickle.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    let common = [&[0; 14], &size[..], &size, &length, &[0; 2]].concat();
    let mut zip = [b"PK\x03\x04", &common[..], name, pickle].concat();
    let start = (zip.len() as u32).to_le_bytes();
    let entry = [b"PK\x01\x02\0\0", &common[..], &[0; 14], name].concat();
    let end = (entry.len() as u32).to_le_bytes();
    zip.extend(
        [
            &entry[..],
            b"PK\x05\x06",
            &[0; 4],
            &[1, 0, 1, 0],
            &end,
            &start,
            &[0; 2],
        ]
        .concat(),
    );
    zip
}

/// One test, because the peak of memory is that of the whole process.
#[test]
fn hostile_files_are_errors_and_cost_little() {
    let files = corpus();
    assert!(files.len() > 100);
    let marker = Path::new("/tmp/skinny-was-here");
    assert!(!marker.exists(), "left by something else; remove it");
    for (path, bytes) in &files {
        let name = path.file_name().unwrap().to_string_lossy();
        let refusal = read(&name, bytes);
        check::source(bytes);
        if name.contains("code") {
            let message = refusal.unwrap_or_default();
            // A bare pickle is no file of weights, whatever it asks for.
            let reasons = [
                "asks to run",
                "which no weights need",
                "not one of torch.save",
                "neither safetensors",
            ];
            assert!(
                reasons.iter().any(|reason| message.contains(reason)),
                "{name}: {message}"
            );
        } else if name.contains("good") {
            assert_eq!(refusal, None, "{name}");
        }
    }
    assert!(!marker.exists(), "code of a pickle was run");

    // Files of a megabyte that grow as fast as the format lets them.
    let many = 1 << 20;
    let repeat = |part: &[u8]| part.iter().copied().cycle().take(many).collect::<Vec<u8>>();
    for part in [
        &b"N"[..],
        b"N\x94",
        b"]",
        b"]\x94",
        b")",
        b"}",
        b"(",
        b"\x88\x85",
        b"NNN\x87",
        b"2",
        b"K\x01",
        b"]NNNNe",
        b"(NNNNe",
        b"(t",
        b"(NNNNNNNNl",
        b"NNNN\x94\x94\x94\x94",
        b"\x8c\x00",
        b"NQ",
        b"N)R",
        b"ccollections\nOrderedDict\n)R",
        b"ccollections\nOrderedDict\n",
    ] {
        for head in [&b"\x80\x02"[..], b"\x80\x02]N\x94", b"\x80\x02(]("] {
            let body = [head, &repeat(part), b"."].concat();
            read(&format!("pickle of {part:02x?}"), &zip(&body));
        }
    }
    for part in [
        &b"\x2a\x00"[..],
        b"\x0a\x00",
        b"\x2a\x02\x42\x00",
        b"\x2a\x04\x08\x00\x10\x01",
        b"\x2a\x10\x08\x00\x08\x01\x08\x01\x08\x01\x08\x01\x08\x01\x08\x01\x10\x01",
        b"\x0a\x02\x0a\x00",
    ] {
        let body = repeat(part);
        let length = body.len();
        let mut file = vec![8, 8, 0x3a];
        file.extend([
            length as u8 | 0x80,
            (length >> 7) as u8 | 0x80,
            (length >> 14) as u8,
        ]);
        file.extend(body);
        read(&format!("graph of {part:02x?}"), &file);
    }
    // As many small tensors as there can be, each with a name of its own.
    let mut body = Vec::new();
    for index in 0..100_000u32 {
        let name = format!("{index:x}");
        let size = name.len() as u8;
        body.extend(
            [
                &[0x2a, 8 + size, 0x08, 0, 0x08, 1, 0x10, 1, 0x42, size],
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let length = body.len();
    let mut file = vec![8, 8, 0x3a];
    file.extend([
        length as u8 | 0x80,
        (length >> 7) as u8 | 0x80,
        (length >> 14) as u8,
    ]);
    file.extend(body);
    assert_eq!(read("many tensors", &file), None);
    // One tensor that was gathered, under very many names.
    let field = |key: u8, bytes: &[u8]| -> Vec<u8> {
        let mut length = bytes.len();
        let mut field = vec![key];
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend(bytes);
        field
    };
    let numbers = 1 << 16;
    let tensor = [
        &[0x08, 0x80, 0x80, 0x04, 0x10, 10][..],
        &field(0x2a, &vec![0; numbers]),
        &field(0x42, b"a"),
    ];
    let mut graph = field(0x2a, &tensor.concat());
    for index in 0..2_000 {
        let name = format!("{index:x}");
        let node = [
            field(0x0a, b"a"),
            field(0x12, name.as_bytes()),
            field(0x22, b"Identity"),
        ];
        graph.extend(field(0x0a, &node.concat()));
    }
    let file = [vec![8, 8], field(0x3a, &graph)].concat();
    assert!(read("many names", &file).is_some());
    // The same in safetensors, and entries of a zip file without number.
    let mut header = String::from("{");
    for index in 0..20_000 {
        header +=
            &format!("\"{index:x}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}},");
    }
    header.pop();
    header += "}";
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    read("many tensors in safetensors", &file);
    let good = zip(b"N.");
    let central = good
        .windows(4)
        .position(|bytes| bytes == b"PK\x01\x02")
        .unwrap();
    let end = good
        .windows(4)
        .position(|bytes| bytes == b"PK\x05\x06")
        .unwrap();
    let entries = good[central..end].repeat(20_000);
    let mut file = [&good[..central], &entries, &good[end..]].concat();
    let place = file.len() - 10;
    file[place..place + 4].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    assert!(read("many entries", &file).unwrap().contains("overlap"));
}
