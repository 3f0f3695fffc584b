//! Footer and tail: what a segment is, and where its sections lie.
//!
//! The tail is the last 32 bytes and leads to the footer; the footer leads to everything else. Both are under a crc32.
//! A decoded [`Footer`] keeps these rules: sections lie one behind the other in front of the footer, begin at multiples
//! of 8 and occur once; every kind that this build needs is there; nothing that it does not know is required.

use crate::bytes::Reader;
use crate::schema::{ColumnId, TableId};

use super::index::{CELL_BYTES, PAGE_BYTES};
use super::run::RunDirectory;
use super::{ALIGNMENT, Refusal, padding};

const MAGIC: &[u8; 8] = b"mgrmsegm";
const FORMAT: u16 = 1;
/// Bits of `required features` that this build knows.
const REQUIRED_KNOWN: u64 = 0;
const ORDER_BY_KEY: u16 = 1;
const FOOTER_FIXED_BYTES: usize = 96;
const SECTION_BYTES: usize = 32;

/// What a section holds. Codes are on disk and never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SectionKind(pub u16);

impl SectionKind {
    /// Ids, kinds and names of the columns.
    pub const SCHEMA: Self = Self(1);
    /// Series keys, in packed blocks.
    pub const KEYS: Self = Self(2);
    /// Where the key blocks lie, and what separates them.
    pub const KEY_INDEX: Self = Self(3);
    /// Values of one tag and their code for each series.
    pub const TAG: Self = Self(4);
    /// Rows and times of each run.
    pub const RUNS: Self = Self(5);
    /// Rows, bytes, presence and bounds of each page.
    pub const PAGES: Self = Self(6);
    /// Rows that may repeat a key of an older segment.
    pub const SUSPECTS: Self = Self(7);
    /// Values of one tag and the series of those that few have, in packed blocks.
    pub const POSTINGS: Self = Self(8);
    /// Where the blocks of postings lie, and what separates them.
    pub const POSTINGS_INDEX: Self = Self(9);

    /// What this build cannot do without.
    const NEEDED: [Self; 5] = [Self::SCHEMA, Self::KEYS, Self::KEY_INDEX, Self::RUNS, Self::PAGES];

    /// The word for it in `inspect`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SCHEMA => "schema",
            Self::KEYS => "keys",
            Self::KEY_INDEX => "key index",
            Self::TAG => "tag",
            Self::RUNS => "runs",
            Self::PAGES => "pages",
            Self::SUSPECTS => "suspects",
            Self::POSTINGS => "postings",
            Self::POSTINGS_INDEX => "postings index",
            _ => "unknown",
        }
    }

    /// It repeats what a tag's column says.
    pub(super) fn is_postings(self) -> bool {
        matches!(self, Self::POSTINGS | Self::POSTINGS_INDEX)
    }

    fn is_known(self) -> bool {
        (Self::SCHEMA.0..=Self::POSTINGS_INDEX.0).contains(&self.0)
    }
}

/// One section of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// A reader that does not know the kind must refuse the segment.
    pub required: bool,
    /// The tag of a [`SectionKind::TAG`] and of its postings; else 0.
    pub column: ColumnId,
    /// From the first byte of the segment.
    pub offset: u64,
    /// Without padding.
    pub bytes: u64,
    /// Of these bytes.
    pub crc32: u32,
}

/// The footer of a segment, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The table that the rows belong to.
    pub table: TableId,
    /// The partition that they belong to, ns.
    pub partition_start: i64,
    /// The least sequence number of the batches they came with.
    pub sequence_min: u64,
    /// The greatest, included.
    pub sequence_max: u64,
    /// How many rows.
    pub rows: u64,
    /// The first time, ns; `i64::MAX` without rows.
    pub time_min: i64,
    /// The last time, included, ns; `i64::MIN` without rows.
    pub time_max: i64,
    /// How many different series.
    pub series: u32,
    /// How many runs.
    pub runs: u32,
    /// How many stripes.
    pub stripes: u32,
    /// How many pages each column has.
    pub pages: u32,
    /// How many columns the schema lists.
    pub columns: u32,
    /// In the order of their bytes.
    pub sections: Vec<Section>,
}

impl Footer {
    /// The section of a kind; of a tag's section also by column.
    pub fn section(&self, kind: SectionKind, column: ColumnId) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind && section.column == column)
    }

    /// Bytes of all stripes: the first section begins behind them.
    pub fn data_bytes(&self) -> u64 {
        self.sections.first().map_or(0, |section| section.offset)
    }

    /// What reading and decoding the directories takes of memory, at most.
    pub(super) fn decoding_bytes(&self) -> u64 {
        let pages = u64::from(self.pages);
        let cells = pages.saturating_mul(u64::from(self.columns) + 1);
        let runs = RunDirectory::decoding_bytes(self.runs);
        let read = [SectionKind::SCHEMA, SectionKind::KEY_INDEX, SectionKind::RUNS, SectionKind::PAGES].into_iter();
        let read: u64 = read.filter_map(|kind| self.section(kind, ColumnId(0))).map(|section| section.bytes).sum();
        // Names and separators are there twice for a while.
        read.saturating_mul(3)
            .saturating_add(runs)
            .saturating_add(pages * PAGE_BYTES)
            .saturating_add(cells.saturating_mul(CELL_BYTES))
    }

    pub(crate) fn encode(&self, features_required: u64, features_optional: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_FIXED_BYTES + self.sections.len() * SECTION_BYTES);
        out.extend_from_slice(&self.table.0.to_le_bytes());
        out.extend_from_slice(&ORDER_BY_KEY.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.partition_start.to_le_bytes());
        for field in [self.sequence_min, self.sequence_max, features_required, features_optional, self.rows] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.time_min.to_le_bytes());
        out.extend_from_slice(&self.time_max.to_le_bytes());
        let sections = self.sections.len() as u32;
        for field in [self.series, self.runs, self.stripes, self.pages, self.columns, sections] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for section in &self.sections {
            out.extend_from_slice(&section.kind.0.to_le_bytes());
            out.extend_from_slice(&u16::from(section.required).to_le_bytes());
            out.extend_from_slice(&section.column.0.to_le_bytes());
            out.extend_from_slice(&section.offset.to_le_bytes());
            out.extend_from_slice(&section.bytes.to_le_bytes());
            out.extend_from_slice(&section.crc32.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        out
    }

    /// `end` is where the footer begins: sections lie before it.
    pub(crate) fn decode(bytes: &[u8], end: u64) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes);
        let table = TableId(reader.u32()?);
        let order = reader.u16()?;
        reader.u16()?;
        if order != ORDER_BY_KEY {
            return Err(Refusal::Unsupported(format!("series order {order}")));
        }
        let partition_start = reader.i64()?;
        let (sequence_min, sequence_max) = (reader.u64()?, reader.u64()?);
        let required = reader.u64()?;
        reader.u64()?;
        if required & !REQUIRED_KNOWN != 0 {
            return Err(Refusal::Unsupported(format!("required features {required:#x}")));
        }
        let rows = reader.u64()?;
        let (time_min, time_max) = (reader.i64()?, reader.i64()?);
        let (series, runs, stripes) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (pages, columns, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if reader.rest().len() != (count as usize).saturating_mul(SECTION_BYTES) {
            return Err(format!("the footer has {} bytes for {count} sections", reader.rest().len()).into());
        }
        let sections = (0..count).map(|_| Section::decode(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let footer = Self {
            table,
            partition_start,
            sequence_min,
            sequence_max,
            rows,
            time_min,
            time_max,
            series,
            runs,
            stripes,
            pages,
            columns,
            sections,
        };
        footer.check(end)?;
        Ok(footer)
    }

    fn check(&self, end: u64) -> Result<(), Refusal> {
        let mut free = 0;
        for (index, section) in self.sections.iter().enumerate() {
            let name = section.kind.name();
            let after = section.offset.checked_add(section.bytes).ok_or("a section is too long")?;
            if section.offset < free || !section.offset.is_multiple_of(ALIGNMENT as u64) || end < after {
                return Err(format!("section {name} lies outside its place").into());
            }
            let before = self.sections.get(..index).unwrap_or_default();
            if before.iter().any(|other| (other.kind, other.column) == (section.kind, section.column)) {
                return Err(format!("section {name} occurs twice").into());
            }
            free = after;
        }
        for kind in SectionKind::NEEDED {
            if self.section(kind, ColumnId(0)).is_none() {
                return Err(format!("section {} is missing", kind.name()).into());
            }
        }
        if self.sequence_max < self.sequence_min {
            return Err("the sequence range is empty".into());
        }
        Ok(())
    }
}

impl Section {
    /// What is told where its checksum does not match.
    pub(super) fn mismatch(&self) -> String {
        format!("the checksum of section {} does not match", self.kind.name())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Refusal> {
        let kind = SectionKind(reader.u16()?);
        let flags = reader.u16()?;
        let column = ColumnId(reader.u32()?);
        let (offset, bytes) = (reader.u64()?, reader.u64()?);
        let crc32 = reader.u32()?;
        reader.u32()?;
        if flags & !1 != 0 {
            return Err(Refusal::Unsupported(format!("section kind {} has flags {flags:#x}", kind.0)));
        }
        let required = flags & 1 != 0;
        if required && !kind.is_known() {
            return Err(Refusal::Unsupported(format!("required section kind {}", kind.0)));
        }
        Ok(Self { kind, required, column, offset, bytes, crc32 })
    }
}

/// The last bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) segment_bytes: u64,
    pub(crate) footer_bytes: u32,
    pub(crate) footer_crc32: u32,
}

impl Tail {
    pub(crate) const BYTES: usize = 32;

    /// The tail of a segment that has `body_bytes` in front of its footer.
    pub(crate) fn of(footer: &[u8], body_bytes: u64) -> Self {
        assert!(padding(body_bytes) == 0, "the footer begins at a multiple of 8");
        Self {
            segment_bytes: body_bytes + footer.len() as u64 + Self::BYTES as u64,
            footer_bytes: footer.len() as u32,
            footer_crc32: crc32fast::hash(footer),
        }
    }

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0..8].copy_from_slice(&self.segment_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.footer_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&self.footer_crc32.to_le_bytes());
        out[16..18].copy_from_slice(&FORMAT.to_le_bytes());
        out[24..32].copy_from_slice(MAGIC);
        let crc32 = Self::crc32(&out);
        out[20..24].copy_from_slice(&crc32.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, Refusal> {
        if bytes[24..32] != *MAGIC {
            return Err("no segment ends here".into());
        }
        let mut reader = Reader::new(bytes);
        let tail = Self { segment_bytes: reader.u64()?, footer_bytes: reader.u32()?, footer_crc32: reader.u32()? };
        let format = reader.u16()?;
        reader.u16()?;
        if reader.u32()? != Self::crc32(bytes) {
            return Err("the checksum of the tail does not match".into());
        }
        if format != FORMAT {
            return Err(Refusal::Unsupported(format!("segment format {format}, this build reads {FORMAT}")));
        }
        Ok(tail)
    }

    fn crc32(bytes: &[u8; Self::BYTES]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[0..20]);
        hasher.update(&bytes[24..32]);
        hasher.finalize()
    }
}
