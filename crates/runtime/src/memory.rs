//! Where every activation lies: buffers share places when they do not live at the same time.

use std::ops::Range;

/// A buffer: so many values, needed from the first to the last of some steps.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub length: usize,
    pub steps: Range<usize>,
}

/// The first value of every buffer, and the values that all take together.
///
/// The largest buffers get their places first, each the lowest that is free as long as it lives. Places are whole
/// cache lines.
pub(crate) fn places(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    const LINE: usize = 16;
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|buffer| (usize::MAX - buffers[*buffer].length, *buffer));
    let mut starts = vec![0; buffers.len()];
    let mut placed: Vec<(Range<usize>, usize)> = Vec::new();
    let mut total = 0;
    for buffer in order {
        let Buffer { length, steps } = &buffers[buffer];
        let length = length.next_multiple_of(LINE);
        let mut taken: Vec<Range<usize>> = placed
            .iter()
            .filter(|(_, other)| {
                let other = &buffers[*other].steps;
                other.start < steps.end && steps.start < other.end
            })
            .map(|(place, _)| place.clone())
            .collect();
        taken.sort_by_key(|place| place.start);
        let mut start = 0;
        for place in taken {
            if start + length <= place.start {
                break;
            }
            start = start.max(place.end);
        }
        starts[buffer] = start;
        placed.push((start..start + length, buffer));
        total = total.max(start + length);
    }
    (starts, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_layers_takes_its_two_largest_neighbours() {
        let line = [(100, 0..2), (320, 1..3), (64, 2..4), (16, 3..5)];
        let buffers = line.map(|(length, steps)| Buffer { length, steps });
        let (_, total) = places(&buffers);
        assert_eq!(total, 112 + 320);
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_lie_apart(
            shapes in prop::collection::vec((1usize..200, 0usize..10, 1usize..5), 1..20),
        ) {
            let buffers: Vec<Buffer> = shapes
                .iter()
                .map(|(length, start, steps)| Buffer { length: *length, steps: *start..start + steps })
                .collect();
            let (starts, total) = places(&buffers);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(starts[i] + a.length <= total && starts[i].is_multiple_of(16));
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let together = a.steps.start < b.steps.end && b.steps.start < a.steps.end;
                    let apart = starts[i] + a.length <= starts[j] || starts[j] + b.length <= starts[i];
                    prop_assert!(!together || apart, "{i} and {j}");
                }
            }
        }
    }
}
