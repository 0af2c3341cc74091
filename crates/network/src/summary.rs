//! The table of a network's layers, as data and as text.

use std::fmt;

use serde::Serialize;

use crate::graph::{Graph, shape_text};

/// Layers with their shapes, parameters, MACs and bytes, and the totals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Name of the network.
    pub network: String,
    /// Shape of one input: channels, height, width.
    pub input: [usize; 3],
    /// One row per layer, in order.
    pub rows: Vec<SummaryRow>,
    /// Parameters of all layers, without running statistics.
    pub parameters: u64,
    /// Weights of all layers: the parameters that thresholding may drop.
    pub weights: u64,
    /// Multiply-accumulates of all layers for one image.
    pub macs: u64,
    /// Bytes of all parameters and running statistics as f32.
    pub bytes: u64,
}

/// One layer of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SummaryRow {
    /// Name of the layer.
    pub layer: String,
    /// Its type, as a description has it.
    pub kind: &'static str,
    /// Shape of its output: channels, height, width.
    pub output: [usize; 3],
    /// Its parameters, without running statistics.
    pub parameters: u64,
    /// Its multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of its parameters and running statistics as f32.
    pub bytes: u64,
}

impl Graph {
    /// The table of the layers.
    pub fn summary(&self) -> Summary {
        let rows: Vec<SummaryRow> = self
            .nodes
            .iter()
            .map(|node| {
                let own = self.parameters_of(node);
                let trained = own.iter().filter(|parameter| parameter.role.trainable());
                SummaryRow {
                    layer: node.name.clone(),
                    kind: node.operation.kind(),
                    output: node.output_shape,
                    parameters: trained.map(|parameter| parameter.len() as u64).sum(),
                    macs: node.macs,
                    bytes: own.iter().map(|parameter| 4 * parameter.len() as u64).sum(),
                }
            })
            .collect();
        Summary {
            network: self.name.clone(),
            input: self.input,
            parameters: self.parameter_count(),
            weights: self.weight_count(),
            macs: self.macs(),
            bytes: rows.iter().map(|row| row.bytes).sum(),
            rows,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            vec![["layer", "type", "output", "parameters", "MACs", "bytes"].map(str::to_owned)];
        for row in &self.rows {
            let numbers = [row.parameters, row.macs, row.bytes];
            let [parameters, macs, bytes] = numbers.map(|number| {
                if number == 0 {
                    "–".to_owned()
                } else {
                    grouped(number)
                }
            });
            let output = shape_text(&row.output);
            table.push([
                row.layer.clone(),
                row.kind.to_owned(),
                output,
                parameters,
                macs,
                bytes,
            ]);
        }
        let [parameters, macs, bytes] = [self.parameters, self.macs, self.bytes].map(grouped);
        table.push([
            "total".to_owned(),
            String::new(),
            String::new(),
            parameters,
            macs,
            bytes,
        ]);

        let widths: [usize; 6] = std::array::from_fn(|column| {
            table
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        });
        writeln!(out, "{}: input {}", self.network, shape_text(&self.input))?;
        for row in &table {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, numbers to the right.
                line += &if column < 3 {
                    format!("{cell:<width$}  ")
                } else {
                    format!("{cell:>width$}  ")
                };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        write!(
            out,
            "MACs: multiply-accumulates of convolutions and linear layers for one image. Bytes: as f32."
        )
    }
}

/// Digits in groups of three: 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;

    #[test]
    fn the_table_of_lenet5() {
        let summary = Network::load("lenet5").unwrap().graph().unwrap().summary();
        insta::assert_snapshot!(summary);
    }

    #[test]
    fn running_statistics_are_bytes_but_no_parameters() {
        let summary = Network::load("resnet20")
            .unwrap()
            .graph()
            .unwrap()
            .summary();
        let row = summary.rows.iter().find(|row| row.layer == "bn1").unwrap();
        assert_eq!((row.parameters, row.bytes), (32, 4 * 64));
        assert_eq!(
            summary.parameters,
            summary.rows.iter().map(|row| row.parameters).sum::<u64>()
        );
        assert_eq!(
            summary.macs,
            summary.rows.iter().map(|row| row.macs).sum::<u64>()
        );
    }

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(
            [0, 12, 999, 1000, 12345, 1234567].map(grouped),
            ["0", "12", "999", "1,000", "12,345", "1,234,567"]
        );
    }
}
