//! The page index: which rows each page covers, where it lies, and what its values are bounded by.
//!
//! Pages of all columns of a stripe are cut at the same rows. Where a page begins is not stored: the pages of a segment
//! lie behind one another, stripe by stripe, in each stripe column by column, so it follows from their lengths.

use std::ops::Range;

use crate::codec::{EncodeScratch, PAGE_ROWS_MAX, PageStats, ValuesRef, decode_column, encode_column};
use crate::schema::FieldType;
use crate::values::Values;

use super::{ALIGNMENT, PAGE_CELLS_MAX, STRIPE_ROWS_MAX};

/// The least a page takes: its header.
const PAGE_BYTES_MIN: u64 = 16;

/// What decoding takes of memory for each page of one column, and for what all columns have in common of it, at most.
pub(super) const CELL_BYTES: u64 = 5 * 8 + size_of::<ColumnPage>() as u64;
pub(super) const PAGE_BYTES: u64 = 2 * 8 + size_of::<PageRange>() as u64;

/// The rows that page *i* of every column covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// The first row, counted in the segment.
    pub first_row: u64,
    /// 1 to 8192.
    pub rows: u32,
    /// Which stripe it belongs to.
    pub stripe: u32,
    /// The least time in it, ns.
    pub time_min: i64,
    /// The greatest, included, ns.
    pub time_max: i64,
}

/// Rows that lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeRange {
    /// The first row, counted in the segment.
    pub first_row: u64,
    /// At most [`STRIPE_ROWS_MAX`].
    pub rows: u64,
    /// Its pages.
    pub pages: Range<usize>,
}

/// One page of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnPage {
    /// From the first byte of the segment.
    pub offset: u64,
    /// 0 if no row of the page is present.
    pub bytes: u32,
    /// The checksum that its header must have.
    pub(crate) crc32: u32,
    /// Rows, present values and their bounds.
    pub stats: PageStats,
}

/// The pages of one column while they are written.
pub(crate) struct ColumnPages {
    pub(crate) kind: FieldType,
    bytes: Vec<u32>,
    crc32: Vec<u32>,
    absent: Vec<u32>,
    min: Vec<u64>,
    max: Vec<u64>,
}

impl ColumnPages {
    pub(crate) fn new(kind: FieldType) -> Self {
        Self { kind, bytes: Vec::new(), crc32: Vec::new(), absent: Vec::new(), min: Vec::new(), max: Vec::new() }
    }

    /// What it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        let short = self.bytes.capacity() + self.crc32.capacity() + self.absent.capacity();
        short * size_of::<u32>() + (self.min.capacity() + self.max.capacity()) * size_of::<u64>()
    }

    /// No row of any page is present.
    pub(crate) fn is_absent(&self) -> bool {
        self.crc32.is_empty()
    }

    /// A page without present rows.
    pub(crate) fn push_absent(&mut self, rows: u32) {
        self.bytes.push(0);
        self.absent.push(rows);
    }

    /// A page of these bytes.
    pub(crate) fn push(&mut self, page: &[u8], stats: &PageStats) {
        assert!(page.len().is_multiple_of(ALIGNMENT), "pages are padded");
        assert!(0 < stats.present, "a page without values is not written");
        self.bytes.push(u32::try_from(page.len()).unwrap_or(u32::MAX));
        self.crc32.push(page_crc32(page));
        self.absent.push(stats.rows - stats.present);
        if self.kind != FieldType::String {
            let (min, max) = stats.min.zip(stats.max).unwrap_or_default();
            self.min.push(min);
            self.max.push(max);
        }
    }
}

/// Appends the section. `columns` are time, then the fields by ascending id.
pub(crate) fn encode_pages(
    stripe_pages: &[u64],
    page_rows: &[u64],
    columns: &[&ColumnPages],
    scratch: &mut EncodeScratch,
) -> Vec<u8> {
    let mut out = Vec::new();
    encode_column(ValuesRef::U64(stripe_pages), scratch, &mut out);
    encode_column(ValuesRef::U64(page_rows), scratch, &mut out);
    let units: Vec<u64> = columns.iter().flat_map(|column| &column.bytes).map(|bytes| u64::from(bytes / 8)).collect();
    encode_column(ValuesRef::U64(&units), scratch, &mut out);
    let fields = columns.get(1..).unwrap_or_default();
    let absent: Vec<u64> = fields.iter().flat_map(|column| &column.absent).map(|rows| u64::from(*rows)).collect();
    encode_column(ValuesRef::U64(&absent), scratch, &mut out);
    out.extend(columns.iter().flat_map(|column| &column.crc32).flat_map(|crc32| crc32.to_le_bytes()));
    for column in columns {
        let bounds = column.min.iter().chain(&column.max).copied();
        match column.kind {
            FieldType::I64 => {
                let values: Vec<i64> = bounds.map(|bits| bits as i64).collect();
                encode_column(ValuesRef::I64(&values), scratch, &mut out);
            }
            FieldType::U64 => encode_column(ValuesRef::U64(&bounds.collect::<Vec<_>>()), scratch, &mut out),
            FieldType::F64 => {
                let values: Vec<f64> = bounds.map(f64::from_bits).collect();
                encode_column(ValuesRef::F64(&values), scratch, &mut out);
            }
            FieldType::Bool => {
                let values: Vec<bool> = bounds.map(|bits| bits != 0).collect();
                encode_column(ValuesRef::Bool(&values), scratch, &mut out);
            }
            FieldType::String => {}
        }
    }
    out
}

/// The decoded page index.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageIndex {
    pub(crate) stripes: Vec<StripeRange>,
    pub(crate) pages: Vec<PageRange>,
    /// Time, then the fields by ascending id; each as long as `pages`.
    pub(crate) columns: Vec<Vec<ColumnPage>>,
}

/// What the section must agree with.
pub(crate) struct PagesExpected<'a> {
    pub(crate) stripes: u32,
    pub(crate) pages: u32,
    pub(crate) rows: u64,
    /// Bytes of all stripes.
    pub(crate) data_bytes: u64,
    /// Types of the columns: time as i64, then the fields.
    pub(crate) kinds: &'a [FieldType],
}

impl PagesExpected<'_> {
    /// Bounds every count by the bytes that must be behind it, before anything of that size is allocated.
    fn check(&self) -> Result<(), String> {
        let pages = u64::from(self.pages);
        let cells = pages.saturating_mul(self.kinds.len() as u64);
        if self.data_bytes / PAGE_BYTES_MIN < pages || PAGE_CELLS_MAX < cells {
            return Err(format!("{pages} pages of {} columns do not fit the segment", self.kinds.len()));
        }
        let rows_max = pages * PAGE_ROWS_MAX as u64;
        if !(pages..=rows_max).contains(&self.rows) || self.pages < self.stripes {
            return Err(format!("{} rows in {} stripes do not fit {pages} pages", self.rows, self.stripes));
        }
        Ok(())
    }
}

impl PageIndex {
    pub(crate) fn decode(mut input: &[u8], expected: &PagesExpected<'_>) -> Result<Self, String> {
        expected.check()?;
        let count = expected.pages as usize;
        let fields = expected.kinds.len() - 1;
        let stripe_pages = take_u64(&mut input, expected.stripes as usize)?;
        let page_rows = take_u64(&mut input, count)?;
        let units = take_u64(&mut input, expected.kinds.len() * count)?;
        let absent = take_u64(&mut input, fields * count)?;
        let mut index = Self::rows(&stripe_pages, &page_rows, expected.rows)?;
        // A time page has all rows, and there is no column of it in `absent`.
        let mut absent = std::iter::repeat_n(0, count).chain(absent);
        let mut units = units.into_iter();
        for _ in expected.kinds {
            let mut column = Vec::with_capacity(count);
            for page in &index.pages {
                let (unit, absent) = (units.next().unwrap_or_default(), absent.next().unwrap_or_default());
                column.push(ColumnPage::decode(unit, absent, page.rows, &mut input)?);
            }
            index.columns.push(column);
        }
        for (kind, column) in expected.kinds.iter().zip(&mut index.columns) {
            bounds(*kind, column, &mut input)?;
        }
        if !input.is_empty() {
            return Err("bytes follow the page index".to_owned());
        }
        index.place(expected.data_bytes)?;
        index.times()?;
        Ok(index)
    }

    /// Stripes and pages, without bytes and times.
    fn rows(stripe_pages: &[u64], page_rows: &[u64], rows: u64) -> Result<Self, String> {
        let mut index = Self::default();
        let mut first_row = 0_u64;
        let mut next = page_rows.iter();
        for (stripe, &pages) in stripe_pages.iter().enumerate() {
            let start = first_row;
            let first_page = index.pages.len();
            for _ in 0..pages {
                let &rows = next.next().ok_or("a stripe has more pages than there are")?;
                if rows == 0 || rows > PAGE_ROWS_MAX as u64 {
                    return Err(format!("a page has {rows} rows"));
                }
                let rows = rows as u32;
                index.pages.push(PageRange { first_row, rows, stripe: stripe as u32, time_min: 0, time_max: 0 });
                first_row += u64::from(rows);
            }
            let rows = first_row - start;
            if rows == 0 || rows > STRIPE_ROWS_MAX as u64 {
                return Err(format!("a stripe has {rows} rows"));
            }
            index.stripes.push(StripeRange { first_row: start, rows, pages: first_page..index.pages.len() });
        }
        if next.next().is_some() || first_row != rows {
            return Err("the pages do not have the rows of the segment".to_owned());
        }
        Ok(index)
    }

    /// Finds where each page begins.
    fn place(&mut self, data_bytes: u64) -> Result<(), String> {
        let mut offset = 0_u64;
        for stripe in &self.stripes {
            for column in &mut self.columns {
                for page in column.get_mut(stripe.pages.clone()).unwrap_or_default() {
                    page.offset = offset;
                    offset += u64::from(page.bytes);
                }
            }
        }
        if offset != data_bytes {
            return Err(format!("the pages have {offset} bytes, their place {data_bytes}"));
        }
        Ok(())
    }

    fn times(&mut self) -> Result<(), String> {
        let time = self.columns.first().map(Vec::as_slice).unwrap_or_default();
        for (page, time) in self.pages.iter_mut().zip(time) {
            let (Some(min), Some(max)) = (time.stats.min, time.stats.max) else {
                return Err("a page has rows without time".to_owned());
            };
            (page.time_min, page.time_max) = (min as i64, max as i64);
            if page.time_max < page.time_min {
                return Err("the times of a page are out of order".to_owned());
            }
        }
        Ok(())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let cells: usize = self.columns.iter().map(Vec::capacity).sum();
        cells * size_of::<ColumnPage>()
            + self.pages.capacity() * size_of::<PageRange>()
            + self.stripes.capacity() * size_of::<StripeRange>()
    }
}

impl ColumnPage {
    fn decode(unit: u64, absent: u64, rows: u32, input: &mut &[u8]) -> Result<Self, String> {
        let bytes = unit.checked_mul(8).and_then(|bytes| u32::try_from(bytes).ok()).ok_or("a page is too long")?;
        let absent =
            u32::try_from(absent).ok().filter(|absent| *absent <= rows).ok_or("a page lacks more than it has")?;
        let present = rows - absent;
        if (bytes == 0) != (present == 0) || (bytes != 0 && u64::from(bytes) < PAGE_BYTES_MIN) {
            return Err(format!("a page of {present} values has {bytes} bytes"));
        }
        let mut crc32 = 0;
        if bytes != 0 {
            let (head, tail) = input.split_first_chunk::<4>().ok_or("page checksums are cut short")?;
            crc32 = u32::from_le_bytes(*head);
            *input = tail;
        }
        Ok(Self { offset: 0, bytes, crc32, stats: PageStats { rows, present, min: None, max: None } })
    }
}

/// Reads the bounds of a column's pages.
fn bounds(kind: FieldType, column: &mut [ColumnPage], input: &mut &[u8]) -> Result<(), String> {
    if kind == FieldType::String {
        return Ok(());
    }
    let present = column.iter().filter(|page| page.stats.present != 0).count();
    let bits: Vec<u64> = match decode_column(input, kind, present * 2)? {
        Values::I64(values) => values.into_iter().map(|value| value as u64).collect(),
        Values::U64(values) => values,
        Values::F64(values) => values.into_iter().map(f64::to_bits).collect(),
        Values::Bool(values) => values.into_iter().map(u64::from).collect(),
        Values::String(_) => Vec::new(),
    };
    let (min, max) = bits.split_at_checked(present).ok_or("bounds of pages are missing")?;
    let pages = column.iter_mut().filter(|page| page.stats.present != 0);
    for ((page, min), max) in pages.zip(min).zip(max) {
        page.stats.min = Some(*min);
        page.stats.max = Some(*max);
    }
    Ok(())
}

/// The checksum in the header of a page; 0 if there is no header.
pub(crate) fn page_crc32(page: &[u8]) -> u32 {
    page.get(12..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Takes a u64 column off the front.
pub(crate) fn take_u64(input: &mut &[u8], count: usize) -> Result<Vec<u64>, String> {
    match decode_column(input, FieldType::U64, count)? {
        Values::U64(values) if values.len() == count => Ok(values),
        _ => Err("a column has another type or length".to_owned()),
    }
}

/// Takes an i64 column off the front.
pub(crate) fn take_i64(input: &mut &[u8], count: usize) -> Result<Vec<i64>, String> {
    match decode_column(input, FieldType::I64, count)? {
        Values::I64(values) if values.len() == count => Ok(values),
        _ => Err("a column has another type or length".to_owned()),
    }
}
