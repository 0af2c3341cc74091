//! Replacement of a part of the support, as in SET and RigL.

use crate::{Mask, ProjectError, Structure, project};

/// The mask in which `round(fraction · k)` of the `k` kept weights, those of least magnitude, are replaced by as many others, those with
/// the highest `growth`; at least one weight is always kept. Ties go to the lowest index.
///
/// `growth` is ranked by absolute value: the gradients of all weights for RigL, random scores for SET. Weights that were just dropped
/// may grow again. `fraction` is 0–1; values beyond count as the nearest of these.
///
/// # Errors
/// [`ProjectError`] if the mask keeps nothing, a score is not finite, or lengths differ.
pub fn regrow(
    weights: &[f32],
    growth: &[f32],
    mask: &Mask,
    fraction: f64,
) -> Result<Mask, ProjectError> {
    let k = mask.count();
    let replaced =
        ((fraction.clamp(0.0, 1.0) * k as f64).round() as usize).min(k.saturating_sub(1));
    let shape = [weights.len()];
    let kept = project(
        weights,
        &shape,
        Structure::Unstructured,
        k - replaced,
        Some(mask),
    )?;
    if replaced == 0 {
        return Ok(kept);
    }
    let candidates = Mask::all(mask.len()).without(&kept);
    let grown = project(
        growth,
        &shape,
        Structure::Unstructured,
        replaced,
        Some(&candidates),
    )?;
    Ok(kept.union(&grown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(mask: &Mask) -> Vec<usize> {
        mask.iter().collect()
    }

    #[test]
    fn the_least_weights_make_room_for_the_highest_gradients() {
        let weights = [0.9, 0.1, 0.0, 0.5, 0.0, -0.7];
        let gradients = [0.0, 0.2, 0.3, 0.0, -0.9, 0.0];
        let mask = Mask::from_words(6, vec![0b10_1011]).unwrap();
        let half = regrow(&weights, &gradients, &mask, 0.5).unwrap();
        assert_eq!(kept(&half), [0, 2, 4, 5]);
        let quarter = regrow(&weights, &gradients, &mask, 0.25).unwrap();
        assert_eq!(kept(&quarter), [0, 3, 4, 5]);
        // Weight 1 is dropped first and has the third highest gradient.
        let most = regrow(&weights, &gradients, &mask, 1.0).unwrap();
        assert_eq!(kept(&most), [0, 1, 2, 4]);
        assert_eq!(regrow(&weights, &gradients, &mask, 0.0).unwrap(), mask);
    }

    #[test]
    fn the_least_weights_make_room_for_what_is_drawn() {
        // SET: |w| of the support is 0.9 0.1 0.5 0.7 0.3; of five, 0.4 are two: 0.1 and 0.3 go. Drawn highest among
        // the free ones (those included) are 5 and 1.
        let weights = [0.9, -0.1, 0.0, 0.5, -0.7, 0.0, 0.3, 0.0];
        let drawn = [0.99, 0.8, 0.2, 0.95, 0.9, 0.85, 0.1, 0.4];
        let mask = Mask::from_words(8, vec![0b0101_1011]).unwrap();
        let after = regrow(&weights, &drawn, &mask, 0.4).unwrap();
        assert_eq!(kept(&after), [0, 1, 3, 4, 5]);
        // With 0.6, three go, 0.5 too, but it is drawn again.
        let after = regrow(&weights, &drawn, &mask, 0.6).unwrap();
        assert_eq!(kept(&after), [0, 1, 3, 4, 5]);
    }

    #[test]
    fn an_empty_support_or_bad_gradients_are_refused() {
        let gradients = [1.0, f32::NAN, 1.0];
        let empty = regrow(&[1.0; 3], &gradients, &Mask::none(3), 0.5);
        assert_eq!(empty, Err(ProjectError::Count { k: 0, weights: 3 }));
        let mask = Mask::from_words(3, vec![0b101]).unwrap();
        let error = regrow(&[1.0; 3], &gradients, &mask, 0.5).unwrap_err();
        assert!(matches!(error, ProjectError::NotFinite { index: 1, .. }));
    }
}
