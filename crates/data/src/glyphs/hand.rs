//! A random hand: how it bends, tilts, sizes and places a character, and how hard it presses.

use super::strokes::Point;
use crate::random::Random;

/// A point of a stroke on the picture, in pixels, with the radius of the pen there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dab {
    pub center: Point,
    pub radius: f32,
}

/// The hand that draws one picture.
pub(super) struct Hand {
    field: Field,
    /// Elastic displacement, in boxes, for one unit of the field.
    bend: f32,
    /// Columns of the affine map from the box, centered, to pixels.
    across: Point,
    down: Point,
    center: Point,
    radius: f32,
    /// Relative change of the radius for one unit of the field.
    pressure: f32,
}

impl Hand {
    /// Draws a hand for a picture of `side` pixels.
    pub fn new(side: usize, random: &mut Random) -> Self {
        let height = side as f32 * random.between(0.56, 0.78);
        let width = height * random.between(0.64, 1.05);
        let (sine, cosine) = sine_cosine(random.within(0.11));
        let slant = random.between(-0.22, 0.34);
        let middle = side as f32 / 2.0;
        Self {
            field: Field::new(random),
            bend: random.between(0.03, 0.10),
            across: Point {
                x: width * cosine,
                y: width * sine,
            },
            // The slant moves what is above the middle to the right.
            down: Point {
                x: height * (-sine - slant * cosine),
                y: height * (cosine - slant * sine),
            },
            center: Point {
                x: middle + random.within(2.4),
                y: middle + random.within(2.4),
            },
            radius: side as f32 * random.between(0.029, 0.062),
            pressure: random.between(0.0, 0.35),
        }
    }

    /// Where a point of the unit box comes to lie on the picture, and how thick the pen is there.
    pub fn place(&self, point: Point) -> Dab {
        let [dx, dy, press] = self.field.at(point);
        let x = point.x - 0.5 + self.bend * dx;
        let y = point.y - 0.5 + self.bend * dy;
        Dab {
            center: Point {
                x: self.center.x + self.across.x * x + self.down.x * y,
                y: self.center.y + self.across.y * x + self.down.y * y,
            },
            radius: self.radius * (1.0 + self.pressure * press).max(0.4),
        }
    }
}

/// Sine and cosine of the angle whose half has the tangent `half`. Only basic arithmetic is used,
/// so that the bits are the same on every platform.
fn sine_cosine(half: f32) -> (f32, f32) {
    let norm = 1.0 + half * half;
    (2.0 * half / norm, (1.0 - half * half) / norm)
}

/// Cells of the elastic field along each side of the unit box.
const CELLS: usize = 3;
/// Knots of a cubic spline over these cells.
const KNOTS: usize = CELLS + 3;

/// A smooth random field over the unit box: a cubic B-spline with bell-shaped random knots, whose
/// three values displace a point in x and in y and change the pressure of the pen.
struct Field([[[f32; 3]; KNOTS]; KNOTS]);

impl Field {
    fn new(random: &mut Random) -> Self {
        let mut knots = [[[0.0; 3]; KNOTS]; KNOTS];
        knots
            .as_flattened_mut()
            .as_flattened_mut()
            .fill_with(|| random.bell());
        Self(knots)
    }

    fn at(&self, point: Point) -> [f32; 3] {
        let (column, across) = spline(point.x);
        let (row, down) = spline(point.y);
        let mut value = [0.0; 3];
        for (knots, weight_down) in self.0[row..].iter().zip(down) {
            for (knot, weight_across) in knots[column..].iter().zip(across) {
                for (value, &knot) in value.iter_mut().zip(knot) {
                    *value += weight_down * weight_across * knot;
                }
            }
        }
        value
    }
}

/// The first of the four knots that matter at `x` in [0, 1], and their weights. Outside, the
/// field goes on as at the edge.
fn spline(x: f32) -> (usize, [f32; 4]) {
    let position = x.clamp(0.0, 1.0) * CELLS as f32;
    let cell = (position as usize).min(CELLS - 1);
    let t = position - cell as f32;
    let (s, t2, t3) = (1.0 - t, t * t, t * t * t);
    let weights = [
        s * s * s / 6.0,
        (3.0 * t3 - 6.0 * t2 + 4.0) / 6.0,
        (-3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0) / 6.0,
        t3 / 6.0,
    ];
    (cell, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn spline_weights_sum_to_one_and_join_smoothly() {
        for i in 0..=100 {
            let (cell, weights) = spline(i as f32 / 100.0);
            assert!(cell + 4 <= KNOTS);
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let field = Field::new(&mut Random::new(3, Purpose::GlyphsTrain, 0, 0));
        let edge = 1.0 / CELLS as f32;
        let before = field.at(Point {
            x: edge - 1e-4,
            y: 0.4,
        });
        let after = field.at(Point {
            x: edge + 1e-4,
            y: 0.4,
        });
        for (a, b) in before.iter().zip(after) {
            assert!((a - b).abs() < 2e-3);
        }
    }

    #[test]
    fn rotation_keeps_lengths() {
        for half in [-1.0, -0.1, 0.0, 0.3] {
            let (sine, cosine) = sine_cosine(half);
            assert!((sine * sine + cosine * cosine - 1.0).abs() < 1e-6);
            assert!((sine - (2.0 * half.atan()).sin()).abs() < 1e-6);
        }
    }

    #[test]
    fn the_middle_of_a_character_stays_near_the_middle_of_the_picture() {
        for index in 0..200 {
            let mut random = Random::new(0, Purpose::GlyphsTrain, 0, index);
            let dab = Hand::new(28, &mut random).place(Point { x: 0.5, y: 0.5 });
            assert!((dab.center.x - 14.0).abs() < 7.0 && (dab.center.y - 14.0).abs() < 7.0);
            assert!(dab.radius > 0.2 && dab.radius < 4.0);
        }
    }
}
