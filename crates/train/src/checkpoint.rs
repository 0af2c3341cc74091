//! The whole state of a run between two steps, in one safetensors file.
//!
//! Everything else about a run is a function of the recipe and the step, so weights, slots, averages, masks and
//! the log so far are all there is to keep. The file carries a SHA-256 of all of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skinny_sparsity::Mask;

use crate::engine::{Engine, Section};
use crate::progress::Progress;
use crate::recipe::hex;
use crate::resolved::Resolved;
use crate::{TrainError, files};

const FORMAT: &str = "skinny-checkpoint-1";

/// Per parameter, what the loop itself remembers between flips.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The support of the last sparse phase.
    pub support: Option<Mask>,
    /// The values that dropped weights had when they were dropped (flip policy `saved`); else empty.
    pub saved: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    settings_hash: String,
    seed: u64,
    updates: u64,
    /// [`Material::identity`](crate::Material::identity); checkpoints of earlier versions have none.
    #[serde(default)]
    pictures: Option<String>,
    progress: Progress,
}

/// Writes the state of a run to `path`; the file that was there is replaced only when the new one is whole.
pub fn save(
    path: &Path,
    resolved: &Resolved,
    engine: &dyn Engine,
    memory: &[Memory],
    progress: &Progress,
    pictures: &str,
) -> Result<(), TrainError> {
    let mut tensors: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut values = Vec::new();
    let sections = sections(resolved);
    for (index, parameter) in engine.graph().parameters.iter().enumerate() {
        for (section_name, section) in &sections {
            engine.read(*section, index, &mut values);
            tensors.insert(
                format!("{section_name}/{}", parameter.name),
                Bytes::floats(&values),
            );
        }
        if let Some(mask) = engine.mask(index) {
            tensors.insert(format!("mask/{}", parameter.name), Bytes::mask(mask));
        }
        if let Some(support) = &memory[index].support {
            tensors.insert(format!("support/{}", parameter.name), Bytes::mask(support));
        }
        if !memory[index].saved.is_empty() {
            let saved = Bytes::floats(&memory[index].saved);
            tensors.insert(format!("saved/{}", parameter.name), saved);
        }
    }
    let header = Header {
        settings_hash: resolved.settings_hash.clone(),
        seed: resolved.recipe.seed,
        updates: engine.updates(),
        pictures: Some(pictures.to_string()),
        progress: progress.clone(),
    };
    let state = serde_json::to_string(&header).expect("progress is plain data");
    let parts = (tensors.iter()).map(|(name, t)| (name.as_str(), &t.bytes[..]));
    let metadata = [
        ("format".to_string(), FORMAT.to_string()),
        ("sha256".to_string(), digest(&state, parts)),
        ("state".to_string(), state),
    ];
    let metadata = Some(metadata.into_iter().collect());
    let bytes = safetensors::serialize(&tensors, metadata).map_err(|error| TrainError::Write {
        path: path.to_path_buf(),
        source: std::io::Error::other(error.to_string()),
    })?;
    files::write(path, &bytes)
}

/// What is stored for every parameter.
fn sections(resolved: &Resolved) -> Vec<(String, Section)> {
    let mut sections = vec![("weights".to_string(), Section::Weights)];
    if resolved.recipe.train.ema > 0.0 {
        sections.push(("average".to_string(), Section::Average));
    }
    let slots = resolved.recipe.train.optimizer().slots();
    sections.extend(
        slots
            .iter()
            .enumerate()
            .map(|(i, slot)| (format!("slot.{slot}"), Section::Slot(i))),
    );
    sections
}

/// Reads a state back into an engine; refuses a file that is damaged or that belongs to other settings or pictures.
pub fn load(
    path: &Path,
    resolved: &Resolved,
    engine: &mut dyn Engine,
    pictures: &str,
) -> Result<(Progress, Vec<Memory>), TrainError> {
    let refuse = |reason: String| TrainError::Read {
        path: path.to_path_buf(),
        reason,
        cure: "start the run afresh in another folder with --out DIR".into(),
    };
    let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    decode(&bytes, path, resolved, engine, true, Some(pictures))
}

/// Reads a state from the bytes of a file, with or without a look at its checksum and whose run it is: without it,
/// whatever a damaged file may hold is met; its pictures are not asked for. For fuzzing and tests.
#[doc(hidden)]
pub fn decode_checkpoint(
    bytes: &[u8],
    resolved: &Resolved,
    engine: &mut dyn Engine,
    checked: bool,
) -> Result<Progress, String> {
    decode(bytes, Path::new("state"), resolved, engine, checked, None)
        .map(|(progress, _)| progress)
        .map_err(|error| error.to_string())
}

fn decode(
    bytes: &[u8],
    path: &Path,
    resolved: &Resolved,
    engine: &mut dyn Engine,
    checked: bool,
    pictures: Option<&str>,
) -> Result<(Progress, Vec<Memory>), TrainError> {
    let refuse = |reason: String| TrainError::Read {
        path: path.to_path_buf(),
        reason,
        cure: "start the run afresh in another folder with --out DIR".into(),
    };
    let damaged = |what: &str| refuse(format!("the checkpoint is damaged ({what})"));
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(&error.to_string()))?;
    let entries = metadata.metadata().clone().unwrap_or_default();
    if entries.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(refuse(
            "this is not a checkpoint of this version of skinny".into(),
        ));
    }
    let mut tensors: BTreeMap<&str, _> = BTreeMap::new();
    for (name, view) in file.iter() {
        tensors.insert(name, view);
    }
    let state = entries.get("state").map_or("", String::as_str);
    let parts = tensors.iter().map(|(name, t)| (*name, t.data()));
    if checked && entries.get("sha256") != Some(&digest(state, parts)) {
        return Err(damaged("its checksum does not match"));
    }
    let header: Header =
        serde_json::from_str(state).map_err(|_| damaged("its state is not readable"))?;
    let own = header.settings_hash == resolved.settings_hash && header.seed == resolved.recipe.seed;
    if checked && !own {
        return Err(TrainError::Read {
            path: path.to_path_buf(),
            reason: "the checkpoint belongs to another recipe, network or seed than the folder's recipe.toml"
                .into(),
            cure: "put recipe.toml back as it was, or train the changed recipe in another folder with --out DIR"
                .into(),
        });
    }
    let data = &resolved.recipe.data;
    let same = match (&header.pictures, pictures) {
        (Some(then), Some(now)) => then == now,
        // A checkpoint without it is of a version that takes another part of a folder.
        (None, Some(_)) => data.name != "folder" || data.train.or(data.test).is_none(),
        _ => true,
    };
    if !same {
        // Another division of them would let test pictures be learned from.
        return Err(TrainError::Read {
            path: path.to_path_buf(),
            reason: "the pictures are not those with which the run began".into(),
            cure: "put them back as they were, or start the run afresh in another folder with --out DIR".into(),
        });
    }
    let parameters = engine.graph().parameters.clone();
    let floats = |name: String, length: usize| -> Result<Vec<f32>, TrainError> {
        let view = tensors
            .get(name.as_str())
            .ok_or_else(|| damaged(&format!("no tensor {name}")))?;
        if view.dtype() != Dtype::F32 || view.data().len() != length * 4 {
            return Err(damaged(&format!("tensor {name} has a wrong size")));
        }
        let (words, _) = view.data().as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    };
    let mask = |name: String, length: usize| -> Result<Option<Mask>, TrainError> {
        let Some(view) = tensors.get(name.as_str()) else {
            return Ok(None);
        };
        let (words, rest) = view.data().as_chunks::<8>();
        if !rest.is_empty() {
            return Err(damaged(&format!("mask {name} has a wrong size")));
        }
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Mask::from_words(length, words)
            .map(Some)
            .map_err(|_| damaged(&format!("mask {name}")))
    };
    let mut memory = vec![Memory::default(); parameters.len()];
    for (index, parameter) in parameters.iter().enumerate() {
        let (name, length) = (&parameter.name, parameter.len());
        engine.set_mask(index, None);
        for (section_name, section) in sections(resolved) {
            engine.write(
                section,
                index,
                &floats(format!("{section_name}/{name}"), length)?,
            );
        }
        engine.set_mask(index, mask(format!("mask/{name}"), length)?);
        memory[index].support = mask(format!("support/{name}"), length)?;
        if tensors.contains_key(format!("saved/{name}").as_str()) {
            memory[index].saved = floats(format!("saved/{name}"), length)?;
        }
    }
    engine.set_updates(header.updates);
    Ok((header.progress, memory))
}

fn digest<'a>(state: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = Sha256::new();
    hasher.update((state.len() as u64).to_le_bytes());
    hasher.update(state.as_bytes());
    for (name, bytes) in tensors {
        hasher.update(name.as_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    hex(&hasher.finalize())
}

/// A tensor on its way into the file.
struct Bytes {
    dtype: Dtype,
    shape: [usize; 1],
    bytes: Vec<u8>,
}

impl Bytes {
    fn floats(values: &[f32]) -> Bytes {
        Bytes {
            dtype: Dtype::F32,
            shape: [values.len()],
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    fn mask(mask: &Mask) -> Bytes {
        Bytes {
            dtype: Dtype::U64,
            shape: [mask.words().len()],
            bytes: mask
                .words()
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
        }
    }
}

impl View for &Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
