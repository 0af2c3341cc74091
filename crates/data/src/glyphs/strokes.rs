//! From the path of a pen to chains of short straight segments.

use crate::random::Random;

/// A point or a displacement in the plane; y grows downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f32,
    pub y: f32,
}

/// One movement of the pen, in hundredths of the box of the character.
#[derive(Clone, Copy)]
pub(super) enum Piece {
    /// Lift the pen and set it down at (x, y).
    Move(i16, i16),
    /// Draw straight to (x, y).
    Line(i16, i16),
    /// Draw a cubic Bézier curve: two control points, then the end point.
    Curve(i16, i16, i16, i16, i16, i16),
}

/// Segments of a curve; enough to look round at the size of a picture.
const CURVE_SEGMENTS: usize = 10;
/// Segments of a straight line; enough to be bent by an elastic field.
const LINE_SEGMENTS: usize = 6;

/// Flattens a path to one chain of points per stroke, in the unit box, after moving every point
/// of the path by a bell-shaped random displacement of standard deviation `jitter`.
pub(super) fn draw(path: &[Piece], jitter: f32, random: &mut Random) -> Vec<Vec<Point>> {
    let mut place = |x: i16, y: i16| Point {
        x: f32::from(x) / 100.0 + jitter * random.bell(),
        y: f32::from(y) / 100.0 + jitter * random.bell(),
    };
    let mut strokes: Vec<Vec<Point>> = Vec::new();
    let mut pen = Point { x: 0.0, y: 0.0 };
    for &piece in path {
        // A line is the curve whose control points lie on it at one and two thirds.
        let (near, far, end, segments) = match piece {
            Piece::Move(x, y) => {
                pen = place(x, y);
                strokes.push(vec![pen]);
                continue;
            }
            Piece::Line(x, y) => {
                let end = place(x, y);
                (
                    mix(pen, end, 1.0 / 3.0),
                    mix(pen, end, 2.0 / 3.0),
                    end,
                    LINE_SEGMENTS,
                )
            }
            Piece::Curve(a, b, c, d, x, y) => {
                (place(a, b), place(c, d), place(x, y), CURVE_SEGMENTS)
            }
        };
        if let Some(stroke) = strokes.last_mut() {
            stroke.extend(
                (1..=segments).map(|i| bezier([pen, near, far, end], i as f32 / segments as f32)),
            );
        }
        pen = end;
    }
    strokes
}

/// The point at `t` of the straight way from `a` to `b`.
fn mix(a: Point, b: Point, t: f32) -> Point {
    Point {
        x: a.x + (b.x - a.x) * t,
        y: a.y + (b.y - a.y) * t,
    }
}

/// The point at `t` of a cubic Bézier curve, by repeated halving of the way (de Casteljau).
fn bezier([a, b, c, d]: [Point; 4], t: f32) -> Point {
    let (ab, bc, cd) = (mix(a, b, t), mix(b, c, t), mix(c, d, t));
    mix(mix(ab, bc, t), mix(bc, cd, t), t)
}

#[cfg(test)]
mod tests {
    use super::super::alphabet::ALPHABET;
    use super::*;
    use crate::random::Purpose;

    fn random() -> Random {
        Random::new(0, Purpose::GlyphsTrain, 0, 0)
    }

    #[test]
    fn strokes_pass_through_the_points_of_the_path() {
        let path = [
            Piece::Move(10, 20),
            Piece::Line(40, 80),
            Piece::Move(0, 50),
            Piece::Curve(0, 0, 100, 0, 100, 50),
        ];
        let strokes = draw(&path, 0.0, &mut random());
        assert_eq!(strokes.len(), 2);
        assert_eq!(strokes[0][0], Point { x: 0.1, y: 0.2 });
        let end = strokes[0][LINE_SEGMENTS];
        assert!((end.x - 0.4).abs() < 1e-6 && (end.y - 0.8).abs() < 1e-6);
        let top = strokes[1][CURVE_SEGMENTS / 2];
        assert!((top.x - 0.5).abs() < 1e-6 && (top.y - 0.125).abs() < 1e-6);
    }

    #[test]
    fn jitter_moves_the_points() {
        let path = [Piece::Move(10, 20), Piece::Line(40, 80)];
        let mut random = random();
        assert_ne!(
            draw(&path, 0.02, &mut random),
            draw(&path, 0.02, &mut random)
        );
    }

    #[test]
    fn every_shape_starts_with_a_move_and_fills_its_box() {
        for letter in ALPHABET {
            for shape in letter.shapes {
                assert!(matches!(shape[0], Piece::Move(..)), "{}", letter.name);
                let points: Vec<Point> = draw(shape, 0.0, &mut random()).concat();
                let inside = |v: f32| (-0.05..=1.05).contains(&v);
                assert!(
                    points.iter().all(|p| inside(p.x) && inside(p.y)),
                    "{}",
                    letter.name
                );
                let height = points.iter().map(|p| p.y).fold(f32::MIN, f32::max)
                    - points.iter().map(|p| p.y).fold(f32::MAX, f32::min);
                assert!(height > 0.85, "{} is only {height} high", letter.name);
            }
        }
    }
}
