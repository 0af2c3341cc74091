//! The two 16-bit floating-point formats that weights come in.

/// IEEE 754 binary16 to f32, exactly.
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    match exponent {
        0 => {
            // Subnormal: fraction · 2⁻²⁴, a product that is exact.
            let value = fraction as f32 * (1.0 / 16_777_216.0);
            f32::from_bits(value.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

/// bfloat16 to f32, exactly: its upper half.
pub(crate) fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_has_the_value_of_its_definition() {
        for half in 0..=u16::MAX {
            let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
            let exponent = i32::from(half >> 10 & 0x1f);
            let fraction = f64::from(half & 0x3ff) / 1024.0;
            let value = f16_to_f32(half);
            if exponent == 31 {
                assert_eq!(value.is_nan(), fraction != 0.0);
                assert_eq!(value.is_infinite(), fraction == 0.0);
            } else {
                let whole = if exponent == 0 { 0.0 } else { 1.0 };
                let expected = sign * (whole + fraction) * 2f64.powi(exponent.max(1) - 15);
                assert_eq!(f64::from(value), expected);
            }
            assert_eq!(value.is_sign_negative(), sign < 0.0);
        }
    }

    #[test]
    fn bf16_is_the_upper_half() {
        for value in [0.0f32, -0.0, 1.0, -2.5, f32::INFINITY] {
            assert_eq!(
                bf16_to_f32((value.to_bits() >> 16) as u16).to_bits(),
                value.to_bits()
            );
        }
        assert!(bf16_to_f32(0x7fc1).is_nan());
    }
}
