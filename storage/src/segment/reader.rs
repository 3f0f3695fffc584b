//! Reads one segment: directories once at open, everything else when it is asked for.
//!
//! Every read copies bytes into a private buffer, verifies them and decodes them, each time: a page that was whole
//! yesterday may have rotted since. What is held are decoded directories; tag columns are kept after their first use, as
//! long as there is room ([`crate::directories`]); and pages that scans came back for ([`crate::page_cache`]).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::codec::{NarrowPage, NarrowScratch, PAGE_ROWS_MAX, PageBuf, decode_page, page_bytes};
use crate::directories::{Directories, Held, Slot};
use crate::disk::File;
use crate::error::{Error, Result};
use crate::page_cache::{KeptPage, PageKey};
use crate::priority::give_way;
use crate::schema::{Column, ColumnId, ColumnKind, FieldType};
use crate::values::Values;

use super::footer::{Footer, Section, SectionKind, Tail};
use super::index::{ColumnPage, PageIndex, PageRange, PagesExpected, StripeRange, page_crc32};
use super::keys::{BlockKeys, KeyCursor, KeyIndex};
use super::open::{OpenBytes, decode_schema, read, read_exact};
use super::run::{DECODED_RUNS_MAX, HeldRuns, RunDirectory, RunRange, RunsExpected};
use super::tags::TagColumn;

/// What an open reads at once: usually all directories.
const OPEN_BYTES: u64 = 64 * 1024;

/// A block of keys and its number, and the number of its first series.
pub(crate) type KeyBlockHeld = Option<(usize, u32, BlockKeys)>;

/// What was read since the segment was opened.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// Column pages.
    pub pages: AtomicU64,
    /// Bytes of column pages, key blocks and tag columns.
    pub bytes: AtomicU64,
}

/// One segment of a file.
pub struct SegmentReader {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) footer: Footer,
    columns: Vec<Column>,
    /// Field ids in the order of the page index, where time is in front of them.
    pub(super) fields: Vec<(ColumnId, FieldType)>,
    pub(super) tags: Vec<(ColumnId, Section, Arc<Slot<TagColumn>>)>,
    pub(super) keys: Section,
    pub(super) key_index: KeyIndex,
    pub(super) runs: RunDirectory,
    pub(super) index: PageIndex,
    counters: ReadCounters,
    /// Damage of its postings was logged.
    has_told: AtomicBool,
    directories: Arc<Directories>,
    /// Its own, among all readers.
    number: u64,
}

impl SegmentReader {
    /// Opens the segment that lies in `file`, whose name is `path`, from byte `offset` on and is `bytes` long.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Unsupported`] as soon as a directory breaks a rule; [`Error::Io`].
    pub fn open(file: Arc<dyn File>, path: &Path, offset: u64, bytes: u64) -> Result<Self> {
        Self::open_within(file, path, offset, bytes, &Directories::unlimited()).map(Held::into_value)
    }

    /// The same, if there is room for what it reads.
    pub(crate) fn open_within(
        file: Arc<dyn File>,
        path: &Path,
        offset: u64,
        bytes: u64,
        directories: &Arc<Directories>,
    ) -> Result<Held<Self>> {
        let input = OpenBytes::read(file.as_ref(), path, offset, bytes, OPEN_BYTES)?;
        let footer = input.footer(bytes)?;
        let decoding_bytes = footer.decoding_bytes().saturating_add(input.end.len() as u64);
        let charge = directories.admit("directory of a segment", decoding_bytes)?;
        let columns = input.section(&footer, SectionKind::SCHEMA, |bytes| decode_schema(bytes, footer.columns))?;
        let fields: Vec<_> = columns
            .iter()
            .filter_map(|column| match column.kind {
                ColumnKind::Field(kind) => Some((column.id, kind)),
                _ => None,
            })
            .collect();
        let kinds: Vec<_> = std::iter::once(FieldType::I64).chain(fields.iter().map(|(_, kind)| *kind)).collect();
        let expected = PagesExpected {
            stripes: footer.stripes,
            pages: footer.pages,
            rows: footer.rows,
            data_bytes: footer.data_bytes(),
            kinds: &kinds,
        };
        let index = input.section(&footer, SectionKind::PAGES, |bytes| PageIndex::decode(bytes, &expected))?;
        let runs = input.section(&footer, SectionKind::RUNS, |bytes| {
            if footer.rows < u64::from(footer.runs) {
                return Err("there are more runs than rows".to_owned());
            }
            let stripe_rows: Vec<_> = index.stripes.iter().map(|stripe| stripe.rows).collect();
            let (runs, series, times) = (footer.runs, footer.series, (footer.time_min, footer.time_max));
            let expected = RunsExpected { runs, series, stripe_rows: &stripe_rows, times };
            RunDirectory::decode(bytes, &expected, DECODED_RUNS_MAX)
        })?;
        let keys = *input.find(&footer, SectionKind::KEYS, ColumnId(0))?;
        let key_index = input
            .section(&footer, SectionKind::KEY_INDEX, |bytes| KeyIndex::decode(bytes, footer.series, keys.bytes))?;
        let tags = columns
            .iter()
            .filter(|column| column.kind == ColumnKind::Tag)
            .map(|column| Ok((column.id, *input.find(&footer, SectionKind::TAG, column.id)?, Arc::default())))
            .collect::<Result<Vec<_>>>()?;
        let path = path.to_owned();
        let (counters, number) = (ReadCounters::default(), directories.pages().number());
        let reader = Self {
            file,
            path,
            offset,
            bytes,
            footer,
            columns,
            fields,
            tags,
            keys,
            key_index,
            runs,
            index,
            counters,
            has_told: AtomicBool::new(false),
            directories: Arc::clone(directories),
            number,
        };
        charge.resize(reader.memory_bytes() as u64);
        Ok(Held::new(reader, charge))
    }

    /// Where the segment that ends at byte `end` of a file begins: a file can be walked from its end to its head.
    pub fn start_before(file: &dyn File, path: &Path, end: u64) -> Result<u64> {
        let tail =
            end.checked_sub(Tail::BYTES as u64).ok_or_else(|| Error::corrupt(path, 0, "no segment ends here"))?;
        let bytes = read(file, path, 0, tail..end)?;
        let decoded = bytes.first_chunk().ok_or_else(|| "no segment ends here".into()).and_then(Tail::decode);
        let decoded = decoded.map_err(|refusal| refusal.at(path, tail))?;
        end.checked_sub(decoded.segment_bytes)
            .ok_or_else(|| Error::corrupt(path, tail, "the segment is longer than its file"))
    }

    /// The file's path, relative to the data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the segment begins in its file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Table, ranges, counts and sections.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Tags and fields that have a value in the segment, ascending by id, named as of the writing.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The type that a field has here; `None`: absent in all rows.
    pub fn field(&self, column: ColumnId) -> Option<FieldType> {
        self.fields.iter().find(|(id, _)| *id == column).map(|(_, kind)| *kind)
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.footer.rows
    }

    /// How many different series.
    pub fn series_count(&self) -> u32 {
        self.footer.series
    }

    /// Stripes in row order.
    pub fn stripes(&self) -> &[StripeRange] {
        &self.index.stripes
    }

    /// Runs in row order.
    pub fn runs(&self) -> impl Iterator<Item = RunRange> + '_ {
        let mut held = HeldRuns::default();
        (0..self.runs.count()).filter_map(move |number| self.runs.get(number, &mut held))
    }

    /// The runs of a series, one for each stripe that it has rows in; empty if there is no such series. `held` is the block
    /// that was read last of this segment.
    pub(crate) fn runs_of<'a>(&'a self, series: u32, held: &'a mut HeldRuns) -> impl Iterator<Item = RunRange> + 'a {
        self.runs.of_series(series).filter_map(move |number| self.runs.get(number, held))
    }

    /// The rows of a series, and its first and last time: as [`SegmentReader::runs_of`], which are contiguous.
    pub(crate) fn span_of(&self, series: u32, held: &mut HeldRuns) -> Option<(i64, i64, Range<u64>)> {
        let runs = self.runs.of_series(series);
        let first = self.runs.get(runs.start, held).filter(|_| !runs.is_empty())?;
        let last = if runs.len() == 1 { first } else { self.runs.get(runs.end - 1, held)? };
        Some((first.time_min, last.time_max, first.first_row..last.first_row + u64::from(last.rows)))
    }

    /// The row that a series begins with; all rows if there is no such series.
    pub(crate) fn first_row_of(&self, series: u32, held: &mut HeldRuns) -> u64 {
        let runs = self.runs.of_series(series);
        let first = (series > 0 && !runs.is_empty()).then(|| self.runs.get(runs.start, held));
        match first.flatten() {
            Some(run) => run.first_row,
            None if series == 0 => 0,
            None => self.footer.rows,
        }
    }

    /// The series that has a row.
    pub(crate) fn series_of_row(&self, row: u64) -> Option<u32> {
        self.runs.series_of_row(row)
    }

    /// What a [`HeldRuns`] of this segment takes, at most.
    pub(crate) fn held_runs_bytes(&self) -> usize {
        self.runs.held_bytes()
    }

    /// The rows that page *i* of each column covers.
    pub fn pages(&self) -> &[PageRange] {
        &self.index.pages
    }

    /// Which page holds a row.
    pub fn page_of_row(&self, row: u64) -> usize {
        self.index.pages.partition_point(|page| page.first_row <= row).saturating_sub(1)
    }

    /// Place, presence and bounds of a page. `None` if the segment does not have the column, or no such page: all rows
    /// are absent.
    pub fn column_page(&self, column: ColumnId, page: usize) -> Option<&ColumnPage> {
        self.column(column).and_then(|(_, pages)| pages.get(page))
    }

    fn column(&self, column: ColumnId) -> Option<(FieldType, &[ColumnPage])> {
        let (index, kind) = if column == ColumnId::TIME {
            (0, FieldType::I64)
        } else {
            let at = self.fields.binary_search_by_key(&column, |(id, _)| *id).ok()?;
            (at + 1, self.fields.get(at)?.1)
        };
        Some((kind, self.index.columns.get(index)?))
    }

    /// Reads, verifies and decodes one page of time or of a field that the segment has; `scratch` is a buffer to use
    /// again. A page without values is not read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] at the page's offset; `target` then holds anything.
    ///
    /// # Panics
    /// If there is no such column or page.
    pub fn read_page(&self, column: ColumnId, page: usize, scratch: &mut Vec<u8>, target: &mut PageBuf) -> Result<()> {
        let found = self.column(column).and_then(|(kind, pages)| Some((kind, pages.get(page)?)));
        assert!(found.is_some(), "column {} has a page {page}", column.0);
        let Some((kind, page)) = found else { return Ok(()) };
        give_way();
        if page.bytes == 0 {
            absent_page(kind, page.stats.rows as usize, target);
            return Ok(());
        }
        scratch.clear();
        scratch.resize(page.bytes as usize, 0);
        self.read_into(page.offset, scratch)?;
        self.counters.pages.fetch_add(1, Ordering::Relaxed);
        check_page(kind, page, scratch, target).map_err(|reason| self.corrupt(page.offset, reason))
    }

    fn page_key(&self, column: ColumnId, page: usize) -> PageKey {
        PageKey { reader: self.number, column: column.0, page: page as u32 }
    }

    /// The page if it is kept.
    pub(crate) fn kept_page(&self, column: ColumnId, page: usize) -> Option<KeptPage> {
        give_way();
        self.directories.pages().get(self.page_key(column, page))
    }

    /// A scan has read the page and decoded it: it is kept if that was not for the first time.
    pub(crate) fn note_page(&self, column: ColumnId, page: usize, decoded: &PageBuf, scratch: &mut NarrowScratch) {
        let (pages, key) = (self.directories.pages(), self.page_key(column, page));
        if pages.note(key)
            && let Some(narrow) = NarrowPage::of(decoded, scratch)
        {
            pages.keep(key, narrow);
        }
    }

    /// A cursor over series keys.
    pub fn keys(&self) -> KeyCursor<'_> {
        KeyCursor::new(self)
    }

    /// The key of a series. Panics if the segment has no such series.
    pub fn key(&self, series: u32) -> Result<Vec<u8>> {
        Ok(self.keys().key(series)?.to_vec())
    }

    /// The number of the series with this key.
    pub fn find_series(&self, key: &[u8]) -> Result<Option<u32>> {
        let Some(block) = self.key_index.block_of_key(key) else { return Ok(None) };
        let (first, keys) = self.key_block(block)?;
        Ok(keys.find(key).map(|index| first + index as u32))
    }

    /// As [`SegmentReader::find_series`], for keys that mostly ascend: `held` is the block that was read last. `reads` is
    /// called before another one is read.
    pub(crate) fn find_series_near(
        &self,
        key: &[u8],
        held: &mut KeyBlockHeld,
        reads: &mut dyn FnMut(),
    ) -> Result<Option<u32>> {
        let Some(block) = self.key_index.block_of_key(key) else { return Ok(None) };
        let (first, keys) = self.key_block_near(block, held, reads)?;
        Ok(keys.find(key).map(|index| first + index as u32))
    }

    /// A block, read unless it is the one that is held; `reads` is called before it is.
    pub(super) fn key_block_near<'a>(
        &self,
        block: usize,
        held: &'a mut KeyBlockHeld,
        reads: &mut dyn FnMut(),
    ) -> Result<(u32, &'a BlockKeys)> {
        let known = held.take().filter(|(known, ..)| *known == block);
        let (_, first, keys) = match known {
            Some(known) => held.insert(known),
            None => {
                reads();
                let (first, keys) = self.key_block(block)?;
                held.insert((block, first, keys))
            }
        };
        Ok((*first, keys))
    }

    pub(crate) fn key_block_of(&self, series: u32) -> Result<(u32, BlockKeys)> {
        let block = self.key_index.block_of_series(series);
        assert!(block.is_some(), "the segment has a series {series}");
        self.key_block(block.unwrap_or_default())
    }

    fn key_block(&self, block: usize) -> Result<(u32, BlockKeys)> {
        let Some(found) = self.key_index.blocks.get(block) else { return Ok(Default::default()) };
        let offset = self.keys.offset + found.offset;
        let mut stored = vec![0; found.bytes as usize];
        self.read_into(offset, &mut stored)?;
        let keys = self.key_index.unpack(block, &stored).map_err(|reason| self.corrupt(offset, reason))?;
        Ok((found.first_series, keys))
    }

    /// Values and codes of a tag; `None` if no series has it.
    pub(crate) fn tag(&self, column: ColumnId) -> Result<Option<Arc<Held<TagColumn>>>> {
        let Some((_, section, slot)) = self.tags.iter().find(|(id, ..)| *id == column) else { return Ok(None) };
        self.directories.get(slot, || self.read_tag(section)).map(Some)
    }

    fn read_tag(&self, section: &Section) -> Result<Held<TagColumn>> {
        let bytes_max = TagColumn::decoding_bytes(section.bytes, self.footer.series);
        let charge = self.directories.admit("tag column of a segment", bytes_max)?;
        let tag = self.section(section, |bytes| TagColumn::decode(bytes, self.footer.series))?;
        charge.resize(tag.memory_bytes() as u64);
        Ok(Held::new(tag, charge))
    }

    /// The column of the tag answers in their place. Logged once as long as the directory is kept, counted each time.
    pub(super) fn note_damaged_postings(&self, error: &Error) {
        self.directories.note_damaged_postings();
        if !self.has_told.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "postings are damaged: the columns of tags are read in their place");
        }
    }

    /// What was read so far.
    pub fn counters(&self) -> &ReadCounters {
        &self.counters
    }

    /// What the decoded directories take in memory, without tag columns.
    pub fn memory_bytes(&self) -> usize {
        let runs = self.runs.memory_bytes();
        let names: usize = self.columns.iter().map(|column| size_of::<Column>() + column.name.len() + 16).sum();
        let sections = self.footer.sections.len() * size_of::<Section>();
        let tags = self.tags.len() * (size_of::<Slot<TagColumn>>() + 48);
        size_of::<Self>()
            + self.path.as_os_str().len()
            + self.index.memory_bytes()
            + self.key_index.memory_bytes()
            + runs
            + names
            + sections
            + tags
    }

    /// Reads a section whole, against its checksum.
    pub(super) fn section<T>(&self, section: &Section, decode: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T> {
        let mut bytes = vec![0; section.bytes as usize];
        self.read_into(section.offset, &mut bytes)?;
        let decoded = match crc32fast::hash(&bytes) == section.crc32 {
            true => decode(&bytes),
            false => Err(section.mismatch()),
        };
        decoded.map_err(|reason| self.corrupt(section.offset, reason))
    }

    pub(super) fn read_into(&self, offset: u64, target: &mut [u8]) -> Result<()> {
        read_exact(self.file.as_ref(), &self.path, self.offset + offset, target)?;
        self.counters.bytes.fetch_add(target.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn corrupt(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::corrupt(&self.path, self.offset + offset, reason)
    }
}

/// Decodes a page and compares it with what the index says of it.
fn check_page(kind: FieldType, page: &ColumnPage, bytes: &[u8], target: &mut PageBuf) -> Result<(), String> {
    if page_crc32(bytes) != page.crc32 {
        return Err("the page is not the one that belongs here".to_owned());
    }
    if page_bytes(bytes)? != bytes.len() {
        return Err("the page has another length than its index says".to_owned());
    }
    decode_page(bytes, kind, target)?;
    let rows = target.rows;
    let present =
        target.presence.as_ref().map_or(rows, |words| words.iter().map(|word| word.count_ones() as usize).sum());
    if (rows, present) != (page.stats.rows as usize, page.stats.present as usize) || PAGE_ROWS_MAX < rows {
        return Err("the page has other rows than its index says".to_owned());
    }
    Ok(())
}

/// A page in which every row is absent.
fn absent_page(kind: FieldType, rows: usize, target: &mut PageBuf) {
    target.rows = rows;
    target.presence = Some(vec![0; rows.div_ceil(64)]);
    if target.values.kind() != kind {
        target.values = Values::new(kind);
    }
    match &mut target.values {
        Values::I64(values) => zeros(values, rows, 0),
        Values::U64(values) => zeros(values, rows, 0),
        Values::F64(values) => zeros(values, rows, 0.0),
        Values::Bool(values) => zeros(values, rows, false),
        Values::String(strings) => {
            strings.bytes.clear();
            zeros(&mut strings.ends, rows, 0);
        }
    }
}

fn zeros<T: Clone>(values: &mut Vec<T>, rows: usize, zero: T) {
    values.clear();
    values.resize(rows, zero);
}
