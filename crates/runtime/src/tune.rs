//! Choices that were measured once, kept beside the model's file by machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skinny_kernels::inference::{Choice, Method, Precision, Storage};
use skinny_kernels::instruction_set;
use skinny_network::write_atomically;

use crate::choose;
use crate::measure::Measured;
use crate::plan::{Chooser, ConvProblem, LinearProblem};

/// Kernels that measure differently have another number.
const KERNELS: u32 = 2;

/// What the file holds: choices by machine.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    machines: BTreeMap<String, Machine>,
}

/// The choices of one machine.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Machine {
    /// Version of the kernels.
    kernels: u32,
    /// Length of the model's file: another file needs other choices.
    bytes: u64,
    layers: BTreeMap<String, Entry>,
}

/// The choice for one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    kernel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vectors: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<usize>,
}

/// Takes choices from the file, and measures what it does not have.
#[derive(Debug)]
pub(crate) struct Tuned {
    path: PathBuf,
    file: File,
    machine: String,
    changed: bool,
}

impl Tuned {
    /// The choices for the model in `model`, which has `bytes` bytes; a file of choices that cannot be used counts as
    /// none.
    pub fn open(model: &Path, bytes: u64) -> Self {
        let mut path = model.as_os_str().to_owned();
        path.push(".tuned.json");
        let path = PathBuf::from(path);
        let read = std::fs::read(&path).ok();
        let file = read.and_then(|text| serde_json::from_slice(&text).ok());
        let mut file: File = file.unwrap_or_default();
        let machine = machine();
        let own = file.machines.entry(machine.clone()).or_default();
        if (own.kernels, own.bytes) != (KERNELS, bytes) {
            *own = Machine {
                kernels: KERNELS,
                bytes,
                layers: BTreeMap::new(),
            };
        }
        Self {
            path,
            file,
            machine,
            changed: false,
        }
    }

    /// Keeps what was measured. That the folder cannot be written is no reason to fail: it is measured again then.
    pub fn save(&self) {
        let text = serde_json::to_vec_pretty(&self.file).ok();
        if let Some(text) = text.filter(|_| self.changed) {
            let _ = write_atomically(&self.path, |out| out.write_all(&text));
        }
    }

    fn layers(&mut self) -> &mut BTreeMap<String, Entry> {
        let machine = self.file.machines.entry(self.machine.clone());
        &mut machine.or_default().layers
    }
}

impl Chooser for Tuned {
    fn convolution(&mut self, problem: &ConvProblem) -> Choice {
        if let Some(entry) = self.layers().get(problem.name) {
            let known = choose::candidates(&problem.shape())
                .into_iter()
                .find(|choice| {
                    choice.method.name() == entry.kernel
                        && Some(choice.vectors) == entry.vectors
                        && Some(choice.budget) == entry.budget
                });
            if let Some(choice) = known {
                return choice;
            }
        }
        let choice = Measured.convolution(problem);
        let Choice {
            method,
            vectors,
            budget,
        } = choice;
        let entry = Entry {
            kernel: Method::name(method).to_owned(),
            vectors: Some(vectors),
            budget: Some(budget),
        };
        self.layers().insert(problem.name.to_owned(), entry);
        self.changed = true;
        choice
    }

    fn linear(&mut self, problem: &LinearProblem) -> Storage {
        let name = match problem.precision {
            Precision::Single => problem.name.to_owned(),
            Precision::Int8 => format!("{} int8", problem.name),
        };
        if let Some(entry) = self.layers().get(&name) {
            let mut known = problem.storages().into_iter();
            if let Some(storage) = known.find(|storage| storage.name() == entry.kernel) {
                return storage;
            }
        }
        let storage = Measured.linear(problem);
        let entry = Entry {
            kernel: storage.name().to_owned(),
            vectors: None,
            budget: None,
        };
        self.layers().insert(name, entry);
        self.changed = true;
        storage
    }
}

/// This machine: its instructions, and its processor where the system tells it.
fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{processor} {:?}", instruction_set()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem<'a>(values: &'a [f32], bias: &'a [f32]) -> LinearProblem<'a> {
        LinearProblem {
            name: "fc",
            values,
            bias,
            relu: false,
            precision: Precision::Single,
        }
    }

    #[test]
    #[cfg_attr(
        target_family = "wasm",
        ignore = "the target has no folder for temporary files"
    )]
    fn choices_are_kept_for_the_same_file_and_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("a.skinny");
        let (values, bias) = (vec![0.5; 64], vec![0.0; 4]);
        let mut first = Tuned::open(&model, 10);
        let chosen = first.linear(&problem(&values, &bias));
        first.save();
        let mut again = Tuned::open(&model, 10);
        assert_eq!(again.linear(&problem(&values, &bias)), chosen);
        assert!(!again.changed, "it was measured again");
        // Another choice in the file is taken as it is: nothing is measured.
        let other = Storage::ALL.into_iter().find(|storage| *storage != chosen);
        let other = other.expect("there are several");
        again.layers().get_mut("fc").expect("it is there").kernel = other.name().to_owned();
        again.changed = true;
        again.save();
        assert_eq!(
            Tuned::open(&model, 10).linear(&problem(&values, &bias)),
            other
        );
        assert!(Tuned::open(&model, 11).layers().is_empty());
    }

    #[test]
    #[cfg_attr(
        target_family = "wasm",
        ignore = "the target has no folder for temporary files"
    )]
    fn a_file_that_cannot_be_used_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("a.skinny");
        let (values, bias) = (vec![0.5; 64], vec![0.0; 4]);
        let tuned = folder.path().join("a.skinny.tuned.json");
        std::fs::write(&tuned, "{ no json").expect("written");
        assert!(Tuned::open(&model, 10).layers().is_empty());
        let mut choices = Tuned::open(&model, 10);
        let entry = Entry {
            kernel: "unheard of".to_owned(),
            vectors: Some(usize::MAX),
            budget: None,
        };
        choices.layers().insert("fc".to_owned(), entry);
        choices.changed = true;
        choices.save();
        let mut choices = Tuned::open(&model, 10);
        choices.linear(&problem(&values, &bias));
        assert!(choices.changed, "an unknown kernel is replaced");
    }
}
