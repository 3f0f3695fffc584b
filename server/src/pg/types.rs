//! PostgreSQL's types: which one a column of an answer has, and what a value of a statement is meant to be.

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use marigram_query::PG_TYPE;

/// A type that has a form on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Oid,
    Text,
    Bytea,
    Date,
    Time,
    Timestamptz,
    Interval,
    /// A list of one of the others.
    List(&'static Kind),
}

/// Oid, oid of its list, length.
const TYPES: [(Kind, u32, u32, i16); 14] = [
    (Kind::Bool, 16, 1000, 1),
    (Kind::Int2, 21, 1005, 2),
    (Kind::Int4, 23, 1007, 4),
    (Kind::Int8, 20, 1016, 8),
    (Kind::Float4, 700, 1021, 4),
    (Kind::Float8, 701, 1022, 8),
    (Kind::Numeric, 1700, 1231, -1),
    (Kind::Oid, 26, 1028, 4),
    (Kind::Text, 25, 1009, -1),
    (Kind::Bytea, 17, 1001, -1),
    (Kind::Date, 1082, 1182, 4),
    (Kind::Time, 1083, 1183, 8),
    (Kind::Timestamptz, 1184, 1185, 8),
    (Kind::Interval, 1186, 1187, 16),
];

/// Types that are shown by names of their own, though their values are written as texts: name, oid, length.
const NAMED: [(&str, u32, i16); 3] = [("name", 19, 64), ("char", 18, 1), ("varchar", 1043, -1)];

/// Lists of PostgreSQL's catalog that begin at 0 and are written without braces: name, oid.
const VECTORS: [(&str, u32); 2] = [("int2vector", 22), ("oidvector", 30)];

/// Types whose values are read as those of another: varchar, char, name, "char", json, uuid, timestamp, and lists of the first and the last.
const READ_AS: [(u32, Kind); 9] = [
    (1043, Kind::Text),
    (1042, Kind::Text),
    (19, Kind::Text),
    (18, Kind::Text),
    (114, Kind::Text),
    (2950, Kind::Text),
    (1114, Kind::Timestamptz),
    (1015, Kind::List(&Kind::Text)),
    (1115, Kind::List(&Kind::Timestamptz)),
];

/// Oid and length that a column is shown with.
pub(super) fn shown(field: &Field) -> (u32, i16) {
    let kind = Kind::of(field.data_type());
    let name = field.metadata().get(PG_TYPE);
    let named = NAMED.iter().find(|(named, ..)| kind == Kind::Text && name.is_some_and(|name| name == named));
    match (named, vector(field)) {
        (Some((_, oid, length)), _) => (*oid, *length),
        (None, Some(oid)) => (oid, -1),
        (None, None) => (kind.oid(), kind.length()),
    }
}

/// The oid of a list that is a vector.
pub(super) fn vector(field: &Field) -> Option<u32> {
    let name = field.metadata().get(PG_TYPE).filter(|_| matches!(Kind::of(field.data_type()), Kind::List(_)))?;
    VECTORS.iter().find(|(vector, _)| name == vector).map(|(_, oid)| *oid)
}

impl Kind {
    /// The type that a column is shown as.
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::Int2,
            DataType::UInt16 | DataType::Int32 => Self::Int4,
            DataType::Int64 => Self::Int8,
            // Nothing that is stored or computed is one, but what PostgreSQL's catalog counts by.
            DataType::UInt32 => Self::Oid,
            DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal32(..) | DataType::Decimal64(..) => {
                Self::Numeric
            }
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytea
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            // Times are UTC, whether they say so or not.
            DataType::Timestamp(..) => Self::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                Self::list_of(Self::of(field.data_type()))
            }
            DataType::Dictionary(_, values) => Self::of(values),
            _ => Self::Text,
        }
    }

    /// Lists of lists are shown as text.
    fn list_of(element: Self) -> Self {
        let known = TYPES.iter().find(|(kind, ..)| *kind == element);
        known.map_or(Self::Text, |(kind, ..)| Self::List(kind))
    }

    /// The type that a client calls so; `None`: it does not say.
    pub(super) fn from_oid(oid: u32) -> Option<Self> {
        let plain = TYPES.iter().find(|(_, of_type, ..)| *of_type == oid).map(|(kind, ..)| *kind);
        let list = || TYPES.iter().find(|(_, _, of_list, _)| *of_list == oid).map(|(kind, ..)| Self::List(kind));
        plain.or_else(list).or_else(|| READ_AS.iter().find(|(other, _)| *other == oid).map(|(_, kind)| *kind))
    }

    pub(super) fn oid(self) -> u32 {
        let (wanted, is_list) = match self {
            Self::List(element) => (*element, true),
            kind => (kind, false),
        };
        let known = TYPES.iter().find(|(kind, ..)| *kind == wanted);
        known.map_or(25, |(_, oid, list, _)| if is_list { *list } else { *oid })
    }

    /// The length of its values; -1: they differ.
    pub(super) fn length(self) -> i16 {
        TYPES.iter().find(|(kind, ..)| *kind == self).map_or(-1, |(.., length)| *length)
    }

    /// What the planner takes a value of this type for.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            // A number with a point in a statement is a double too.
            Self::Float8 | Self::Numeric => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Nanosecond),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::List(element) => DataType::new_list(element.data_type(), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_oids_that_drivers_know() {
        for (data_type, oid, length) in [
            (DataType::Boolean, 16, 1),
            (DataType::Int64, 20, 8),
            (DataType::UInt64, 1700, -1),
            (DataType::Utf8View, 25, -1),
            (DataType::Float64, 701, 8),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), 1184, 8),
            (DataType::Interval(IntervalUnit::MonthDayNano), 1186, 16),
            (DataType::new_list(DataType::Int64, true), 1016, -1),
            (DataType::new_list(DataType::new_list(DataType::Int64, true), true), 25, -1),
            (DataType::Null, 25, -1),
        ] {
            let kind = Kind::of(&data_type);
            assert_eq!((kind.oid(), kind.length()), (oid, length), "{data_type}");
        }
        for oid in [16, 20, 25, 701, 1700, 1184, 1016, 1187] {
            assert_eq!(Kind::from_oid(oid).map(Kind::oid), Some(oid));
        }
        assert_eq!(Kind::from_oid(1043), Some(Kind::Text));
        assert_eq!(Kind::from_oid(705), None);
    }

    #[test]
    fn columns_of_the_catalog_have_its_types() {
        for (data_type, name, wanted) in [
            (DataType::Utf8View, "name", (19, 64)),
            (DataType::Utf8View, "char", (18, 1)),
            (DataType::UInt32, "oid", (26, 4)),
            // Its value was made text already.
            (DataType::Utf8View, "regclass", (25, -1)),
            (DataType::new_list(DataType::Int16, true), "int2vector", (22, -1)),
            (DataType::new_list(DataType::UInt32, true), "oidvector", (30, -1)),
            (DataType::new_list(DataType::UInt32, true), "_oid", (1028, -1)),
            (DataType::Int64, "name", (20, 8)),
        ] {
            let metadata = [(PG_TYPE.to_owned(), name.to_owned())].into();
            let field = Field::new("x", data_type.clone(), true).with_metadata(metadata);
            assert_eq!(shown(&field), wanted, "{name} {data_type}");
        }
    }
}
