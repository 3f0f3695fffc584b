//! The keys of a draft's series.
//!
//! Each stands behind the id of its table, so that its fingerprint is the hash of bytes as they lie.

use crate::draft::DraftTable;
use crate::error::{Error, Result};
use crate::schema::{ColumnId, ColumnKind, Table};
use crate::series;
use crate::wide::{WIDE, Wide};

/// The keys of the series of one table, in the draft's order.
pub(super) struct DraftKeys {
    /// Ids and keys behind one another.
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
}

/// A value: how long it is, and its bytes with those that happen to lie behind them.
type LongValue<'a> = (usize, &'a [u8]);

impl DraftKeys {
    /// `Err`: a tag is no column, or occurs twice in a series.
    pub(super) fn new(known: &Table, table: &DraftTable) -> Result<Self> {
        let mut tag_ids = Vec::with_capacity(table.tags.len());
        for name in &table.tags {
            let column = known.column(name).filter(|column| column.kind == ColumnKind::Tag);
            tag_ids.push(column.ok_or_else(|| super::missing(name))?.id);
        }
        let series = &table.series;
        let table_id = known.id.0.to_le_bytes();
        let mut bytes = vec![0; series.len() * table_id.len() + series.key_bytes_min() + WIDE];
        let mut keys = Wide::new(&mut bytes);
        let mut ends = Vec::with_capacity(series.len());
        let mut tags: Vec<(ColumnId, LongValue<'_>)> = Vec::new();
        let mut escaped = Vec::new();
        for set in 0..series.len() {
            tags.clear();
            for (tag, length, value) in series.long_tags(set) {
                let id = tag_ids.get(tag as usize);
                let id = id.ok_or_else(|| Error::invalid("draft", "a series names a tag that is not there"))?;
                tags.push((*id, (length, value)));
            }
            sort(&mut tags)?;
            keys.push(&table_id, table_id.len());
            if series.holds_zero(set) {
                escaped.clear();
                let exact =
                    tags.iter().map(|(column, (length, value))| (*column, value.get(..*length).unwrap_or_default()));
                series::encode_key(exact, &mut escaped);
                keys.push(&escaped, escaped.len());
            } else {
                for (column, (length, value)) in &tags {
                    series::push_plain_tag(*column, value, *length, &mut keys);
                }
            }
            ends.push(keys.len());
        }
        let len = keys.len();
        bytes.truncate(len);
        Ok(Self { bytes, ends })
    }

    /// All keys.
    pub(super) fn slices(&self) -> Vec<&[u8]> {
        self.with_table().map(|bytes| bytes.get(series::KEY_TABLE_BYTES..).unwrap_or_default()).collect()
    }

    /// The fingerprints of all keys.
    pub(super) fn fingerprints(&self, seed: u64) -> Vec<u128> {
        self.with_table().map(|bytes| series::fingerprint_with_table(seed, bytes)).collect()
    }

    /// Each key behind the id of its table.
    fn with_table(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let bytes = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            bytes
        })
    }
}

/// Into column-id order. `Err`: a tag occurs twice.
fn sort(tags: &mut [(ColumnId, LongValue<'_>)]) -> Result<()> {
    if tags.is_sorted_by(|first, second| first.0 < second.0) {
        return Ok(());
    }
    tags.sort_unstable_by_key(|(column, _)| *column);
    match tags.windows(2).any(|pair| pair.first().map(|tag| tag.0) == pair.last().map(|tag| tag.0)) {
        true => Err(Error::invalid("series", "a tag occurs twice")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::default_widths;
    use crate::draft::DraftSeries;
    use crate::schema::{Column, DatabaseId, TableId, TableMode};

    /// Tags `a` to `e`, whose ids are `ids`.
    fn table(ids: &[u32]) -> Table {
        let column = |(name, id): (&str, &u32)| Column { id: ColumnId(*id), name: name.into(), kind: ColumnKind::Tag };
        Table {
            id: TableId(258),
            database: DatabaseId(1),
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            columns: ["a", "b", "c", "d", "e"].into_iter().zip(ids).map(column).collect(),
            hidden: Vec::new(),
            widths: default_widths(),
            floor: i64::MIN,
        }
    }

    fn draft(series: DraftSeries) -> DraftTable {
        DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
            series,
            row_series: Vec::new(),
            times: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// Longer and shorter than what is copied at once, some with zeros, some empty.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![30 => 1_u8..=255, 1 => Just(0)], 0..80)
    }

    proptest! {
        #[test]
        fn keys_are_those_of_their_tags(
            ids in Just([16_u32, 17, 18, 300, 70_000]).prop_shuffle(),
            sets in prop::collection::vec(prop::collection::btree_map(0..5_usize, value(), 0..6), 0..6),
        ) {
            let (mut series, mut want) = (DraftSeries::default(), Vec::new());
            for set in &sets {
                for (tag, value) in set {
                    series.push_tag(*tag as u32, value);
                }
                series.finish();
                let tags: BTreeMap<_, _> = set.iter().map(|(tag, value)| (ColumnId(ids[*tag]), value.as_slice())).collect();
                let mut key = Vec::new();
                series::encode_key(tags, &mut key);
                want.push(key);
            }
            let keys = DraftKeys::new(&table(&ids), &draft(series)).unwrap();
            prop_assert_eq!(keys.slices(), want.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let fingerprints: Vec<u128> = want.iter().map(|key| series::fingerprint(7, TableId(258), key)).collect();
            prop_assert_eq!(keys.fingerprints(7), fingerprints);
        }
    }
}
