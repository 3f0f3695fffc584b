//! Suspects: which rows of a segment may repeat a key of an older one.
//!
//! A reader that knows of no suspects need not compare keys with older segments, and what aggregates a segment knows which
//! rows may count twice. Byte layout: `storage/format/segment.md`.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::schema::ColumnId;

use super::SegmentReader;
use super::footer::SectionKind;

/// Row numbers of one segment.
pub(crate) type RowSet = RoaringBitmap;

/// The bytes of the section. `None`, and a set that does not fit its numbers, is said by no bytes at all.
pub(super) fn encode(rows: Option<&mut RowSet>) -> Vec<u8> {
    let Some(rows) = rows else { return Vec::new() };
    // Of forms of one size the one that a set has depends on how it was made.
    rows.remove_run_compression();
    rows.optimize();
    let mut out = Vec::with_capacity(rows.serialized_size());
    // Writing into memory does not fail.
    if rows.serialize_into(&mut out).is_err() {
        out.clear();
    }
    out
}

/// Never panics: these bytes come from disk.
fn decode(mut bytes: &[u8], rows: u64) -> Result<Option<RowSet>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let set = RowSet::deserialize_from(&mut bytes).map_err(|error| format!("suspects: {error}"))?;
    if !bytes.is_empty() {
        return Err("bytes follow the suspects".to_owned());
    }
    match set.max() {
        Some(last) if rows <= u64::from(last) => Err(format!("row {last} is suspect, there are {rows} rows")),
        _ => Ok(Some(set)),
    }
}

impl SegmentReader {
    /// The rows that may repeat a key of an older segment; `None`: any may. Read each time.
    pub(crate) fn suspects(&self) -> Result<Option<Arc<RowSet>>> {
        let Some(section) = self.footer.section(SectionKind::SUSPECTS, ColumnId(0)) else { return Ok(None) };
        Ok(self.section(section, |bytes| decode(bytes, self.footer.rows))?.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decode_undoes_encode(rows in prop::collection::btree_set(0..200_000_u32, 0..200), range in 0..100_000_u32) {
            let mut set: RowSet = rows.into_iter().collect();
            set.insert_range(50_000..50_000 + range);
            let bytes = encode(Some(&mut set));
            prop_assert_eq!(decode(&bytes, 200_000).unwrap(), Some(set));
        }

        #[test]
        fn bytes_from_outside_are_a_set_of_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(set)) = decode(&bytes, 1000) {
                prop_assert!(set.max().is_none_or(|last| last < 1000));
            }
        }
    }

    #[test]
    fn to_know_none_is_not_to_know_nothing() {
        assert!(encode(None).is_empty());
        let none = encode(Some(&mut RowSet::new()));
        assert_eq!(none, [0x3a, 0x30, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&[], 1).unwrap(), None);
        assert_eq!(decode(&none, 1).unwrap(), Some(RowSet::new()));
    }

    /// Three numbers in a row take as many bytes as a run.
    #[test]
    fn the_bytes_do_not_depend_on_how_rows_were_gathered() {
        for rows in 1..6 {
            let (mut spans, mut ones) = (RowSet::new(), (7..7 + rows).collect::<RowSet>());
            spans.insert_range(7..7 + rows);
            assert_eq!(encode(Some(&mut spans)), encode(Some(&mut ones)), "{rows} rows");
        }
    }

    /// These bytes are on users' disks: a container of numbers, one of a run.
    #[test]
    fn the_bytes_are_pinned() {
        let mut set: RowSet = [1, 5].into_iter().collect();
        set.insert_range(0x1_0000..0x1_1000);
        let want = [
            0x3b, 0x30, 1, 0, 0b10, 0, 0, 1, 0, 1, 0, 0xff,
            0x0f, // cookie, which are runs, keys and counts less one
            1, 0, 5, 0, // numbers
            1, 0, 0, 0, 0xff, 0x0f, // one run: start, length less one
        ];
        assert_eq!(encode(Some(&mut set)), want);
        let reason = decode(&want, 0x1_0fff).unwrap_err();
        assert!(reason.contains("row 69631"), "{reason}");
        assert!(decode(&want[..want.len() - 1], 1 << 20).is_err());
        assert!(decode(&[want.as_slice(), &[0]].concat(), 1 << 20).is_err());
    }
}
