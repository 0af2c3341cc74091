//! The report of one or several runs: a page in one file, and its plots as SVG and PNG beside it.
//!
//! `run` is a run folder as `read` finds it; `curves`, `layers`, `histograms` and `predictions` draw its figures on the canvas of `plots`,
//! `result` puts it into words and tables, `page` sets everything on one page.

mod csv;
mod curves;
mod error;
mod figure;
mod histograms;
mod html;
mod layers;
pub mod number;
mod page;
mod photo;
pub mod plots;
mod predictions;
mod read;
mod result;
mod run;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod timeline;
#[cfg(test)]
mod well_formed;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use error::ReportError;
use figure::Member;
use page::Figures;
use plots::{Canvas, ink};
use run::Run;
use skinny::network::write_atomically;

/// What [`write_report`] wrote.
#[derive(Debug)]
pub struct ReportFiles {
    /// The page, one file that needs no other.
    pub page: PathBuf,
    /// The plots, each as SVG and as PNG.
    pub plots: Vec<PathBuf>,
    /// What is missing in the runs and so in the report, a line each.
    pub notes: Vec<String>,
}

/// Writes `report.html` and `plots/*.svg|png` of the runs into the folder `out`, which is made if it is missing.
///
/// Several runs are laid over each other and set side by side. Files that an unfinished run lacks are left out
/// and named in the page and in [`ReportFiles::notes`].
///
/// # Errors
/// [`ReportError`]: a folder that is no run, a file that cannot be read, is malformed or cannot be written.
pub fn write_report(runs: &[PathBuf], out: &Path) -> Result<ReportFiles, ReportError> {
    let report = compose(runs)?;
    let plots = write_drawings(&report.drawings, out)?;
    let page = out.join("report.html");
    write_whole(&page, report.page.as_bytes())?;
    Ok(ReportFiles {
        page,
        plots,
        notes: report.notes,
    })
}

/// A report that is not written yet.
struct Report {
    page: String,
    /// File names without extension, and what they show.
    drawings: Vec<(String, Canvas)>,
    notes: Vec<String>,
}

/// Reads the runs and sets the page.
fn compose(runs: &[PathBuf]) -> Result<Report, ReportError> {
    let read: Vec<Run> = runs
        .iter()
        .map(|folder| Run::read(folder))
        .collect::<Result<_, _>>()?;
    let own: Vec<Figures> = read.iter().map(figures).collect();
    let mut drawings = Vec::new();
    let page = match &read[..] {
        [] => return Err(ReportError::NoRun),
        [run] => page::one(run, &own[0]),
        _ => {
            let members = members(&read);
            let mut shared = curves::of_runs(&members);
            shared.extend(layers::of_runs(&members));
            let page = page::several(&members, &shared, &own);
            drawings.extend(
                shared
                    .into_iter()
                    .map(|figure| (figure.slug, figure.canvas)),
            );
            page
        }
    };
    for (index, figure) in own
        .into_iter()
        .enumerate()
        .flat_map(|(index, own)| own.all().map(move |figure| (index, figure)))
    {
        let name = if read.len() == 1 {
            figure.slug
        } else {
            format!("{}-{}", index + 1, figure.slug)
        };
        drawings.push((name, figure.canvas));
    }
    Ok(Report {
        page,
        drawings,
        notes: notes(&read),
    })
}

fn figures(run: &Run) -> Figures {
    let mut layers = layers::of_run(run);
    layers.extend(histograms::weights(run));
    Figures {
        curves: curves::of_run(run),
        layers,
        predictions: predictions::of_run(run),
    }
}

/// Each run with a label that no other has, a colour and, once the colours are used up, a dashed line.
fn members(runs: &[Run]) -> Vec<Member<'_>> {
    let colors = [
        ink::TRAIN,
        ink::VALIDATION,
        ink::KEPT,
        ink::WRONG,
        ink::ORDERED[0],
        ink::ORDERED[5],
        ink::ORDERED[2],
        ink::ORDERED[6],
    ];
    let repeated = |labels: &[String], label: &String| {
        labels.iter().filter(|other| *other == label).count() > 1
    };
    let mut labels: Vec<String> = runs.iter().map(Run::name).collect();
    let names = labels.clone();
    for (run, label) in runs.iter().zip(&mut labels) {
        if let Some(seed) = run.seed()
            && repeated(&names, label)
        {
            *label = format!("{label}, seed {seed}");
        }
    }
    let seeded = labels.clone();
    for (run, label) in runs.iter().zip(&mut labels) {
        if repeated(&seeded, label) {
            *label = format!("{label} ({})", run::folder_name(&run.folder));
        }
    }
    let named = labels.clone();
    for ((run, label), seeded) in runs.iter().zip(&mut labels).zip(&seeded) {
        if repeated(&named, label) {
            *label = format!("{seeded} ({})", run.folder.display());
        }
    }
    let member = |(index, (run, label))| {
        let dashed = index / colors.len() % 2 == 1;
        Member {
            run,
            label,
            ink: colors[index % colors.len()],
            dashed,
        }
    };
    runs.iter().zip(labels).enumerate().map(member).collect()
}

/// Writes each drawing as SVG and PNG under its name; drawing is the slow part, so every core takes a share.
pub fn write_drawings(
    drawings: &[(String, Canvas)],
    out: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let folder = out.join("plots");
    fs::create_dir_all(&folder).map_err(|source| ReportError::Write {
        path: folder.clone(),
        source,
    })?;
    let write = |(name, canvas): &(String, Canvas)| {
        let (svg, png) = (
            folder.join(format!("{name}.svg")),
            folder.join(format!("{name}.png")),
        );
        write_whole(&svg, canvas.svg_file().as_bytes())?;
        let picture = canvas.png().map_err(|what| ReportError::Draw {
            picture: name.clone(),
            what,
        })?;
        write_whole(&png, &picture)?;
        Ok([svg, png])
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = drawings.len().div_ceil(threads).max(1);
    let written: Result<Vec<[PathBuf; 2]>, ReportError> = std::thread::scope(|scope| {
        let write = &write;
        let workers: Vec<_> = drawings
            .chunks(share)
            .map(|share| scope.spawn(move || share.iter().map(write).collect::<Vec<_>>()))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    Ok(written?.into_iter().flatten().collect())
}

/// Writes a file such that it is there as a whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    write_atomically(path, |out| out.write_all(bytes)).map_err(|source| ReportError::Write {
        path: path.to_path_buf(),
        source,
    })
}

/// What is missing, a line per run.
fn notes(runs: &[Run]) -> Vec<String> {
    let mut notes = Vec::new();
    for run in runs {
        if !run.missing.is_empty() {
            notes.push(format!(
                "{}: without {}",
                run.folder.display(),
                run.missing.join(", ")
            ));
        }
        notes.extend(
            run.notes
                .iter()
                .map(|note| format!("{}: {note}", run.folder.display())),
        );
    }
    notes
}
