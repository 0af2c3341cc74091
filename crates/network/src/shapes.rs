//! The shape that each operation makes of its input's shape.

use crate::description::{Conv, Layer, Operation, Pool};
use crate::error::NetworkError;
use crate::graph::shape_text;

/// The output shape of a layer.
///
/// The first input shape exists, and no extent of an input is zero or larger than
/// [`crate::MAX_VALUES`].
pub(crate) fn output_shape(
    layer: &Layer,
    inputs: &[[usize; 3]],
) -> Result<[usize; 3], NetworkError> {
    let input = inputs[0];
    let [channels, height, width] = input;
    let refuse = |reason: String| NetworkError::BadInput {
        layer: layer.name.clone(),
        shape: shape_text(&input),
        reason,
    };
    let value = |key: &str, message: String| NetworkError::Value {
        owner: format!("layer `{}`", layer.name),
        key: key.to_owned(),
        message,
    };
    match &layer.operation {
        Operation::Conv(conv) => {
            let Conv {
                out,
                kernel,
                stride,
                padding,
                groups,
                ..
            } = *conv;
            if out == 0 {
                return Err(value("out", "0 must be 1 or more".to_owned()));
            }
            sizes(layer, "groups", 1, &[groups])?;
            sizes(layer, "kernel", 1, &kernel)?;
            sizes(layer, "stride", 1, &stride)?;
            sizes(layer, "padding", 0, &padding)?;
            if channels % groups != 0 || out % groups != 0 {
                return Err(value(
                    "groups",
                    format!(
                        "{groups} must divide the input channels ({channels}) and `out` ({out})"
                    ),
                ));
            }
            let window = Window {
                kernel,
                stride,
                padding,
                ceil: false,
            };
            let [rows, columns] = window.outputs([height, width]).map_err(refuse)?;
            Ok([out, rows, columns])
        }
        Operation::Linear(linear) => {
            if linear.out == 0 {
                return Err(value("out", "0 must be 1 or more".to_owned()));
            }
            if height != 1 || width != 1 {
                return Err(refuse(
                    "a linear layer reads a flat input; put a flatten layer before it".to_owned(),
                ));
            }
            Ok([linear.out, 1, 1])
        }
        Operation::MaxPool(pool) | Operation::AveragePool(pool) => {
            let Pool {
                kernel,
                stride,
                padding,
                ceil,
            } = *pool;
            sizes(layer, "kernel", 1, &kernel)?;
            sizes(layer, "stride", 1, &stride)?;
            sizes(layer, "padding", 0, &padding)?;
            // A window of padding alone has no largest value and no mean.
            if (0..2).any(|axis| padding[axis] > kernel[axis] / 2) {
                return Err(value(
                    "padding",
                    format!(
                        "{} is more than half of the kernel {}; make it smaller",
                        shape_text(&padding),
                        shape_text(&kernel)
                    ),
                ));
            }
            let window = Window {
                kernel,
                stride,
                padding,
                ceil,
            };
            let [rows, columns] = window.outputs([height, width]).map_err(refuse)?;
            Ok([channels, rows, columns])
        }
        Operation::GlobalPool => Ok([channels, 1, 1]),
        // The volume of an existing shape is small enough to be computed.
        Operation::Flatten => Ok([channels * height * width, 1, 1]),
        Operation::Add => match inputs.iter().find(|shape| **shape != input) {
            None => Ok(input),
            Some(other) => Err(NetworkError::ShapesDiffer {
                layer: layer.name.clone(),
                first: shape_text(&input),
                second: shape_text(other),
            }),
        },
        Operation::Softmax => {
            if height != 1 || width != 1 {
                return Err(refuse(
                    "a softmax reads a flat input; put a flatten or globalpool layer before it"
                        .to_owned(),
                ));
            }
            Ok(input)
        }
        Operation::BatchNorm { eps, momentum } => {
            if !(eps.is_finite() && *eps > 0.0) {
                return Err(value(
                    "eps",
                    format!("{eps} must be above 0; the default is 1e-5"),
                ));
            }
            if !(*momentum > 0.0 && *momentum <= 1.0) {
                return Err(value(
                    "momentum",
                    format!("{momentum} must be above 0 and at most 1; the default is 0.1"),
                ));
            }
            Ok(input)
        }
        Operation::Lrn {
            size,
            alpha,
            beta,
            k,
        } => {
            sizes(layer, "size", 1, &[*size])?;
            if size % 2 == 0 {
                return Err(value(
                    "size",
                    format!("{size} must be odd; the default is 5"),
                ));
            }
            for (key, number) in [("alpha", alpha), ("beta", beta)] {
                if !(number.is_finite() && *number >= 0.0) {
                    return Err(value(key, format!("{number} must be 0 or more")));
                }
            }
            if !(k.is_finite() && *k > 0.0) {
                return Err(value("k", format!("{k} must be above 0; the default is 1")));
            }
            Ok(input)
        }
        Operation::Dropout { p } => {
            if !(0.0..1.0).contains(p) {
                return Err(value("p", format!("{p} must be at least 0 and below 1")));
            }
            Ok(input)
        }
        Operation::Relu => Ok(input),
    }
}

/// Windows that slide over two axes; inputs are at most [`crate::MAX_VALUES`] long and all sizes at
/// most [`LONGEST`].
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil: bool,
}

impl Window {
    /// Number of windows along both axes, or why there are none.
    fn outputs(&self, input: [usize; 2]) -> Result<[usize; 2], String> {
        let mut outputs = [0; 2];
        for axis in 0..2 {
            let (kernel, stride, padding) =
                (self.kernel[axis], self.stride[axis], self.padding[axis]);
            let Some(rest) = (input[axis] + 2 * padding).checked_sub(kernel) else {
                return Err(format!(
                    "the kernel {} is larger than the padded input; make it smaller or add padding",
                    shape_text(&self.kernel)
                ));
            };
            let steps = if self.ceil {
                rest.div_ceil(stride)
            } else {
                rest / stride
            };
            // A last window of the rounding up must still start inside the input or its leading padding.
            let outside = self.ceil && steps > 0 && steps * stride >= input[axis] + padding;
            outputs[axis] = if outside { steps } else { steps + 1 };
        }
        Ok(outputs)
    }
}

/// The largest kernel, stride, padding or neighbourhood: positions cannot overflow.
const LONGEST: usize = 1 << 20;

/// Checks that sizes are at least `least` and not beyond all use.
fn sizes(layer: &Layer, key: &str, least: usize, sizes: &[usize]) -> Result<(), NetworkError> {
    let wrong = |message: String| NetworkError::Value {
        owner: format!("layer `{}`", layer.name),
        key: key.to_owned(),
        message,
    };
    for size in sizes {
        if *size < least {
            return Err(wrong(format!("{size} must be {least} or more")));
        }
        if *size > LONGEST {
            return Err(wrong(format!("{size} is too large; use at most {LONGEST}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn along(input: usize, kernel: usize, stride: usize, padding: usize, ceil: bool) -> usize {
        let window = Window {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            ceil,
        };
        window.outputs([input; 2]).unwrap()[0]
    }

    #[test]
    fn windows_are_counted_like_pytorch() {
        assert_eq!(along(32, 3, 2, 0, true), 16);
        assert_eq!(along(32, 3, 2, 0, false), 15);
        assert_eq!(along(5, 2, 2, 0, true), 3);
        // A window that would start at input + padding is left out.
        assert_eq!(along(5, 2, 3, 1, true), 2);
        assert_eq!(along(4, 2, 5, 1, true), 1);
        assert_eq!(along(3, 1, 3, 0, true), 1);
        assert_eq!(along(6, 3, 1, 1, true), 6);
    }

    #[test]
    fn no_window_of_a_pool_lies_in_the_padding_alone() {
        for input in 1..12 {
            for kernel in 1..6 {
                for stride in 1..7 {
                    for padding in 0..=kernel / 2 {
                        if input + 2 * padding < kernel {
                            continue;
                        }
                        let last = (along(input, kernel, stride, padding, true) - 1) * stride;
                        assert!(
                            last < input + padding,
                            "{input} {kernel} {stride} {padding}"
                        );
                        assert!(kernel > padding, "the first window reaches the input");
                    }
                }
            }
        }
    }
}
