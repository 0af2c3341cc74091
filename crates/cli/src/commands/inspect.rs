//! `skinny inspect`: what the bytes of a packed file go to.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use serde_json::json;
use skinny::model::{IndexKind, Model, PackOptions, StoredParameter, index_floor_bytes, pack};
use skinny::sparsity::Mask;

use crate::arguments::Which;
use crate::commands::source;
use crate::failure::Failure;
use crate::output::{self, Output, bytes, table, thousands};

/// Prints the layers of a file and draws their masks.
pub fn inspect(file: &Path, plots: Option<&Path>, output: Output) -> Result<(), Failure> {
    let model = match source::is_skinny(file) {
        true => Model::load(file)?,
        false => {
            let source = source::open(file, Which::Last, None)?;
            let packed = pack(&source.model, &PackOptions::default(), &mut |_| ())?;
            Model::from_bytes(packed)?
        }
    };
    let drawn = match plots {
        Some(folder) => draw(&model, folder)?,
        None => Vec::new(),
    };
    let rows: Vec<Row> = model.parameters().map(Row::of).collect();
    let totals = Totals::of(&model, &rows);
    output.object(&json!({
        "file": file, "network": model.network().name,
        "file_bytes": totals.file, "dense_bytes": totals.dense,
        "index_bytes": totals.index, "index_floor_bytes": totals.floor.ceil() as u64,
        "nonzeros": totals.kept, "weights": totals.weights,
        "header_bytes": totals.header, "preprocess_bytes": totals.preprocess,
        "layers": rows.iter().map(Row::json).collect::<Vec<_>>(), "plots": drawn,
    }))?;
    output.text(&totals.table(&rows))?;
    match drawn.len() {
        0 => Ok(()),
        count => output.text(&format!(
            "{count} masks drawn beside {}",
            drawn[0].display()
        )),
    }
}

/// One parameter.
struct Row {
    name: String,
    shape: Vec<usize>,
    is_weight: bool,
    len: usize,
    kept: usize,
    encoding: String,
    index: usize,
    floor: f64,
    values: usize,
}

impl Row {
    fn of(parameter: StoredParameter<'_>) -> Row {
        let coded = if parameter.is_coded() { " coded" } else { "" };
        let (index, values) = (parameter.index_kind().name(), parameter.value_kind().name());
        let is_weight = parameter.parameter().role.thresholded();
        let kept = match is_weight && parameter.index_kind() == IndexKind::Dense {
            true => kept(&parameter).count(),
            false => parameter.kept(),
        };
        Row {
            name: parameter.name().to_owned(),
            shape: parameter.shape().to_vec(),
            is_weight,
            len: parameter.len(),
            kept,
            encoding: format!("{index}, {values}{coded}"),
            index: parameter.index_bytes(),
            floor: index_floor_bytes(parameter.len(), parameter.kept()),
            values: parameter.value_bytes(),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name, "shape": self.shape, "values": self.len, "kept": self.kept,
            "density": self.kept as f64 / self.len as f64, "encoding": self.encoding,
            "bytes": self.index + self.values, "index_bytes": self.index,
            "index_floor_bytes": self.floor.ceil() as u64, "value_bytes": self.values,
        })
    }

    fn cells(&self) -> Vec<String> {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        vec![
            self.name.clone(),
            shape.join("x"),
            thousands(self.kept as u64),
            format!("{:.4}", self.kept as f64 / self.len as f64),
            self.encoding.clone(),
            bytes((self.index + self.values) as u64),
            bytes(self.index as u64),
            bytes(self.floor.ceil() as u64),
            ratio(self.index, self.floor),
        ]
    }
}

fn ratio(index: usize, floor: f64) -> String {
    match floor > 0.0 {
        true => format!("{:.3}", index as f64 / floor),
        false => "–".into(),
    }
}

/// Which weights are kept: where that is not stored, those that are not zero.
fn kept<'a>(parameter: &StoredParameter<'a>) -> Cow<'a, Mask> {
    let all = || Cow::Owned(Mask::of_nonzero(&parameter.values()));
    parameter.mask().unwrap_or_else(all)
}

/// All parameters together, and what is beside them.
struct Totals {
    file: usize,
    dense: usize,
    index: usize,
    floor: f64,
    kept: usize,
    weights: usize,
    parameters: usize,
    /// Tensors that prepare pictures; outside the network's size.
    preprocess: usize,
    /// Descriptions, names and places.
    header: usize,
}

impl Totals {
    fn of(model: &Model, rows: &[Row]) -> Totals {
        let weights = || rows.iter().filter(|row| row.is_weight);
        let parameters = rows.iter().map(|row| row.index + row.values).sum();
        let preprocess = source::preprocess_bytes(model.preprocess()) as usize;
        let file = model.bytes().len();
        Totals {
            file,
            dense: rows.iter().map(|row| 4 * row.len).sum(),
            index: rows.iter().map(|row| row.index).sum(),
            floor: rows.iter().map(|row| row.floor).sum(),
            kept: weights().map(|row| row.kept).sum(),
            weights: weights().map(|row| row.len).sum(),
            parameters,
            preprocess,
            header: file - parameters - preprocess,
        }
    }

    fn table(&self, rows: &[Row]) -> String {
        let head = [
            "parameter",
            "shape",
            "kept",
            "density",
            "encoding",
            "bytes",
            "index",
            "floor",
            "index/floor",
        ];
        let mut cells = vec![head.map(String::from).to_vec()];
        cells.extend(rows.iter().map(Row::cells));
        cells.push(vec![
            "all weights".into(),
            String::new(),
            thousands(self.kept as u64),
            format!("{:.4}", self.kept as f64 / self.weights.max(1) as f64),
            String::new(),
            bytes(self.parameters as u64),
            bytes(self.index as u64),
            bytes(self.floor.ceil() as u64),
            ratio(self.index, self.floor),
        ]);
        let mut text = table(&cells);
        text += &format!(
            "\n\nfile: {} (÷ {:.1} of {} dense), {} of it descriptions{}",
            bytes((self.file - self.preprocess) as u64),
            self.dense as f64 / (self.file - self.preprocess).max(1) as f64,
            bytes(self.dense as u64),
            bytes(self.header as u64),
            output::prepares(self.preprocess as u64)
        );
        text
    }
}

/// The most pixels of a side, and the least where a weight can take several.
const PIXELS: [usize; 2] = [1024, 256];

/// Draws the mask of each weight, rows downwards: the darker, the more is kept.
fn draw(model: &Model, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::data(format!(
            "cannot write {}: {error}; choose another --plots",
            path.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(|error| fail(folder, &error))?;
    let mut drawn = Vec::new();
    for parameter in model.parameters() {
        if !parameter.parameter().role.thresholded() {
            continue;
        }
        let path = folder.join(format!("{}.png", parameter.name()));
        picture(&kept(&parameter), parameter.rows(), parameter.columns())
            .save(&path)
            .map_err(|error| fail(&path, &error))?;
        drawn.push(path);
    }
    Ok(drawn)
}

/// A pixel for as many weights, or pixels for each weight, as make a picture of a fair size.
fn picture(mask: &Mask, rows: usize, columns: usize) -> GrayImage {
    let [most, least] = PIXELS;
    let weights_per_pixel = rows.max(columns).div_ceil(most);
    let [height, width] = [rows, columns].map(|extent| extent.div_ceil(weights_per_pixel));
    let mut kept = vec![0u32; height * width];
    for index in mask.iter() {
        let (row, column) = (index / columns, index % columns);
        kept[row / weights_per_pixel * width + column / weights_per_pixel] += 1;
    }
    let pixels_per_weight = (least / height.max(width)).max(1);
    let shade = |x: u32, y: u32| {
        let [x, y] = [x, y].map(|place| place as usize / pixels_per_weight);
        // Cells at the lower and right edge may hold fewer weights.
        let extent =
            |place: usize, all: usize| weights_per_pixel.min(all - place * weights_per_pixel);
        let cell = extent(y, rows) * extent(x, columns);
        255 - (255 * kept[y * width + x] as usize / cell) as u8
    };
    GrayImage::from_fn(
        (width * pixels_per_weight) as u32,
        (height * pixels_per_weight) as u32,
        |x, y| Luma([shade(x, y)]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use skinny::model::{Level, Unpacked};
    use skinny::network::{Network, Preprocess, Tensor};

    #[test]
    fn dropped_weights_are_not_kept_where_zeros_are_stored_too() {
        let network = Network::from_toml(
            "name = 'n'\ninput = [3, 4, 4]\nlayers = [{ name = 'c', type = 'conv', out = 16, kernel = 3, bias = false }]",
        );
        let mut weights = Tensor::zeros(&[16, 3, 3, 3]);
        (weights.data.iter_mut().enumerate()).for_each(|(i, value)| *value = (i % 60) as f32);
        let unpacked = Unpacked {
            network: network.unwrap(),
            preprocess: Preprocess::default(),
            tensors: [("c.weight".to_owned(), weights)].into_iter().collect(),
            masks: Default::default(),
        };
        for level in [Level::Fast, Level::Small] {
            let options = PackOptions {
                level,
                ..PackOptions::default()
            };
            let packed = pack(&unpacked, &options, &mut |_| ()).unwrap();
            let model = Model::from_bytes(packed).unwrap();
            let parameter = model.parameters().next().unwrap();
            assert_eq!(kept(&parameter).count(), 432 - 8);
            let row = Row::of(parameter);
            assert_eq!(row.kept, 432 - 8, "{}", row.encoding);
            assert_eq!(row.encoding.starts_with("dense"), level == Level::Fast);
        }
    }

    #[test]
    fn small_masks_are_enlarged_and_large_ones_averaged() {
        let mask = Mask::from_fn(6, |i| i == 4);
        let small = picture(&mask, 2, 3);
        assert_eq!(small.dimensions(), (255, 170));
        assert_eq!(small.get_pixel(130, 100), &Luma([0]));
        assert_eq!(small.get_pixel(130, 10), &Luma([255]));

        let half = Mask::from_fn(2048 * 1030, |i| i % 2 == 0);
        let large = picture(&half, 2048, 1030);
        assert_eq!(large.dimensions(), (515, 1024));
        assert!(large.pixels().all(|pixel| pixel[0].abs_diff(128) < 2));
    }
}
