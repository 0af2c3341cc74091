//! How numbers are written for people: one rule per quantity, the same in tables, captions and plots.

/// A narrow gap that never breaks a line, between a number and its unit.
const GAP: char = '\u{a0}';

/// What stands where a number is not known.
pub const NONE: &str = "–";

/// `431080` → `431,080`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A fraction as a percentage with two decimals: `0.00813` → `0.81 %`.
pub fn percent(fraction: f64) -> String {
    if fraction.is_finite() {
        format!("{:.2}{GAP}%", fraction * 100.0)
    } else {
        NONE.into()
    }
}

/// A fraction as a percentage with as few decimals as tell it apart: `0.1` → `10 %`, `0.055` → `5.5 %`.
pub fn short_percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        return NONE.into();
    }
    format!("{}{GAP}%", significant(fraction * 100.0, 3))
}

/// A difference of two fractions in percentage points with its sign: `+0.07 points`.
pub fn points(difference: f64) -> String {
    if !difference.is_finite() {
        return NONE.into();
    }
    let value = difference * 100.0;
    let sign = if value > 0.005 {
        "+"
    } else if value < -0.005 {
        "−"
    } else {
        "±"
    };
    format!("{sign}{:.2}{GAP}points", value.abs())
}

/// Bytes in decimal units: `1724320` → `1.72 MB`.
pub fn bytes(value: u64) -> String {
    match value {
        0..1_000 => format!("{value}{GAP}B"),
        1_000..1_000_000 => format!("{}{GAP}kB", significant(value as f64 / 1e3, 3)),
        1_000_000..1_000_000_000 => format!("{:.2}{GAP}MB", value as f64 / 1e6),
        _ => format!("{:.2}{GAP}GB", value as f64 / 1e9),
    }
}

/// How many times one quantity is in another: `10.0×`; at 100 and above without decimals.
pub fn factor(value: f64) -> String {
    match value {
        v if !v.is_finite() => NONE.into(),
        v if v >= 99.95 => format!("{v:.0}×"),
        v => format!("{v:.1}×"),
    }
}

/// Seconds as people say them: `42 s`, `6 min 12 s`, `3 h 05 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return NONE.into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1}{GAP}s"),
        10..60 => format!("{whole}{GAP}s"),
        60..3600 => format!("{}{GAP}min {:02}{GAP}s", whole / 60, whole % 60),
        _ => format!("{}{GAP}h {:02}{GAP}min", whole / 3600, whole % 3600 / 60),
    }
}

/// A value such as a loss or a learning rate: four significant digits, powers of ten only when tiny or huge.
pub fn value(value: f64) -> String {
    if !value.is_finite() {
        return NONE.into();
    }
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        let text = format!("{value:.2e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        return format!("{mantissa}e{exponent}").replace('-', "−");
    }
    significant(value, 4).replace('-', "−")
}

/// At most `digits` significant digits, without trailing zeros behind the point.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (digits as i32 - 1 - magnitude).clamp(0, 12) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// `1 epoch`, `2 epochs`.
pub fn plural(number: u64, word: &str) -> String {
    format!(
        "{}{GAP}{word}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(61_080), "61,080");
        assert_eq!(count(1_431_080), "1,431,080");
        assert_eq!(percent(0.008_13), "0.81\u{a0}%");
        assert_eq!(short_percent(0.1), "10\u{a0}%");
        assert_eq!(short_percent(0.055), "5.5\u{a0}%");
        assert_eq!(short_percent(1.0), "100\u{a0}%");
        assert_eq!(points(0.0007), "+0.07\u{a0}points");
        assert_eq!(points(-0.0007), "−0.07\u{a0}points");
        assert_eq!(points(0.0), "±0.00\u{a0}points");
        assert_eq!(bytes(512), "512\u{a0}B");
        assert_eq!(bytes(174_320), "174\u{a0}kB");
        assert_eq!(bytes(1_724_320), "1.72\u{a0}MB");
        assert_eq!(factor(9.996), "10.0×");
        assert_eq!(factor(120.4), "120×");
        assert_eq!(duration(4.25), "4.2\u{a0}s");
        assert_eq!(duration(372.0), "6\u{a0}min 12\u{a0}s");
        assert_eq!(duration(11_100.0), "3\u{a0}h 05\u{a0}min");
        assert_eq!(value(0.05), "0.05");
        assert_eq!(value(2.345_678), "2.346");
        assert_eq!(value(1.5e-6), "1.5e−6");
        assert_eq!(value(-0.5), "−0.5");
        assert_eq!(plural(1, "epoch"), "1\u{a0}epoch");
        assert_eq!(plural(15, "epoch"), "15\u{a0}epochs");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for text in [
            percent(f64::NAN),
            factor(f64::INFINITY),
            duration(f64::NAN),
            value(f64::NAN),
            points(f64::NAN),
        ] {
            assert_eq!(text, NONE);
        }
    }
}
