//! Which series have tags of some values: by key order, by postings, and by the tag's column.
//!
//! Keys are sorted by the tag of the least id first, so its values are ranges of series. Other tags have postings where a
//! value is rare. The column answers the rest, and what damaged postings no longer say: they only repeat it.

use std::ops::Range;

use crate::error::Result;
use crate::schema::ColumnId;
use crate::series::{key_tag, push_tag};

use super::footer::{Section, SectionKind};
use super::keys::KeyIndex;
use super::postings::{Posting, PostingsBlock, decode_index};
use super::reader::KeyBlockHeld;
use super::{POSTINGS_SERIES_MIN, SegmentReader};

/// For more values than this the column is read: each costs a block.
const LOOKUPS_MAX: usize = 32;
/// For so many series at most their keys are read instead of the column of a further tag.
const KEYS_MAX: usize = 16;

/// A tag, and what it may be; `None` stands for an absent tag.
pub type TagValues<'a> = (ColumnId, Vec<Option<&'a str>>);

impl SegmentReader {
    /// The series whose tag equals one of the values (`None` = absent), ascending.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] at the keys or column that break a rule; [`crate::Error::Io`].
    pub fn series_matching(&self, column: ColumnId, values: &[Option<&str>]) -> Result<Vec<u32>> {
        match self.by_index(column, values)? {
            Some(found) => Ok(found),
            None => self.by_column(column, values),
        }
    }

    fn by_column(&self, column: ColumnId, values: &[Option<&str>]) -> Result<Vec<u32>> {
        Ok(match self.tag(column)? {
            Some(tag) => tag.matching(values),
            None if values.contains(&None) => (0..self.footer.series).collect(),
            None => Vec::new(),
        })
    }

    /// The series that match all filters, ascending; `None` if there is no filter. An index is asked before a column, and a
    /// column only if many series are left.
    ///
    /// # Errors
    /// As [`SegmentReader::series_matching`].
    pub fn series_matching_all(&self, filters: &[TagValues<'_>]) -> Result<Option<Vec<u32>>> {
        let (mut picked, mut rest): (Option<Vec<u32>>, _) = (None, Vec::new());
        for (column, values) in filters {
            match self.by_index(*column, values)? {
                Some(found) => picked = Some(intersection(picked, found)),
                None => rest.push((*column, values.as_slice())),
            }
        }
        for (column, values) in rest {
            picked = Some(match picked {
                None => self.by_column(column, values)?,
                Some(found) => self.keep_matching(found, column, values)?,
            });
        }
        Ok(picked)
    }

    /// Those of `picked` whose tag equals one of the values.
    fn keep_matching(&self, mut picked: Vec<u32>, column: ColumnId, values: &[Option<&str>]) -> Result<Vec<u32>> {
        if picked.len() <= KEYS_MAX && POSTINGS_SERIES_MIN <= self.footer.series {
            let (mut keys, mut kept) = (self.keys(), Vec::with_capacity(picked.len()));
            for series in picked {
                let tag = key_tag(keys.key(series)?, column);
                if values.iter().any(|value| value.map(str::as_bytes) == tag.as_deref()) {
                    kept.push(series);
                }
            }
            return Ok(kept);
        }
        match self.tag(column)? {
            Some(tag) => tag.keep_matching(&mut picked, values),
            None if values.contains(&None) => {}
            None => picked.clear(),
        }
        Ok(picked)
    }

    /// `None`: only the column says.
    fn by_index(&self, column: ColumnId, values: &[Option<&str>]) -> Result<Option<Vec<u32>>> {
        if LOOKUPS_MAX < values.len() {
            return Ok(None);
        }
        if POSTINGS_SERIES_MIN <= self.footer.series && self.tags.first().is_some_and(|(first, ..)| *first == column) {
            return self.by_order(column, values).map(Some);
        }
        match self.by_postings(column, values) {
            Err(error) if error.is_damage() => {
                self.note_damaged_postings(&error);
                Ok(None)
            }
            said => said,
        }
    }

    /// By the order of keys, for the tag of the least id.
    pub(super) fn by_order(&self, column: ColumnId, values: &[Option<&str>]) -> Result<Vec<u32>> {
        let mut held = None;
        let mut ranges = Vec::with_capacity(values.len());
        for value in values {
            ranges.push(self.range_of(column, value.map(str::as_bytes), &mut held)?);
        }
        ranges.sort_unstable_by_key(|range| range.start);
        // The same value asked twice is the same range.
        ranges.dedup();
        Ok(ranges.into_iter().flatten().collect())
    }

    fn range_of(&self, column: ColumnId, value: Option<&[u8]>, held: &mut KeyBlockHeld) -> Result<Range<u32>> {
        let mut key = (!column.0).to_be_bytes().to_vec();
        match value {
            None => return Ok(0..self.lower_bound_near(&key, held)?),
            Some([]) => return Ok(0..0),
            Some(value) => {
                key.clear();
                push_tag(column, value, &mut key);
            }
        }
        let start = self.lower_bound_near(&key, held)?;
        // All keys of the value begin with these bytes, which end with a zero.
        if let Some(last) = key.last_mut() {
            *last = 1;
        }
        Ok(start..self.lower_bound_near(&key, held)?)
    }

    /// The first series whose key is not below `key`.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> Result<u32> {
        self.lower_bound_near(key, &mut None)
    }

    fn lower_bound_near(&self, key: &[u8], held: &mut KeyBlockHeld) -> Result<u32> {
        let Some(block) = self.key_index.block_of_key(key) else { return Ok(0) };
        let (first, keys) = self.key_block_near(block, held, &mut || {})?;
        Ok(first + keys.lower_bound(key) as u32)
    }

    /// By the postings of a tag; `None` if it has none, or if they do not say.
    pub(super) fn by_postings(&self, column: ColumnId, values: &[Option<&str>]) -> Result<Option<Vec<u32>>> {
        if values.contains(&None) {
            return Ok(None);
        }
        let Some((section, index)) = self.postings(column)? else { return Ok(None) };
        let mut values: Vec<&[u8]> = values.iter().flatten().map(|value| value.as_bytes()).collect();
        values.sort_unstable();
        values.dedup();
        let (mut found, mut held): (_, Option<(usize, PostingsBlock)>) = (Vec::new(), None);
        for value in values {
            let Some(at) = index.block_of_key(value) else { continue };
            let block = match held.take().filter(|(held, _)| *held == at) {
                Some((_, block)) => block,
                None => self.postings_block(&section, &index, at)?,
            };
            match block.find(value) {
                None => {}
                Some(Posting::Rare(series)) => found.extend_from_slice(series),
                Some(Posting::Frequent) => return Ok(None),
            }
            held = Some((at, block));
        }
        // A series has one value.
        found.sort_unstable();
        match found.is_sorted_by(|series, next| series < next) {
            true => Ok(Some(found)),
            false => Err(self.corrupt(section.offset, "a series has two values of a tag")),
        }
    }

    /// The section of blocks and its index.
    pub(super) fn postings(&self, column: ColumnId) -> Result<Option<(Section, KeyIndex)>> {
        let Some(index) = self.footer.section(SectionKind::POSTINGS_INDEX, column) else { return Ok(None) };
        let blocks = self.footer.section(SectionKind::POSTINGS, column);
        let blocks = *blocks.ok_or_else(|| self.corrupt(index.offset, "an index of postings has no postings"))?;
        let index = self.section(index, |bytes| decode_index(bytes, self.footer.series, blocks.bytes))?;
        Ok(Some((blocks, index)))
    }

    pub(super) fn postings_block(&self, section: &Section, index: &KeyIndex, at: usize) -> Result<PostingsBlock> {
        let (offset, bytes) = index.blocks.get(at).map_or((0, 0), |block| (block.offset, block.bytes));
        let offset = section.offset + offset;
        let mut stored = vec![0; bytes as usize];
        self.read_into(offset, &mut stored)?;
        let block = PostingsBlock::decode(index, at, &stored, self.footer.series);
        block.map_err(|reason| self.corrupt(offset, reason))
    }
}

/// Of ascending numbers.
fn intersection(before: Option<Vec<u32>>, mut found: Vec<u32>) -> Vec<u32> {
    if let Some(before) = before {
        found.retain(|series| before.binary_search(series).is_ok());
    }
    found
}
