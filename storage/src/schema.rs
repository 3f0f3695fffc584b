//! Names, ids and types of what is stored.
//!
//! Ids are given once and never reused, so a name can be renamed or taken again without touching old files.

use std::fmt;

/// A database of this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseId(pub u32);

/// A table of this store; unique over all databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u32);

/// A column of one table. 0 is `time`; 1–15 are reserved for hidden columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId(pub u32);

impl ColumnId {
    /// The time column.
    pub const TIME: Self = Self(0);
    /// The first id that a tag or field can have.
    pub const FIRST_USER: Self = Self(16);
}

/// The type of a field. The codes are in our files (`storage/format/batch.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldType {
    /// Signed 64-bit integer.
    I64 = 1,
    /// Unsigned 64-bit integer.
    U64 = 2,
    /// Finite double; −0.0 is kept.
    F64 = 3,
    /// Boolean.
    Bool = 4,
    /// UTF-8, at most [`STRING_BYTES_MAX`] bytes.
    String = 5,
}

/// The longest string field.
pub const STRING_BYTES_MAX: usize = 64 * 1024;
/// The longest tag value.
pub const TAG_BYTES_MAX: usize = 4 * 1024;
/// The longest name of a database, table or column.
pub const NAME_BYTES_MAX: usize = 1024;

impl FieldType {
    /// The code in our files.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The type of a code; `None` for one that this build does not know.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::I64,
            2 => Self::U64,
            3 => Self::F64,
            4 => Self::Bool,
            5 => Self::String,
            _ => return None,
        })
    }

    /// Whether a column of this type can become one of `to` later: its values are read as values of `to`, unchanged.
    pub fn widens_to(self, to: Self) -> bool {
        matches!((self, to), (Self::I64 | Self::U64, Self::F64))
    }

    /// InfluxDB's word for it, which clients match on.
    pub fn influx_name(self) -> &'static str {
        match self {
            Self::I64 => "integer",
            Self::U64 => "unsigned",
            Self::F64 => "float",
            Self::Bool => "boolean",
            Self::String => "string",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.influx_name())
    }
}

/// What a column is. Code 0 is time, 6 a tag, the others are [`FieldType`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// ns since the epoch, UTC; part of the key of an upsert table.
    Time,
    /// A string that helps name the series.
    Tag,
    /// A measured value.
    Field(FieldType),
}

impl ColumnKind {
    /// The code in our files.
    pub fn code(self) -> u8 {
        match self {
            Self::Time => 0,
            Self::Tag => 6,
            Self::Field(kind) => kind.code(),
        }
    }

    /// The kind of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Time),
            6 => Some(Self::Tag),
            _ => FieldType::from_code(code).map(Self::Field),
        }
    }

    /// `time`, `tag`, or InfluxDB's word for the field's type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Tag => "tag",
            Self::Field(kind) => kind.influx_name(),
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Never reused within the table.
    pub id: ColumnId,
    /// Case-sensitive; unique within the table.
    pub name: String,
    /// Fixed for the column's life, but that integers may become doubles.
    pub kind: ColumnKind,
}

/// What a second row with the same key does. Fixed for the table's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TableMode {
    /// Key = series + time: the later write wins, field by field.
    Upsert = 0,
    /// Events: every row stays.
    Append = 1,
}

/// From `from` on, partitions are `width` wide, aligned to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWidth {
    /// First instant that this width holds for.
    pub from: i64,
    /// ns.
    pub width: i64,
}

/// One day in ns: the default partition width.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// One table, as of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Never reused.
    pub id: TableId,
    /// The database it belongs to.
    pub database: DatabaseId,
    /// Case-sensitive; unique within the database.
    pub name: String,
    /// Upsert or append.
    pub mode: TableMode,
    /// Declared order, or order of first appearance. `time` is among them, with [`ColumnId::TIME`].
    pub columns: Vec<Column>,
    /// What `DROP COLUMN` hid, in that order. Ids stay used, and series keys go on holding the tags among them; names are
    /// free again and may repeat.
    pub hidden: Vec<Column>,
    /// Ascending in `from`; the first is `i64::MIN`.
    pub widths: Vec<PartitionWidth>,
    /// No raw row is older than this; `i64::MIN` while nothing expired.
    pub floor: i64,
}

impl Table {
    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of an id.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// How many tags and fields.
    pub fn user_columns(&self) -> usize {
        self.columns.iter().filter(|column| column.id != ColumnId::TIME).count()
    }

    /// What segments are written with: the columns, and the hidden tags that keys hold.
    pub fn stored_columns(&self) -> Vec<Column> {
        let hidden_tags = self.hidden.iter().filter(|column| column.kind == ColumnKind::Tag);
        self.columns.iter().chain(hidden_tags).cloned().collect()
    }

    /// The id that the next column gets.
    pub(crate) fn next_column(&self) -> ColumnId {
        let last = self.columns.iter().chain(&self.hidden).map(|column| column.id.0).max().unwrap_or_default();
        ColumnId(ColumnId::FIRST_USER.0.max(last.saturating_add(1)))
    }

    /// The tags in column-id order: the order of the series key.
    pub fn tags(&self) -> Vec<&Column> {
        let mut tags: Vec<_> = self.columns.iter().filter(|column| column.kind == ColumnKind::Tag).collect();
        tags.sort_by_key(|column| column.id);
        tags
    }

    /// The fields in column-id order.
    pub fn fields(&self) -> Vec<(&Column, FieldType)> {
        let mut fields: Vec<_> = self
            .columns
            .iter()
            .filter_map(|column| match column.kind {
                ColumnKind::Field(kind) => Some((column, kind)),
                _ => None,
            })
            .collect();
        fields.sort_by_key(|(column, _)| column.id);
        fields
    }

    /// The start of the partition that holds `time`. Times before the first whole partition share one that starts at
    /// `i64::MIN`.
    pub fn partition_of(&self, time: i64) -> i64 {
        let width = self.widths.iter().rev().find(|width| width.from <= time).map_or(DAY_NS, |width| width.width);
        crate::time::bucket_start(time, width, 0).unwrap_or(i64::MIN)
    }

    /// Where the partition that starts at `start` ends: its width behind, or where the next width starts.
    pub fn partition_end(&self, start: i64) -> i64 {
        let at = self.widths.iter().rposition(|width| width.from <= start).unwrap_or_default();
        let width = self.widths.get(at).map_or(DAY_NS, |width| width.width);
        // The first partition starts before the first whole one.
        let end = if start == i64::MIN {
            crate::time::bucket_start(i64::MIN + width, width, 0).unwrap_or(i64::MAX)
        } else {
            start.saturating_add(width)
        };
        self.widths.get(at + 1).map_or(end, |next| end.min(next.from))
    }
}
