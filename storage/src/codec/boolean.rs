//! Bits: booleans, and the presence of rows.

/// Appends one bit per value, the lowest first.
pub(super) fn encode_bools(values: &[bool], out: &mut Vec<u8>) {
    out.extend(
        values
            .chunks(8)
            .map(|values| values.iter().enumerate().fold(0, |byte, (index, value)| byte | u8::from(*value) << index)),
    );
}

/// Decodes `out.len()` values.
pub(super) fn decode_bools(input: &[u8], out: &mut [bool]) -> Result<(), &'static str> {
    if input.len() != out.len().div_ceil(8) {
        return Err("a bitmap has another length than its page");
    }
    if let Some(last) = input.last().filter(|_| !out.len().is_multiple_of(8))
        && last >> (out.len() % 8) != 0
    {
        return Err("a bitmap has bits behind its end");
    }
    for (values, byte) in out.chunks_mut(8).zip(input) {
        for (index, value) in values.iter_mut().enumerate() {
            *value = byte >> index & 1 == 1;
        }
    }
    Ok(())
}

/// How many of the first `rows` bits are set; `None` if there are bits behind them, or another number of words.
pub(super) fn count_present(presence: &[u64], rows: usize) -> Option<usize> {
    if presence.len() != rows.div_ceil(64) {
        return None;
    }
    let behind = presence.last().filter(|_| !rows.is_multiple_of(64)).map_or(0, |last| last >> (rows % 64));
    (behind == 0).then(|| presence.iter().map(|word| word.count_ones() as usize).sum())
}

/// Moves packed values to their rows; absent rows get `absent`. `values` holds the present ones, in order.
pub(super) fn spread<T: Copy>(values: &mut Vec<T>, presence: &[u64], rows: usize, absent: T) {
    let mut from = values.len();
    values.resize(rows, absent);
    for row in (0..rows).rev() {
        if from == row + 1 {
            break; // All rows up to here are present, and in place.
        }
        if presence[row / 64] >> (row % 64) & 1 == 1 {
            from -= 1;
            values[row] = values[from];
        } else {
            values[row] = absent;
        }
    }
}
