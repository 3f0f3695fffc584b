//! Small numbers in few bytes, and bounded reads of bytes from outside.
//!
//! LEB128: seven bits a byte, the lowest first, at most ten bytes. Signed numbers are folded first (zigzag).

/// Folds the sign into the lowest bit, so small numbers of either sign are small.
#[inline(always)]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
#[inline(always)]
pub(crate) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// How many bytes [`put_varint`] writes.
#[inline(always)]
pub(super) fn varint_bytes(value: u64) -> usize {
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Appends a number.
#[inline]
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number.
#[inline]
pub(crate) fn take_varint(input: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for (index, byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return Err("a number does not fit 64 bits");
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *input = input.get(index + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err("a number is cut short")
}

/// Takes `count` bytes.
#[inline]
pub(super) fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], &'static str> {
    let (head, tail) = input.split_at_checked(count).ok_or("the body is cut short")?;
    *input = tail;
    Ok(head)
}

/// Takes one byte.
#[inline]
pub(super) fn take_u8(input: &mut &[u8]) -> Result<u8, &'static str> {
    let (head, tail) = input.split_first().ok_or("the body is cut short")?;
    *input = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_as_many_bytes_as_announced() {
        for shift in 0..64 {
            for near in [-1i64, 0, 1] {
                let value = (1u64 << shift).wrapping_add(near as u64);
                let mut out = Vec::new();
                put_varint(value, &mut out);
                assert_eq!(out.len(), varint_bytes(value), "{value}");
                let mut input = out.as_slice();
                assert_eq!(take_varint(&mut input), Ok(value));
                assert!(input.is_empty());
                assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
            }
        }
    }

    #[test]
    fn broken_numbers_are_refused() {
        for bytes in
            [&[][..], &[0x80], &[0xff; 9], &[0xff; 10], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]]
        {
            assert!(take_varint(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
