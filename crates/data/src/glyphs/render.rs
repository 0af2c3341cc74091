//! Ink on paper: anti-aliased strokes, specks and gaps, an uneven background, and noise.

use super::SIDE;
use super::hand::Dab;
use super::strokes::Point;
use crate::random::Random;

/// The share of ink, from 0 to 1, in every pixel of a picture.
pub(super) struct Ink([[f32; SIDE]; SIDE]);

impl Ink {
    /// Clean paper.
    pub fn new() -> Self {
        Self([[0.0; SIDE]; SIDE])
    }

    /// Draws a chain of dabs; its edge fades over `softness` pixels.
    pub fn stroke(&mut self, dabs: &[Dab], softness: f32) {
        for pair in dabs.windows(2) {
            self.segment(pair[0], pair[1], softness, |old, ink| old.max(ink));
        }
    }

    /// Draws a spot of the given darkness.
    pub fn spot(&mut self, dab: Dab, darkness: f32, softness: f32) {
        self.segment(dab, dab, softness, |old, ink| old.max(darkness * ink));
    }

    /// Takes the ink away from a spot.
    pub fn erase(&mut self, dab: Dab, softness: f32) {
        self.segment(dab, dab, softness, |old, ink| old.min(1.0 - ink));
    }

    /// Changes every pixel near the segment from `a` to `b` to `blend(old, share covered)`.
    fn segment(&mut self, a: Dab, b: Dab, softness: f32, blend: impl Fn(f32, f32) -> f32) {
        let reach = a.radius.max(b.radius) + softness / 2.0;
        let span = |p: f32, q: f32| {
            // The casts saturate: what lies outside the picture becomes an empty range.
            let first = (p.min(q) - reach).max(0.0) as usize;
            let end = (p.max(q) + reach + 1.0) as usize;
            first..end.min(SIDE)
        };
        let (dx, dy) = (b.center.x - a.center.x, b.center.y - a.center.y);
        let scale = 1.0 / (dx * dx + dy * dy).max(1e-12);
        let columns = span(a.center.x, b.center.x);
        for row in span(a.center.y, b.center.y) {
            let py = row as f32 + 0.5 - a.center.y;
            for column in columns.clone() {
                let px = column as f32 + 0.5 - a.center.x;
                let t = ((px * dx + py * dy) * scale).clamp(0.0, 1.0);
                let (ex, ey) = (px - t * dx, py - t * dy);
                let distance = (ex * ex + ey * ey).sqrt();
                let radius = a.radius + t * (b.radius - a.radius);
                let covered = ((radius - distance) / softness + 0.5).clamp(0.0, 1.0);
                let pixel = &mut self.0[row][column];
                *pixel = blend(*pixel, covered);
            }
        }
    }
}

/// The paper and the light under which a picture is seen.
pub(super) struct Paper {
    brightness: f32,
    slope: Point,
    contrast: f32,
    noise: f32,
}

impl Paper {
    /// Draws a paper.
    pub fn new(random: &mut Random) -> Self {
        let brightness = random.between(0.0, 0.28);
        let slope = Point {
            x: random.within(0.16),
            y: random.within(0.16),
        };
        Self {
            brightness,
            slope,
            contrast: random.between(0.55, 0.95) * (1.0 - brightness),
            noise: random.between(0.02, 0.08),
        }
    }

    /// The picture of the ink on this paper: bright ink on dark paper, as in MNIST.
    pub fn develop(&self, ink: &Ink, random: &mut Random, pixels: &mut [u8]) {
        let middle = SIDE as f32 / 2.0;
        for (i, (pixel, &ink)) in pixels.iter_mut().zip(ink.0.as_flattened()).enumerate() {
            let x = ((i % SIDE) as f32 + 0.5 - middle) / middle;
            let y = ((i / SIDE) as f32 + 0.5 - middle) / middle;
            let light = self.brightness
                + self.slope.x * x
                + self.slope.y * y
                + self.contrast * ink
                + self.noise * random.bell();
            // The cast rounds to the nearest and saturates.
            *pixel = (light * 255.0 + 0.5) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn dab(x: f32, y: f32, radius: f32) -> Dab {
        Dab {
            center: Point { x, y },
            radius,
        }
    }

    #[test]
    fn a_stroke_covers_its_area() {
        let mut ink = Ink::new();
        ink.stroke(&[dab(5.0, 10.0, 2.0), dab(20.0, 10.0, 2.0)], 1.0);
        let area: f32 = ink.0.as_flattened().iter().sum();
        let exact = 15.0 * 4.0 + std::f32::consts::PI * 4.0;
        assert!((area - exact).abs() < 1.0, "{area} instead of {exact}");
        assert_eq!(ink.0[10][12], 1.0);
        assert_eq!(ink.0[14][12], 0.0);
    }

    #[test]
    fn what_lies_outside_the_picture_is_cut_off() {
        let mut ink = Ink::new();
        ink.stroke(&[dab(-50.0, -50.0, 3.0), dab(-20.0, 90.0, 3.0)], 1.0);
        ink.spot(dab(1e9, -1e9, 2.0), 1.0, 1.0);
        assert!(ink.0.as_flattened().iter().all(|&v| v == 0.0));
    }

    #[test]
    fn spots_add_and_gaps_take_away() {
        let mut ink = Ink::new();
        ink.spot(dab(10.5, 10.5, 3.0), 0.5, 1.0);
        assert_eq!(ink.0[10][10], 0.5);
        ink.erase(dab(10.5, 10.5, 1.0), 1.0);
        assert_eq!(ink.0[10][10], 0.0);
        assert_eq!(ink.0[10][12], 0.5);
    }

    #[test]
    fn paper_without_noise_shows_the_ink_exactly() {
        let paper = Paper {
            brightness: 0.2,
            slope: Point { x: 0.0, y: 0.0 },
            contrast: 0.6,
            noise: 0.0,
        };
        let mut ink = Ink::new();
        ink.0[3][4] = 1.0;
        let mut pixels = vec![0; SIDE * SIDE];
        paper.develop(
            &ink,
            &mut Random::new(0, Purpose::GlyphsTest, 0, 0),
            &mut pixels,
        );
        assert_eq!(pixels[0], 51);
        assert_eq!(pixels[3 * SIDE + 4], 204);
    }
}
