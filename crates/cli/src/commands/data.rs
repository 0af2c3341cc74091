//! `skinny data`: what sets there are, getting them, checking them, looking at them.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::json;
use skinny::data::catalog::{self, FetchOptions, FileState, Progress, Source, State};
use skinny::data::{DataRoots, Dataset, LoadOptions, load};

use crate::arguments::DataVerb;
use crate::failure::Failure;
use crate::output::{self, Output, bytes, note, table, thousands};

/// Does what is asked for with data.
pub fn data(verb: &DataVerb, output: Output) -> Result<(), Failure> {
    match verb {
        DataVerb::List { data } => list(&DataRoots::new(data.as_deref()), output),
        DataVerb::Fetch { set, data, mirror } => fetch(set, data.as_deref(), mirror, output),
        DataVerb::Verify { set, data } => verify(set, &DataRoots::new(data.as_deref()), output),
        DataVerb::Info { set, data, shape } => info(set, data.as_deref(), shape.as_deref(), output),
    }
}

/// Where the folder of a set lies, and what is found of its files: the first place that has all of them, as when it is loaded, else
/// the first that has the folder.
fn place(set: &catalog::KnownSet, roots: &DataRoots) -> Option<(PathBuf, Vec<FileState>)> {
    let folder = set.published()?.folder;
    let places = roots.places().iter().map(|place| above(place, folder));
    let places = places.filter(|place| place.join(folder).is_dir());
    let mut found = places.map(|place| {
        let files = catalog::verify(set, &place);
        (place, files)
    });
    let whole = |(_, files): &(PathBuf, Vec<FileState>)| {
        files.iter().all(|file| file.state != State::Missing)
    };
    let first = found.next()?;
    match whole(&first) {
        true => Some(first),
        false => Some(found.find(whole).unwrap_or(first)),
    }
}

/// The folder that holds that of a set, where the latter may be given itself.
fn above(place: &Path, folder: &str) -> PathBuf {
    let itself =
        place.file_name().is_some_and(|name| name == folder) && !place.join(folder).is_dir();
    match place.parent().filter(|_| itself) {
        Some(above) if above.as_os_str().is_empty() => PathBuf::from("."),
        Some(above) => above.to_path_buf(),
        None => place.to_path_buf(),
    }
}

fn list(roots: &DataRoots, output: Output) -> Result<(), Failure> {
    let mut rows = vec![
        ["set", "pictures", "classes", "size", "here", "what"]
            .map(String::from)
            .to_vec(),
    ];
    for set in catalog::sets() {
        let here = match set.source {
            Source::Embedded => "always".to_string(),
            Source::Own => "–".to_string(),
            Source::Published(_) => match place(set, roots) {
                Some((_, files)) if files.iter().all(|file| file.state.is_good()) => {
                    "yes".to_string()
                }
                Some(_) => "damaged".to_string(),
                None => "no".to_string(),
            },
        };
        let count =
            |count: Option<usize>| count.map_or("–".to_string(), |count| thousands(count as u64));
        let download = set.published().map(|published| published.download_bytes());
        output.object(&json!({
            "set": set.name, "title": set.title, "here": here, "train": set.train, "test": set.test,
            "classes": set.classes, "download_bytes": download, "terms": set.terms,
        }))?;
        rows.push(vec![
            set.name.into(),
            format!("{} + {}", count(set.train), count(set.test)),
            count(set.classes),
            download.map_or("–".into(), bytes),
            here,
            set.title.into(),
        ]);
    }
    output.text(&table(&rows))?;
    let places: Vec<String> = roots
        .places()
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    output.text(&format!("\nlooked for in {}", places.join(", ")))
}

fn fetch(
    name: &str,
    data: Option<&Path>,
    mirrors: &[String],
    output: Output,
) -> Result<(), Failure> {
    let set = catalog::find(name)?;
    let roots = DataRoots::new(data);
    let folder = roots.download_folder()?;
    let folder = set
        .published()
        .map_or(folder.to_path_buf(), |set| above(folder, set.folder));
    let published = set.published().map_or(&[][..], |set| set.mirrors);
    let options = FetchOptions {
        mirrors: (mirrors.iter().cloned())
            .chain(published.iter().map(|mirror| (*mirror).to_owned()))
            .collect(),
        ..FetchOptions::default()
    };
    let bar = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let bar = output::bar(bar, None).unwrap_or_else(ProgressBar::hidden);
    let path = catalog::fetch(set, &folder, &options, &mut |progress| match progress {
        Progress::Present { file } => note!("{file} is there"),
        Progress::Start {
            file,
            url,
            from,
            bytes: all,
        } => {
            bar.set_length(all);
            bar.set_message(file.to_string());
            // What was there before says nothing about the speed.
            bar.set_position(from);
            bar.reset_eta();
            note!(
                "{file}: {} from {url}{}",
                bytes(all),
                if from > 0 { ", going on" } else { "" }
            );
        }
        Progress::Bytes { done, .. } => bar.set_position(done),
        Progress::Failed { url, reason, .. } => note!("{url}: {reason}"),
        Progress::Check { file } => note!("{file}: checksum"),
        Progress::Unpack { file } => note!("{file}: unpacked"),
        Progress::Done { file } => note!("{file}: done"),
    });
    bar.finish_and_clear();
    let path = path?;
    output.object(&json!({ "set": name, "folder": path }))?;
    output.text(&format!("{name} is in {}", path.display()))
}

fn verify(name: &str, roots: &DataRoots, output: Output) -> Result<(), Failure> {
    let set = catalog::find(name)?;
    if set.published().is_none() {
        return Err(Failure::usage(format!(
            "{name} has no published files to compare with"
        )));
    }
    let Some((place, files)) = place(set, roots) else {
        let places: Vec<String> = roots
            .places()
            .iter()
            .map(|place| place.display().to_string())
            .collect();
        return Err(Failure::data(format!(
            "{name} is not in {}; get it with `skinny data fetch {name}` or say where it is with --data DIR",
            places.join(", ")
        )));
    };
    output.text(&format!("{name} in {}", place.display()))?;
    let mut wrong = 0;
    for file in files {
        let (good, text) = match &file.state {
            State::Ok => (true, "ok".to_string()),
            State::Unchecked => (true, "there; no checksum is published".to_string()),
            State::Missing => (false, "missing".to_string()),
            State::WrongLength { bytes, expected } => (
                false,
                format!("{bytes} bytes where {expected} are published"),
            ),
            State::Wrong { md5, expected } => {
                (false, format!("md5 {md5} where {expected} is published"))
            }
            State::Unreadable { reason } => (false, format!("cannot be read: {reason}")),
        };
        wrong += usize::from(!good);
        output.object(&json!({
            "folder": place, "file": file.name, "good": good, "state": text,
        }))?;
        output.text(&format!("{}: {text}", file.name))?;
    }
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::data(format!(
            "{wrong} files of {name} in {} are not as published; `skinny data fetch {name} --data {}` mends them",
            place.display(),
            place.display()
        ))),
    }
}

/// Pictures over which mean and deviation are measured at the most.
const MEASURED: usize = 60_000;

fn info(
    name: &str,
    data: Option<&Path>,
    shape: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let folder = Path::new(name);
    let roots = DataRoots::new(data);
    // The data folder itself may hold a folder of a set's name.
    let split = match catalog::find(name).map(|set| &set.source) {
        Ok(Source::Own) => {
            return Err(Failure::usage(
                "\"folder\" is what a recipe calls pictures of your own; name their folder itself: skinny data info PATH",
            ));
        }
        Ok(_) if shape.is_some() => {
            return Err(Failure::usage(format!(
                "--shape is for folders of pictures; those of {name} have a shape, leave it out"
            )));
        }
        Ok(_) => load(name, &roots, &LoadOptions::default())?,
        Err(_) if folder.is_dir() => {
            let options = LoadOptions {
                path: Some(folder.to_path_buf()),
                shape: Some(parse_shape(shape.unwrap_or("3x224x224"))?),
                ..LoadOptions::default()
            };
            load("folder", &roots, &options)?
        }
        Err(unknown) => {
            return Err(Failure::data(format!(
                "{unknown}; there is no folder of pictures {} either",
                folder.display()
            )));
        }
    };
    for (part, set) in [("train", &split.train), ("test", &split.test)] {
        describe(part, set, output)?;
    }
    Ok(())
}

fn describe(part: &str, set: &Dataset, output: Output) -> Result<(), Failure> {
    let info = set.info(MEASURED)?;
    output.object(&json!({
        "part": part, "pictures": info.pictures, "shape": info.shape, "classes": info.classes,
        "mean": info.mean, "std": info.std,
    }))?;
    let numbers = |values: &[f64]| {
        values
            .iter()
            .map(|v| format!("{v:.4}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let classes: Vec<String> = info
        .classes
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    output.text(&format!(
        "{part}: {} pictures of {}x{}x{}, mean {}, deviation {}\n  {}",
        thousands(info.pictures as u64),
        info.shape[0],
        info.shape[1],
        info.shape[2],
        numbers(&info.mean),
        numbers(&info.std),
        classes.join(", ")
    ))
}

/// Values of a picture at most.
const MOST_VALUES: usize = 1 << 28;

fn parse_shape(text: &str) -> Result<[usize; 3], Failure> {
    let parts: Option<Vec<usize>> = (text.split('x'))
        .map(|part| part.parse().ok().filter(|&n| n > 0))
        .collect();
    let shape: Option<[usize; 3]> = parts.and_then(|parts| parts.try_into().ok());
    let shape = shape.filter(|[channels, ..]| [1, 3].contains(channels));
    let shape = shape.ok_or_else(|| {
        Failure::usage(format!(
            "--shape {text} is no shape; write channels (1 or 3), height and width, e.g. 3x224x224"
        ))
    })?;
    let values = shape
        .iter()
        .try_fold(1usize, |product, n| product.checked_mul(*n));
    match values.is_some_and(|values| values <= MOST_VALUES) {
        true => Ok(shape),
        false => Err(Failure::usage(format!(
            "--shape {text} has more than {MOST_VALUES} values a picture; give that of the network"
        ))),
    }
}
