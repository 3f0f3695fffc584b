//! The end of a segment: what leads to its pages. Each part is written and given free before the next is made.

use super::super::footer::{Footer, Section, SectionKind, Tail};
use super::super::index::encode_pages;
use super::super::keys::KeysWriter;
use super::super::pieces::Pieces;
use super::super::postings::Rare;
use super::super::suspects::{RowSet, encode as encode_suspects};
use super::super::tags::TagWriter;
use super::super::{ALIGNMENT, padding};
use super::{SegmentSummary, SegmentWriter, Sink};
use crate::error::Result;
use crate::schema::ColumnId;

/// Is told what the writer takes of memory before it does.
type Holds<'a> = &'a mut dyn FnMut(usize) -> Result<()>;

/// The blocks and the index of a tag's postings.
type Postings = (Pieces, Vec<u8>);

const NONE: ColumnId = ColumnId(0);

impl<S: Sink + ?Sized> SegmentWriter<'_, S> {
    /// Writes what leads to the pages. Without any stripe the result is a valid segment of no rows.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(self) -> Result<SegmentSummary> {
        self.finish_within(&mut |_| Ok(()))
    }

    /// The same; `holds` is told what the writer takes of memory before it does.
    ///
    /// # Errors
    /// The sink's, and those of `holds`.
    pub(crate) fn finish_within(mut self, holds: Holds<'_>) -> Result<SegmentSummary> {
        let series = self.keys.series();
        self.write_keys(holds)?;
        self.write_tags(series, holds)?;
        let runs = self.write_runs(holds)?;
        self.fields.retain(|_, field| !field.is_absent());
        holds(self.memory_bytes() + self.time.memory_bytes() * (1 + self.fields.len()))?;
        let columns: Vec<_> = std::iter::once(&self.time).chain(self.fields.values()).collect();
        let pages = encode_pages(&self.stripe_pages, &self.page_rows, &columns, &mut self.scratch);
        self.section(SectionKind::PAGES, true, NONE, &pages)?;
        let schema = self.schema();
        self.section(SectionKind::SCHEMA, true, NONE, &schema)?;
        let suspects = self.write_suspects(holds)?;
        let footer = Footer {
            table: self.spec.table,
            partition_start: self.spec.partition_start,
            sequence_min: self.spec.sequence_min,
            sequence_max: self.spec.sequence_max,
            rows: self.rows,
            time_min: self.time_min,
            time_max: self.time_max,
            series,
            runs,
            stripes: self.stripe_pages.len() as u32,
            pages: self.page_rows.len() as u32,
            columns: (self.tags.len() + self.fields.len()) as u32,
            sections: std::mem::take(&mut self.out.sections),
        };
        let bytes = footer.encode(0, 0);
        let tail = Tail::of(&bytes, self.out.bytes);
        self.out.write(&bytes)?;
        self.out.write(&tail.encode())?;
        Ok(SegmentSummary {
            bytes: self.out.bytes,
            hash: self.out.hash.digest128(),
            rows: self.rows,
            time_min: self.time_min,
            time_max: self.time_max,
            series,
            suspects,
        })
    }

    fn write_keys(&mut self, holds: Holds<'_>) -> Result<()> {
        holds(self.memory_bytes() + self.keys.growth(0))?;
        let (keys, index) = std::mem::replace(&mut self.keys, KeysWriter::new(self.spec.encoding)).finish();
        self.section_of(SectionKind::KEYS, true, NONE, keys.iter())?;
        drop(keys);
        holds(self.memory_bytes() + 2 * index.memory_bytes())?;
        self.section(SectionKind::KEY_INDEX, true, NONE, &index.encode())
    }

    /// Tags, then their postings.
    fn write_tags(&mut self, series: u32, holds: Holds<'_>) -> Result<()> {
        self.tags.retain(|_, tag| !tag.is_absent());
        let columns: Vec<ColumnId> = self.tags.keys().copied().collect();
        let mut postings: Vec<(ColumnId, Postings)> = Vec::new();
        for (at, column) in columns.into_iter().enumerate() {
            // An empty one stands for it: the schema has the column.
            let Some(tag) = self.tags.insert(column, TagWriter::new()) else { continue };
            let made: usize =
                postings.iter().map(|(_, (blocks, index))| blocks.memory_bytes() + index.capacity()).sum();
            // The order of keys finds the values of the first.
            if at == 0 || series < self.postings_series_min {
                holds(self.memory_bytes() + made + tag.memory_bytes() + tag.section_bytes(series))?;
                let section = tag.into_section(series, &mut self.scratch);
                self.section_of(SectionKind::TAG, false, column, section.iter())?;
            } else {
                let beside = self.memory_bytes() + made;
                let found = self.write_tag_lists(column, tag, series, &mut |bytes| holds(beside + bytes))?;
                postings.extend(found.map(|found| (column, found)));
            }
        }
        for (column, (blocks, index)) in postings {
            self.section_of(SectionKind::POSTINGS, false, column, blocks.iter())?;
            self.section(SectionKind::POSTINGS_INDEX, false, column, &index)?;
        }
        Ok(())
    }

    /// Writes a tag, and returns its postings: `None` if no value is rare.
    fn write_tag_lists(
        &mut self,
        column: ColumnId,
        tag: TagWriter,
        series: u32,
        holds: Holds<'_>,
    ) -> Result<Option<Postings>> {
        holds(tag.memory_bytes() + tag.lists_bytes(series))?;
        let lists = tag.into_lists(series);
        let section = lists.section(&mut self.scratch);
        self.section_of(SectionKind::TAG, false, column, section.iter())?;
        drop(section);
        let counting = Rare::counting_bytes(lists.values.len());
        holds(lists.memory_bytes() + counting)?;
        let Some(rare) = Rare::of(lists.values.len(), lists.codes()) else { return Ok(None) };
        holds(lists.memory_bytes() + counting + rare.encoding_bytes(&lists.values))?;
        Ok(Some(rare.encode(&lists.values, lists.codes(), self.spec.encoding)))
    }

    /// Returns how many there are.
    fn write_runs(&mut self, holds: Holds<'_>) -> Result<u32> {
        holds(self.memory_bytes() + self.runs.growth())?;
        let count = self.runs.runs() as u32;
        let runs = std::mem::take(&mut self.runs).finish(&mut self.scratch);
        self.section_of(SectionKind::RUNS, true, NONE, runs.iter())?;
        Ok(count)
    }

    /// Returns how many there are, if it is known.
    fn write_suspects(&mut self, holds: Holds<'_>) -> Result<Option<u64>> {
        let mut suspects = self.suspects.take().filter(|_| self.rows <= 1 << 32);
        let last = suspects.as_ref().and_then(RowSet::max);
        assert!(last.is_none_or(|last| u64::from(last) < self.rows), "suspects are rows of the segment");
        holds(self.memory_bytes() + 2 * suspects.as_ref().map_or(0, RowSet::serialized_size))?;
        let bytes = encode_suspects(suspects.as_mut());
        self.section(SectionKind::SUSPECTS, false, NONE, &bytes)?;
        Ok(suspects.map(|rows| rows.len()))
    }

    /// Id, kind and name of the columns that have a value.
    fn schema(&self) -> Vec<u8> {
        let mut columns: Vec<_> = self.spec.columns.iter().collect();
        columns.sort_by_key(|column| column.id);
        columns.retain(|column| self.tags.contains_key(&column.id) || self.fields.contains_key(&column.id));
        let mut out = Vec::new();
        for column in columns {
            out.extend_from_slice(&column.id.0.to_le_bytes());
            out.push(column.kind.code());
            crate::bytes::put_bytes(&mut out, column.name.as_bytes());
        }
        out
    }

    /// Appends a section and pads it.
    pub(in crate::segment) fn section(
        &mut self,
        kind: SectionKind,
        required: bool,
        column: ColumnId,
        bytes: &[u8],
    ) -> Result<()> {
        self.section_of(kind, required, column, std::iter::once(bytes))
    }

    /// The same, of pieces.
    fn section_of<'p>(
        &mut self,
        kind: SectionKind,
        required: bool,
        column: ColumnId,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> Result<()> {
        let (offset, mut crc32) = (self.out.bytes, crc32fast::Hasher::new());
        for piece in pieces {
            crc32.update(piece);
            self.out.write(piece)?;
        }
        let (bytes, crc32) = (self.out.bytes - offset, crc32.finalize());
        self.out.sections.push(Section { kind, required, column, offset, bytes, crc32 });
        let zeros = [0; ALIGNMENT];
        self.out.write(zeros.get(..padding(self.out.bytes)).unwrap_or_default())
    }
}
