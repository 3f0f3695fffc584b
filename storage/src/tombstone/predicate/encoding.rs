//! A condition as bytes. Byte layout: `storage/format/batch.md`.

use super::{Comparison, Literal, PREDICATE_DEPTH_MAX, Predicate};
use crate::bytes::{Reader, put_bytes};
use crate::schema::{ColumnId, FieldType};
use crate::tombstone::like::Pattern;
use crate::tombstone::value_set::ValueSet;

impl Predicate {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let head = |out: &mut Vec<u8>, kind: u8, column: ColumnId| {
            out.push(kind);
            out.extend_from_slice(&column.0.to_le_bytes());
        };
        match self {
            Self::Constant(known) => {
                out.push(kind::CONSTANT);
                out.push(known.map_or(2, u8::from));
            }
            Self::Compare { column, op, value } => {
                head(out, kind::COMPARE, *column);
                out.push(*op as u8);
                value.encode(out);
            }
            Self::IsAbsent(column) => head(out, kind::IS_ABSENT, *column),
            Self::In { column, values } => {
                head(out, kind::IN, *column);
                values.encode(out);
            }
            Self::Like { column, pattern } => {
                head(out, kind::LIKE, *column);
                put_bytes(out, pattern.text().as_bytes());
            }
            Self::All(parts) | Self::Any(parts) => {
                out.push(if matches!(self, Self::All(_)) { kind::ALL } else { kind::ANY });
                out.extend_from_slice(&(parts.len() as u32).to_le_bytes());
                parts.iter().for_each(|part| part.encode(out));
            }
            Self::Not(part) => {
                out.push(kind::NOT);
                part.encode(out);
            }
        }
    }

    /// Never panics: these bytes come from disk.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        Self::decode_at(reader, 0)
    }

    fn decode_at(reader: &mut Reader<'_>, depth: usize) -> Result<Self, String> {
        if PREDICATE_DEPTH_MAX <= depth {
            return Err("a delete condition nests too deep".to_owned());
        }
        Ok(match reader.u8()? {
            kind::CONSTANT => Self::Constant(match reader.u8()? {
                0 => Some(false),
                1 => Some(true),
                2 => None,
                other => return Err(format!("truth value {other} is unknown")),
            }),
            kind::COMPARE => {
                let column = ColumnId(reader.u32()?);
                let code = reader.u8()?;
                let op = Comparison::from_code(code).ok_or_else(|| format!("comparison {code} is unknown"))?;
                Self::Compare { column, op, value: Literal::decode(reader)? }
            }
            kind::IS_ABSENT => Self::IsAbsent(ColumnId(reader.u32()?)),
            kind::IN => Self::In { column: ColumnId(reader.u32()?), values: ValueSet::decode(reader)? },
            kind::LIKE => Self::Like { column: ColumnId(reader.u32()?), pattern: Pattern::new(&text(reader)?) },
            kind @ (kind::ALL | kind::ANY) => {
                let mut parts = Vec::new();
                for _ in 0..reader.u32()? {
                    parts.push(Self::decode_at(reader, depth + 1)?);
                }
                // It stays as long as the delete waits.
                parts.shrink_to_fit();
                if kind == kind::ALL { Self::All(parts) } else { Self::Any(parts) }
            }
            kind::NOT => Self::Not(Box::new(Self::decode_at(reader, depth + 1)?)),
            other => return Err(format!("delete condition {other} is unknown")),
        })
    }
}

mod kind {
    pub(super) const CONSTANT: u8 = 1;
    pub(super) const COMPARE: u8 = 2;
    pub(super) const IS_ABSENT: u8 = 3;
    pub(super) const IN: u8 = 4;
    pub(super) const LIKE: u8 = 5;
    pub(super) const ALL: u8 = 6;
    pub(super) const ANY: u8 = 7;
    pub(super) const NOT: u8 = 8;
}

impl Literal {
    pub(in crate::tombstone) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::I64(value) => {
                out.push(FieldType::I64.code());
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::U64(value) => {
                out.push(FieldType::U64.code());
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::F64(value) => {
                out.push(FieldType::F64.code());
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Bool(value) => {
                out.push(FieldType::Bool.code());
                out.push(u8::from(*value));
            }
            Self::String(value) => {
                out.push(FieldType::String.code());
                put_bytes(out, value.as_bytes());
            }
        }
    }

    pub(in crate::tombstone) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        let code = reader.u8()?;
        Ok(match FieldType::from_code(code).ok_or_else(|| format!("literal type {code} is unknown"))? {
            FieldType::I64 => Self::I64(reader.i64()?),
            FieldType::U64 => Self::U64(reader.u64()?),
            FieldType::F64 => Self::F64(f64::from_bits(reader.u64()?)),
            FieldType::Bool => match reader.u8()? {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                other => return Err(format!("boolean {other} is unknown")),
            },
            FieldType::String => Self::String(text(reader)?),
        })
    }
}

pub(in crate::tombstone) fn text(reader: &mut Reader<'_>) -> Result<String, String> {
    String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| "a string is not UTF-8".to_owned())
}

impl Comparison {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Equal,
            2 => Self::NotEqual,
            3 => Self::Less,
            4 => Self::LessOrEqual,
            5 => Self::Greater,
            6 => Self::GreaterOrEqual,
            7 => Self::Identical,
            _ => return None,
        })
    }
}
