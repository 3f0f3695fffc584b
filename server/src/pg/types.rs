//! PostgreSQL's types: which one a column of an answer has, and what a value of a statement is meant to be.

use arrow_schema::{DataType, IntervalUnit, TimeUnit};

/// A type that has a form on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
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
const TYPES: [(Kind, u32, u32, i16); 13] = [
    (Kind::Bool, 16, 1000, 1),
    (Kind::Int2, 21, 1005, 2),
    (Kind::Int4, 23, 1007, 4),
    (Kind::Int8, 20, 1016, 8),
    (Kind::Float4, 700, 1021, 4),
    (Kind::Float8, 701, 1022, 8),
    (Kind::Numeric, 1700, 1231, -1),
    (Kind::Text, 25, 1009, -1),
    (Kind::Bytea, 17, 1001, -1),
    (Kind::Date, 1082, 1182, 4),
    (Kind::Time, 1083, 1183, 8),
    (Kind::Timestamptz, 1184, 1185, 8),
    (Kind::Interval, 1186, 1187, 16),
];

/// Types whose values are read as those of another: varchar, char, name, "char", oid, json, uuid, timestamp, jsonb, xid, regclass…
const READ_AS: [(u32, Kind); 10] = [
    (1043, Kind::Text),
    (1042, Kind::Text),
    (19, Kind::Text),
    (18, Kind::Text),
    (26, Kind::Int8),
    (114, Kind::Text),
    (2950, Kind::Text),
    (1114, Kind::Timestamptz),
    (1015, Kind::List(&Kind::Text)),
    (1115, Kind::List(&Kind::Timestamptz)),
];

impl Kind {
    /// The type that a column is shown as.
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::Int2,
            DataType::UInt16 | DataType::Int32 => Self::Int4,
            DataType::UInt32 | DataType::Int64 => Self::Int8,
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
            Self::Int8 => DataType::Int64,
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
}
