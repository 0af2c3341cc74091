//! The two 16-bit floating-point formats that weights come in.

/// IEEE 754 binary16 to f32, exactly.
pub fn f16_to_f32(half: u16) -> f32 {
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

/// The nearest IEEE 754 binary16, ties to even; beyond its range an infinity, and NaN stays NaN.
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x477f_f000 {
        // From halfway between the largest number and what would follow it.
        0x7c00
    } else if magnitude >= 0x3880_0000 {
        // Normal: the exponent moves down by 112, the fraction loses 13 bits.
        let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        (rounded - (112 << 23)) >> 13
    } else {
        // Subnormal: a multiple of 2⁻²⁴. Adding 0.5 puts these into the last places of the sum, rounded to even.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    };
    sign | half as u16
}

/// bfloat16 to f32, exactly: its upper half.
pub fn bf16_to_f32(half: u16) -> f32 {
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
    fn f16_comes_back_and_what_lies_between_goes_to_the_nearest() {
        for half in 0..=u16::MAX {
            let value = f16_to_f32(half);
            if value.is_nan() {
                assert!(f16_to_f32(f32_to_f16(value)).is_nan());
            } else {
                assert_eq!(f32_to_f16(value), half);
            }
        }
        for half in 0..0x7bffu16 {
            let (low, high) = (f16_to_f32(half), f16_to_f32(half + 1));
            let middle = (low + high) / 2.0;
            let even = half + (half & 1);
            assert_eq!(f32_to_f16(middle), even);
            assert_eq!(f32_to_f16(middle.next_down()), half);
            assert_eq!(f32_to_f16(middle.next_up()), half + 1);
            assert_eq!(f32_to_f16(-middle), even | 0x8000);
        }
        assert_eq!(f32_to_f16(65_519.996), 0x7bff);
        assert_eq!(f32_to_f16(65_520.0), 0x7c00);
        assert_eq!(f32_to_f16(f32::MIN), 0xfc00);
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
