//! The reader in Python, which knows the format from its specification alone, reads what is written here.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use skinny_model::{IndexKind, Level, Model, PackOptions, ValueKind, pack};
use skinny_network::Tensors;

/// A Python (`$SKINNY_PYTHON`, else `python3`) that has safetensors.
fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("SKINNY_PYTHON").unwrap_or("python3".into());
    let script = ["-c", "import numpy, safetensors"];
    let works = Command::new(&python).args(script).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!(
        "SKIPPED: {} has no safetensors; set SKINNY_PYTHON to a Python that has it",
        python.display()
    );
    None
}

#[test]
#[cfg_attr(target_family = "wasm", ignore = "the target starts no programs")]
fn a_reader_in_sixty_lines_of_python_reads_every_encoding() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/read_skinny.py");
    let text = std::fs::read_to_string(&script).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 60, "the reader has {lines} lines");
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (packed, dense) = (
        folder.path().join("a.skinny"),
        folder.path().join("a.safetensors"),
    );
    let mut seen = BTreeSet::new();
    for level in [Level::Fast, Level::Small] {
        for values in ValueKind::ALL {
            let options = PackOptions { level, values };
            let bytes = pack(&support::many_densities(), &options, &mut |_| ()).unwrap();
            std::fs::write(&packed, &bytes).unwrap();
            let output = Command::new(&python)
                .arg(&script)
                .args([&packed, &dense])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{options:?}: {said}");
            let read = Tensors::load(&dense).unwrap();
            let model = Model::from_bytes(bytes).unwrap();
            for parameter in model.parameters() {
                let theirs = read.get(parameter.name()).unwrap();
                assert_eq!(theirs.shape, parameter.shape());
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    bits(&theirs.data),
                    bits(&parameter.dense()),
                    "{options:?} {}",
                    parameter.name()
                );
                seen.insert((
                    parameter.index_kind().name(),
                    values.name(),
                    parameter.is_coded(),
                ));
            }
            assert_eq!(read.len(), model.parameters().len());
        }
    }
    for kind in [
        IndexKind::Dense,
        IndexKind::Bitmask,
        IndexKind::Gaps8,
        IndexKind::Gaps16,
        IndexKind::Rice,
        IndexKind::Coded,
    ] {
        let with = |(index, ..): &&(&str, _, _)| *index == kind.name();
        assert!(
            seen.iter().any(|entry| with(&entry)),
            "{kind:?} was not tried"
        );
    }
    for kind in ValueKind::ALL {
        for coded in [false, true] {
            assert!(
                seen.iter()
                    .any(|entry| entry.1 == kind.name() && entry.2 == coded),
                "{kind:?}, coded {coded}, was not tried"
            );
        }
    }
}
