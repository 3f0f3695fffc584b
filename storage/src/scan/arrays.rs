//! Columns of a scan as Arrow's arrays, which own their buffers.

use std::sync::Arc;

use arrow_array::builder::make_view;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, StringViewArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};

use super::broken;
use crate::error::{Error, Result};
use crate::rows::{DenseColumn, Presence};
use crate::schema::ColumnId;
use crate::series;
use crate::values::{Strings, Values};

/// Arrow keeps strings of so many bytes in the view itself.
const VIEW_BYTES_INLINE: usize = 12;

fn nulls(presence: &Presence) -> Option<NullBuffer> {
    let bits = presence.bits()?;
    let buffer = Buffer::from_vec(bits.to_vec());
    Some(NullBuffer::new(BooleanBuffer::new(buffer, 0, presence.len())))
}

pub(super) fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

pub(super) fn array(column: &mut DenseColumn) -> Result<ArrayRef> {
    let nulls = nulls(&column.presence);
    let kind = column.values.kind();
    Ok(match std::mem::replace(&mut column.values, Values::new(kind)) {
        Values::I64(values) => primitive::<Int64Type>(values, nulls),
        Values::U64(values) => primitive::<UInt64Type>(values, nulls),
        Values::F64(values) => primitive::<Float64Type>(values, nulls),
        Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
        Values::String(strings) => string_array(strings, nulls)?,
    })
}

fn string_array(strings: Strings, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let views = (0..strings.len()).map(|row| {
        let value = strings.get(row);
        let end = strings.ends.get(row).copied().unwrap_or_default();
        make_view(value, 0, end - value.len() as u32)
    });
    let views: ScalarBuffer<u128> = views.collect::<Vec<_>>().into();
    let buffer = Buffer::from_vec(strings.bytes);
    let array = StringViewArray::try_new(views, vec![buffer], nulls);
    Ok(Arc::new(array.map_err(|error| Error::invalid("string column", error.to_string()))?))
}

/// One tag of each run, repeated: one view per series, 16 bytes a row.
pub(super) fn tag_array(tag: ColumnId, runs: &[(Arc<[u8]>, u32)], rows: usize) -> Result<ArrayRef> {
    let mut views: Vec<u128> = Vec::with_capacity(rows);
    let mut bytes: Vec<u8> = Vec::new();
    let mut presence = Presence::default();
    for (key, count) in runs {
        let count = *count as usize;
        match series::key_tag(key, tag) {
            Some(value) => {
                if std::str::from_utf8(&value).is_err() {
                    return Err(Error::invalid("tag column", "a value is not UTF-8"));
                }
                let offset =
                    u32::try_from(bytes.len()).map_err(|_| Error::invalid("tag column", "it is over 4 GiB"))?;
                if value.len() > VIEW_BYTES_INLINE {
                    bytes.extend_from_slice(&value);
                }
                views.resize(views.len() + count, make_view(&value, 0, offset));
                presence.push_present(count);
            }
            None => {
                views.resize(views.len() + count, 0);
                presence.push_absent(count);
            }
        }
    }
    if views.len() != rows {
        return Err(broken());
    }
    let nulls = nulls(&presence);
    // SAFETY: every view is one that `make_view` made of a value that is UTF-8, short enough to be in the view or in the
    // only buffer at the offset that it names, or the view of an empty string. The bitmap has a bit for each row.
    // A check row by row costs more than the scan.
    let array = unsafe { StringViewArray::new_unchecked(views.into(), vec![Buffer::from_vec(bytes)], nulls) };
    Ok(Arc::new(array))
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;

    const TAG: ColumnId = ColumnId(17);

    fn key(value: &[u8]) -> Arc<[u8]> {
        let mut key = Vec::new();
        series::encode_key([(ColumnId(16), b"other".as_slice()), (TAG, value)], &mut key);
        key.into()
    }

    /// Arrow's own check, which is not run for every batch, finds nothing wrong.
    #[test]
    fn a_tag_is_repeated_for_the_rows_of_its_runs() {
        let long = "ü".repeat(20_000);
        let values = ["", "a", "twelve bytes", "thirteen byte", "with\0zero", &long, "a"];
        let runs: Vec<_> = values.iter().enumerate().map(|(at, value)| (key(value.as_bytes()), at as u32)).collect();
        let rows = (0..values.len()).sum();
        let array = tag_array(TAG, &runs, rows).unwrap();
        array.to_data().validate_full().unwrap();
        let repeated = values.iter().enumerate().flat_map(|(at, value)| std::iter::repeat_n(*value, at));
        let want: StringViewArray = repeated.map(|value| (!value.is_empty()).then_some(value)).collect();
        assert_eq!(array.to_data(), want.to_data());
        let absent = tag_array(TAG, &[(key(b""), 3), (key(b"b"), 70)], 73).unwrap();
        assert_eq!((absent.null_count(), absent.is_null(2), absent.is_null(3)), (3, true, false));
        assert!(tag_array(TAG, &runs, rows + 1).is_err(), "runs cover the rows");
        let damaged = tag_array(TAG, &[(key(b"\xff"), 1)], 1).unwrap();
        assert_eq!(damaged.null_count(), 1, "what is damaged in a key is absent");
    }
}
