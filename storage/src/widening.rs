//! Whether a field of integers can be read as one of doubles: each value that is stored must be within ±2⁵³.
//!
//! Of segments the page index says it, nothing is decoded; what memtables hold is looked at. Values that were overwritten
//! count until a merge has taken them away. A segment that was found fit is not looked at again, so that a second look,
//! while writers wait, costs only what came in between.

use std::collections::BTreeSet;

use crate::applier::Published;
use crate::error::{Error, Result};
use crate::manifest::SegmentId;
use crate::placement::Segment;
use crate::schema::{Column, FieldType, Table};
use crate::values::Values;

/// Up to here every integer is a double.
const EXACT_MAX: i128 = 1 << 53;

/// What was looked at so far.
#[derive(Debug, Default)]
pub(crate) struct Widening {
    fit: BTreeSet<SegmentId>,
}

impl Widening {
    /// `Err` names a value that stands against it, and where it is.
    pub(crate) fn check(&mut self, published: &Published, table: &Table, column: &Column) -> Result<()> {
        let refused = |(value, place): (i128, String)| Error::Inexact {
            table: table.name.clone(),
            column: column.name.clone(),
            stored: column.kind.name(),
            reason: format!("{value} in {place} is beyond ±2⁵³, where doubles skip integers"),
        };
        for segment in published.placement.partitions(table.id).into_iter().flat_map(|starts| starts.values()).flatten()
        {
            if self.fit.contains(&segment.entry.id()) {
                continue;
            }
            if let Some(value) = beyond_in_segment(segment, column)? {
                return Err(refused((value, segment.path.display().to_string())));
            }
            self.fit.insert(segment.entry.id());
        }
        for memtable in published.memtables.iter().filter_map(|memtables| memtables.table(table.id)) {
            for partition in memtable.partitions().values() {
                for (chunk, _) in partition.visible(published.sequence) {
                    let fields = chunk.fields.iter().filter(|field| field.column == column.id);
                    if let Some(value) = fields.filter_map(|field| beyond(&field.values)).next() {
                        return Err(refused((value, "memory".to_owned())));
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_beyond(value: &i128) -> bool {
    !(-EXACT_MAX..=EXACT_MAX).contains(value)
}

fn beyond(values: &Values) -> Option<i128> {
    match values {
        Values::I64(values) => values.iter().map(|value| i128::from(*value)).find(is_beyond),
        Values::U64(values) => values.iter().map(|value| i128::from(*value)).find(is_beyond),
        _ => None,
    }
}

fn beyond_in_segment(segment: &Segment, column: &Column) -> Result<Option<i128>> {
    let reader = segment.reader()?;
    let value = |bits: u64| match reader.field(column.id) {
        Some(FieldType::I64) => i128::from(bits as i64),
        Some(FieldType::U64) => i128::from(bits),
        _ => 0,
    };
    let pages = (0..reader.pages().len()).filter_map(|page| reader.column_page(column.id, page));
    let mut bounds = pages.flat_map(|page| page.stats.min.into_iter().chain(page.stats.max)).map(value);
    Ok(bounds.find(is_beyond))
}
