//! A Python with other people's readers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python (`$SKINNY_PYTHON`, else `python3`) that can import all of `packages`; says loudly if there is none.
pub fn find(packages: &[&str]) -> Option<PathBuf> {
    let python = std::env::var_os("SKINNY_PYTHON").unwrap_or("python3".into());
    let script = format!("import {}", packages.join(", "));
    let works = Command::new(&python).args(["-c", &script]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(python.into());
    }
    eprintln!(
        "SKIPPED: {} has no {}; set SKINNY_PYTHON to a Python that has them",
        python.display(),
        packages.join(", ")
    );
    None
}

/// Runs a script of `tests/python`; gives what it printed. Fails with everything that it said if it does.
pub fn run(python: &Path, script: &str, arguments: &[&OsStr]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../interchange/tests/python")
        .join(script);
    let output = Command::new(python)
        .arg(&script)
        .args(arguments)
        .output()
        .expect("a Python that imported packages runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{} failed:\n{printed}\n{}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    eprint!("{printed}");
    printed
}
