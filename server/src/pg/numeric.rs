//! `numeric` on the wire: digits of base 10,000.

use std::fmt::Write as _;

const BASE: u128 = 10_000;
const POSITIVE: u16 = 0;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// A whole number with so many decimal digits behind the point.
pub(super) fn write(out: &mut Vec<u8>, value: i128, scale: i8) {
    let mut rest = value.unsigned_abs();
    let digits_behind = u32::from(scale.max(0).unsigned_abs());
    // Groups of four begin at the point, so the last one is filled up.
    let missing = (4 - digits_behind % 4) % 4;
    let mut groups = Vec::new();
    if 0 < digits_behind && 0 < missing {
        let unit = 10_u128.pow(4 - missing);
        groups.push((rest % unit * 10_u128.pow(missing)) as u16);
        rest /= unit;
    }
    if scale < 0 {
        let power = u32::from(scale.unsigned_abs());
        rest = rest.saturating_mul(10_u128.saturating_pow(power));
    }
    while 0 < rest {
        groups.push((rest % BASE) as u16);
        rest /= BASE;
    }
    let behind = digits_behind.div_ceil(4) as usize;
    while groups.len() < behind {
        groups.push(0);
    }
    let weight = groups.len() as i32 - behind as i32 - 1;
    groups.reverse();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups.iter().skip(leading).rev().take_while(|group| **group == 0).count();
    let shown = groups.get(leading..groups.len() - trailing).unwrap_or_default();
    let weight = if shown.is_empty() { 0 } else { weight - leading as i32 };
    out.extend_from_slice(&(shown.len() as u16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&(if value < 0 { NEGATIVE } else { POSITIVE }).to_be_bytes());
    out.extend_from_slice(&(digits_behind as u16).to_be_bytes());
    shown.iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
}

/// As text; `None`: these bytes are no number.
pub(super) fn read(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| bytes.get(2 * at..2 * at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, usize::from(word(3)?));
    match sign {
        NAN => return Some("NaN".to_owned()),
        INFINITY => return Some("Infinity".to_owned()),
        MINUS_INFINITY => return Some("-Infinity".to_owned()),
        POSITIVE | NEGATIVE => {}
        _ => return None,
    }
    let count = usize::from(count);
    if bytes.len() != 8 + 2 * count || 16_384 < scale {
        return None;
    }
    let group = |place: i32| {
        let at = i32::from(weight) - place;
        usize::try_from(at).ok().filter(|at| *at < count).map_or(Some(0), |at| word(4 + at))
    };
    let mut text = String::from(if sign == NEGATIVE { "-" } else { "" });
    let mut whole = String::new();
    for place in (0..=i32::from(weight)).rev() {
        let _ = write!(whole, "{:04}", group(place)?);
    }
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if 0 < scale {
        let mut behind = String::new();
        for place in 1..=scale.div_ceil(4) {
            let _ = write!(behind, "{:04}", group(-(place as i32))?);
        }
        text.push('.');
        text.push_str(behind.get(..scale).unwrap_or(&behind));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(value: i128, scale: i8) -> Vec<u16> {
        let mut out = Vec::new();
        write(&mut out, value, scale);
        out.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// As PostgreSQL 15 sends them.
    #[test]
    fn numbers_are_sent_as_postgresql_does() {
        assert_eq!(words(0, 0), [0, 0, 0, 0]);
        assert_eq!(words(1, 0), [1, 0, 0, 0, 1]);
        assert_eq!(words(10_000, 0), [1, 1, 0, 0, 1]);
        assert_eq!(words(-12_345_678, 0), [2, 1, 0x4000, 0, 1234, 5678]);
        assert_eq!(words(i128::from(u64::MAX), 0), [5, 4, 0, 0, 1844, 6744, 737, 955, 1615]);
        assert_eq!(words(15, 1), [2, 0, 0, 1, 1, 5000]);
        assert_eq!(words(5, 2), [1, 0xffff, 0, 2, 500]);
        assert_eq!(words(1, 5), [1, 0xfffe, 0, 5, 1000]);
        assert_eq!(words(12, -2), [1, 0, 0, 0, 1200]);
    }

    #[test]
    fn what_is_sent_is_read() {
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (i128::from(u64::MAX), 0, "18446744073709551615"),
            (-5, 2, "-0.05"),
            (1, 5, "0.00001"),
            (1_234_567_891, 3, "1234567.891"),
            (10_000, 0, "10000"),
            (10_000, 4, "1.0000"),
        ] {
            let mut out = Vec::new();
            write(&mut out, value, scale);
            assert_eq!(read(&out).as_deref(), Some(text));
        }
        assert_eq!(read(&[0, 0, 0, 0, 0xC0, 0, 0, 0]).as_deref(), Some("NaN"));
        for bytes in [&[][..], &[0, 9, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0x12, 0, 0, 0]] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
