//! The header is that of the library, and a program in C gives what the runtime gives.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::{null, null_mut};

use skinny_c::*;
use skinny_model::{PackOptions, Unpacked, pack};
use skinny_network::{Network, Picture, Preprocess, Tensor, Tensors};
use skinny_runtime::Model;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

#[test]
fn the_header_is_current() {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).expect("it is right");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_src(folder().join("src/lib.rs"))
        .with_config(config)
        .generate()
        .expect("it can be made")
        .write(&mut made);
    let made = String::from_utf8(made).expect("it is text");
    let path = folder().join("include/skinny.h");
    if std::env::var_os("SKINNY_UPDATE").is_some() {
        fs::write(&path, &made).expect("it can be written");
    }
    let header = fs::read_to_string(&path).expect("it is there");
    assert_eq!(
        header.replace("\r\n", "\n"),
        made,
        "SKINNY_UPDATE=1 makes the header anew"
    );
}

/// LeNet-5 with some weights, labels and a preprocessing; its input is 28 x 28 bytes.
fn model(folder: &Path) -> PathBuf {
    let network = Network::load("lenet5").expect("the zoo has it");
    let mut tensors = Tensors::new();
    for parameter in network.graph().expect("it is right").parameters {
        let mut tensor = Tensor::zeros(&parameter.shape);
        for (at, value) in tensor.data.iter_mut().enumerate().step_by(7) {
            *value = ((at * 29 % 101) as f32 - 50.0) / 400.0;
        }
        tensors.insert(&parameter.name, tensor);
    }
    let preprocess = Preprocess {
        resize: None,
        crop: None,
        mean: vec![0.13],
        std: vec![0.3],
        labels: (0..10).map(|class| format!("digit {class}")).collect(),
        ..Preprocess::for_input(network.input)
    };
    let model = Unpacked {
        network,
        preprocess,
        tensors,
        masks: BTreeMap::new(),
    };
    let file = pack(&model, &PackOptions::default(), &mut |_| {}).expect("it can be packed");
    let path = folder.join("model.skinny");
    fs::write(&path, file).expect("it can be written");
    path
}

fn pixels() -> Vec<u8> {
    (0..28 * 28).map(|at| (at * 37 % 251) as u8).collect()
}

/// Scores by the interface in Rust.
fn scores(model: &Path) -> Vec<f32> {
    let model = Model::load(model).expect("it is right");
    let picture = Picture {
        width: 28,
        height: 28,
        channels: 1,
        pixels: pixels(),
    };
    let image = model.preprocess().apply(&picture, model.input_shape());
    model.run(&image.expect("it fits")).expect("it runs")
}

/// The compiler, if there is one.
fn compiler() -> Option<Command> {
    let there = Command::new("cc").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: there is no C compiler `cc`, the example in C is not run");
    }
    there.then(|| Command::new("cc"))
}

/// The library for linking, made by the same build as this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("it runs");
    let places = test.ancestors().skip(1).take(2);
    let found = places
        .map(|place| place.join("libskinny_c.a"))
        .find(|path| path.exists());
    found.expect("cargo has made libskinny_c.a beside this test")
}

#[test]
#[cfg(unix)]
fn the_example_in_c_gives_what_the_runtime_gives() {
    let Some(mut compiler) = compiler() else {
        return;
    };
    let place = tempfile::tempdir().expect("a folder");
    let program = place.path().join("classify");
    let compiled = compiler
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(folder().join("include"))
        .arg(folder().join("examples/classify.c"))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .output()
        .expect("the compiler runs");
    let told = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{told}");

    let path = model(place.path());
    let raw = place.path().join("picture.raw");
    fs::write(&raw, pixels()).expect("it can be written");
    let run = |model: &Path| {
        let told = Command::new(&program).arg(model).arg(&raw).output();
        told.expect("it runs")
    };
    let told = run(&path);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let scores = scores(&path);
    let best = (0..10).max_by(|a: &usize, b| scores[*a].total_cmp(&scores[*b]));
    let best = best.expect("ten classes");
    let (label, score) = told.trim().split_once(": ").expect("label and score");
    assert_eq!(label, format!("digit {best}"));
    assert_eq!(score.parse::<f32>().ok(), Some(scores[best]));

    let told = run(Path::new("gone.skinny"));
    let message = String::from_utf8_lossy(&told.stderr);
    assert!(
        !told.status.success() && message.contains("gone.skinny"),
        "{message}"
    );
}

#[test]
fn the_header_is_right_for_cpp() {
    let header = folder().join("include/skinny.h");
    let compiled = Command::new("c++")
        .args([
            "-std=c++11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-x",
            "c++",
        ])
        .arg(header)
        .output();
    match compiled {
        Err(_) => {
            eprintln!("SKIPPED: there is no C++ compiler `c++`, the header is not tried with it")
        }
        Ok(told) => assert!(
            told.status.success(),
            "{}",
            String::from_utf8_lossy(&told.stderr)
        ),
    }
}

fn error() -> String {
    // SAFETY: it is a text of this thread until the next call.
    unsafe { CStr::from_ptr(skinny_error()) }
        .to_string_lossy()
        .into_owned()
}

#[test]
fn calls_that_cannot_be_are_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let path = model(place.path());
    let text = |path: &Path| CString::new(path.to_str().expect("UTF-8")).expect("no zero byte");
    let mut loaded = null_mut();
    // SAFETY: every pointer is null or points to what is asked for.
    unsafe {
        use SkinnyStatus::{Argument, Model, Ok};
        assert_eq!(skinny_load(null(), 1, &mut loaded), Argument);
        assert_eq!(skinny_load(text(&path).as_ptr(), 1, null_mut()), Argument);
        assert_eq!(
            skinny_load(text(&path).as_ptr(), 5000, &mut loaded),
            Argument
        );
        assert!(error().contains("5000"));
        let other = place.path().join("other.skinny");
        fs::write(&other, b"no model").expect("it can be written");
        assert_eq!(skinny_load(text(&other).as_ptr(), 1, &mut loaded), Model);
        assert!(
            error().contains("other.skinny") && loaded.is_null(),
            "{}",
            error()
        );
        assert_eq!(skinny_load(text(&path).as_ptr(), 2, &mut loaded), Ok);
        assert_eq!(error(), "");

        let mut shape = [0; 3];
        assert_eq!(skinny_input_shape(loaded, shape.as_mut_ptr()), Ok);
        assert_eq!(shape, [1, 28, 28]);
        assert_eq!(skinny_input_shape(loaded, null_mut()), Argument);
        assert_eq!(skinny_input_shape(null(), shape.as_mut_ptr()), Argument);
        assert_eq!(
            (skinny_output_len(loaded), skinny_output_len(null())),
            (10, 0)
        );
        assert_eq!(
            CStr::from_ptr(skinny_label(loaded, 3)).to_bytes(),
            b"digit 3"
        );
        assert!(skinny_label(loaded, 10).is_null() && skinny_label(null(), 0).is_null());

        let (pixels, mut image) = (pixels(), vec![0.0; 28 * 28]);
        let at = image.as_mut_ptr();
        assert_eq!(skinny_prepare(loaded, pixels.as_ptr(), 28, 28, 1, at), Ok);
        assert_eq!(
            skinny_prepare(loaded, pixels.as_ptr(), 28, 7, 1, at),
            Argument
        );
        assert!(error().contains("28x7"), "{}", error());
        assert_eq!(
            skinny_prepare(loaded, pixels.as_ptr(), usize::MAX, 2, 1, at),
            Argument
        );
        assert_eq!(skinny_prepare(loaded, null(), 28, 28, 1, at), Argument);

        let twice = [&image[..], &image[..]].concat();
        let mut results = vec![0.0f32; 20];
        let to = results.as_mut_ptr();
        assert_eq!(skinny_run(loaded, twice.as_ptr(), 2, to), Ok);
        let expected = scores(&path);
        assert_eq!(results, [&expected[..], &expected[..]].concat());
        assert_eq!(skinny_run(loaded, null(), 1, to), Argument);
        assert_eq!(skinny_run(loaded, twice.as_ptr(), usize::MAX, to), Argument);
        assert_eq!(skinny_run(loaded, null(), 0, null_mut()), Ok);
        assert_eq!(skinny_run(null(), twice.as_ptr(), 1, to), Argument);
        skinny_free(loaded);
        skinny_free(null_mut());
    }
}
