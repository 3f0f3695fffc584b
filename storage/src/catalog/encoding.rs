//! A fact as bytes: kind, length, fields. Byte layout: `storage/format/batch.md`.

use std::sync::Arc;

use super::{Database, Fact, VIEW_BYTES_MAX, VIEW_COLUMNS_MAX, View};
use crate::bytes::{Reader, put_bytes};
use crate::schema::{
    Column, ColumnId, ColumnKind, DatabaseId, FieldType, NAME_BYTES_MAX, PartitionWidth, TableId, TableMode,
};
use crate::token::{Digest, GRANTS_MAX, Grant, Rights, Token, TokenId, Verifier};

mod kind {
    pub(super) const DATABASE: u8 = 1;
    pub(super) const DROP_DATABASE: u8 = 2;
    pub(super) const TABLE: u8 = 3;
    pub(super) const COLUMN: u8 = 4;
    pub(super) const DROP_TABLE: u8 = 5;
    pub(super) const NEXT_IDS: u8 = 6;
    pub(super) const COLUMN_RENAMED: u8 = 7;
    pub(super) const COLUMN_HIDDEN: u8 = 8;
    pub(super) const COLUMN_WIDENED: u8 = 9;
    pub(super) const WIDTH_CHANGED: u8 = 10;
    pub(super) const TOKEN: u8 = 11;
    pub(super) const TOKEN_REVOKED: u8 = 12;
    pub(super) const NEXT_TOKEN: u8 = 13;
    pub(super) const VIEW: u8 = 14;
    pub(super) const VIEW_DROPPED: u8 = 15;
}

impl Fact {
    /// Appends kind, length and body.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let kind = match self {
            Self::Database(database) => {
                body.extend_from_slice(&database.id.0.to_le_bytes());
                put_bytes(&mut body, database.name.as_bytes());
                kind::DATABASE
            }
            Self::DropDatabase(id) => {
                body.extend_from_slice(&id.0.to_le_bytes());
                kind::DROP_DATABASE
            }
            Self::Table { id, database, name, mode, widths } => {
                body.extend_from_slice(&id.0.to_le_bytes());
                body.extend_from_slice(&database.0.to_le_bytes());
                body.push(*mode as u8);
                put_bytes(&mut body, name.as_bytes());
                body.extend_from_slice(&(widths.len() as u32).to_le_bytes());
                for width in widths {
                    body.extend_from_slice(&width.from.to_le_bytes());
                    body.extend_from_slice(&width.width.to_le_bytes());
                }
                kind::TABLE
            }
            Self::Column { table, column } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.id.0.to_le_bytes());
                body.push(column.kind.code());
                put_bytes(&mut body, column.name.as_bytes());
                kind::COLUMN
            }
            Self::DropTable(id) => {
                body.extend_from_slice(&id.0.to_le_bytes());
                kind::DROP_TABLE
            }
            Self::ColumnRenamed { table, column, name } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.0.to_le_bytes());
                put_bytes(&mut body, name.as_bytes());
                kind::COLUMN_RENAMED
            }
            Self::ColumnHidden { table, column } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.0.to_le_bytes());
                kind::COLUMN_HIDDEN
            }
            Self::ColumnWidened { table, column } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.0.to_le_bytes());
                body.push(FieldType::F64.code());
                kind::COLUMN_WIDENED
            }
            Self::WidthChanged { table, width } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&width.from.to_le_bytes());
                body.extend_from_slice(&width.width.to_le_bytes());
                kind::WIDTH_CHANGED
            }
            Self::View(view) => {
                body.extend_from_slice(&view.id.0.to_le_bytes());
                body.extend_from_slice(&view.database.0.to_le_bytes());
                put_bytes(&mut body, view.name.as_bytes());
                put_bytes(&mut body, view.sql.as_bytes());
                body.extend_from_slice(&(view.columns.len() as u32).to_le_bytes());
                for (name, kind) in &view.columns {
                    put_bytes(&mut body, name.as_bytes());
                    put_bytes(&mut body, kind.as_bytes());
                }
                kind::VIEW
            }
            Self::ViewDropped(id) => {
                body.extend_from_slice(&id.0.to_le_bytes());
                kind::VIEW_DROPPED
            }
            Self::NextIds { database, table } => {
                body.extend_from_slice(&database.to_le_bytes());
                body.extend_from_slice(&table.to_le_bytes());
                kind::NEXT_IDS
            }
            Self::Token(token) => {
                encode_token(token, &mut body);
                kind::TOKEN
            }
            Self::TokenRevoked(id) => {
                body.extend_from_slice(&id.0.to_le_bytes());
                kind::TOKEN_REVOKED
            }
            Self::NextToken(next) => {
                body.extend_from_slice(&next.to_le_bytes());
                kind::NEXT_TOKEN
            }
        };
        out.push(kind);
        put_bytes(out, &body);
    }

    /// Every fact of a payload. Never panics: these bytes come from disk.
    pub(crate) fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        let mut reader = Reader::new(bytes);
        let mut facts = Vec::new();
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let mut body = Reader::new(reader.bytes()?);
            facts.push(Self::decode(kind, &mut body)?);
            if !body.is_empty() {
                return Err(format!("catalog fact of kind {kind} is longer than its fields"));
            }
        }
        Ok(facts)
    }

    fn decode(kind: u8, body: &mut Reader<'_>) -> Result<Self, String> {
        Ok(match kind {
            kind::DATABASE => Self::Database(Database { id: DatabaseId(id(body)?), name: name(body)? }),
            kind::DROP_DATABASE => Self::DropDatabase(DatabaseId(id(body)?)),
            kind::TABLE => {
                let id = TableId(self::id(body)?);
                let database = DatabaseId(self::id(body)?);
                let mode = match body.u8()? {
                    0 => TableMode::Upsert,
                    1 => TableMode::Append,
                    mode => return Err(format!("table mode {mode} is unknown")),
                };
                let name = name(body)?;
                let count = body.u32()?;
                let mut widths = Vec::new();
                for _ in 0..count {
                    let width = PartitionWidth { from: body.i64()?, width: body.i64()? };
                    let after = widths.last().is_none_or(|last: &PartitionWidth| last.from < width.from);
                    if width.width <= 0 || !after {
                        return Err("partition widths are not ascending and positive".to_owned());
                    }
                    widths.push(width);
                }
                if widths.first().is_none_or(|width| width.from != i64::MIN) {
                    return Err("partition widths do not start at the beginning of time".to_owned());
                }
                Self::Table { id, database, name, mode, widths }
            }
            kind::COLUMN => {
                let table = TableId(self::id(body)?);
                let id = user_column(body)?;
                let code = body.u8()?;
                let kind = ColumnKind::from_code(code).ok_or_else(|| format!("column kind {code} is unknown"))?;
                if kind == ColumnKind::Time {
                    return Err(format!("column id {} is reserved", id.0));
                }
                Self::Column { table, column: Column { id, name: name(body)?, kind } }
            }
            kind::DROP_TABLE => Self::DropTable(TableId(id(body)?)),
            kind::NEXT_IDS => Self::NextIds { database: body.u32()?, table: body.u32()? },
            kind::COLUMN_RENAMED => {
                Self::ColumnRenamed { table: TableId(id(body)?), column: user_column(body)?, name: name(body)? }
            }
            kind::COLUMN_HIDDEN => Self::ColumnHidden { table: TableId(id(body)?), column: user_column(body)? },
            kind::COLUMN_WIDENED => {
                let (table, column) = (TableId(id(body)?), user_column(body)?);
                match body.u8()? {
                    code if code == FieldType::F64.code() => Self::ColumnWidened { table, column },
                    code => return Err(format!("no column is widened to kind {code}")),
                }
            }
            kind::WIDTH_CHANGED => {
                let table = TableId(id(body)?);
                let width = PartitionWidth { from: body.i64()?, width: body.i64()? };
                if width.width <= 0 || width.from == i64::MIN || width.from.rem_euclid(width.width) != 0 {
                    return Err("a partition width is not positive, or does not start at a multiple of it".to_owned());
                }
                Self::WidthChanged { table, width }
            }
            kind::TOKEN => Self::Token(Arc::new(decode_token(body)?)),
            kind::TOKEN_REVOKED => Self::TokenRevoked(TokenId(id(body)?)),
            kind::NEXT_TOKEN => Self::NextToken(body.u32()?),
            kind::VIEW => Self::View(Arc::new(view(body)?)),
            kind::VIEW_DROPPED => Self::ViewDropped(TableId(id(body)?)),
            _ => return Err(format!("catalog fact kind {kind} is unknown")),
        })
    }
}

/// No end is the end of time.
const NEVER_NS: i64 = i64::MAX;

fn encode_token(token: &Token, body: &mut Vec<u8>) {
    body.extend_from_slice(&token.id.0.to_le_bytes());
    body.extend_from_slice(&token.created_ns.to_le_bytes());
    body.extend_from_slice(&token.expires_ns.unwrap_or(NEVER_NS).to_le_bytes());
    put_bytes(body, token.name.as_bytes());
    body.extend_from_slice(&token.digest.0);
    let Verifier { salt, iterations, stored_key, server_key } = &token.verifier;
    body.extend_from_slice(&iterations.to_le_bytes());
    body.extend_from_slice(salt);
    body.extend_from_slice(stored_key);
    body.extend_from_slice(server_key);
    body.extend_from_slice(&(token.grants.len() as u32).to_le_bytes());
    for grant in &token.grants {
        body.push(grant.rights.bits());
        body.push(u8::from(grant.database.is_some()));
        if let Some(database) = &grant.database {
            put_bytes(body, database.as_bytes());
        }
    }
}

fn decode_token(body: &mut Reader<'_>) -> Result<Token, String> {
    let id = TokenId(id(body)?);
    let created_ns = body.i64()?;
    let expires_ns = Some(body.i64()?).filter(|expires_ns| *expires_ns != NEVER_NS);
    let name = name(body)?;
    let digest = Digest(body.array()?);
    let iterations = body.u32()?;
    let verifier = Verifier { iterations, salt: body.array()?, stored_key: body.array()?, server_key: body.array()? };
    let count = body.u32()? as usize;
    if GRANTS_MAX < count {
        return Err(format!("a token has {count} grants"));
    }
    let mut grants = Vec::with_capacity(count);
    for _ in 0..count {
        let bits = body.u8()?;
        let rights = Rights::from_bits(bits).ok_or_else(|| format!("rights {bits} are unknown"))?;
        let database = match body.u8()? {
            0 => None,
            1 => Some(self::name(body)?),
            form => return Err(format!("grant form {form} is unknown")),
        };
        grants.push(Grant { database, rights });
    }
    let token = Token { id, name, digest, verifier, grants, created_ns, expires_ns };
    token.check().map(|()| token)
}

fn view(body: &mut Reader<'_>) -> Result<View, String> {
    let (id, database, name) = (TableId(id(body)?), DatabaseId(id(body)?), name(body)?);
    let sql = body.bytes()?;
    if VIEW_BYTES_MAX < sql.len() {
        return Err("the text of a view is too long".to_owned());
    }
    let sql = String::from_utf8(sql.to_vec()).map_err(|_| "the text of a view is not UTF-8".to_owned())?;
    let count = body.u32()? as usize;
    if VIEW_COLUMNS_MAX < count {
        return Err("a view has too many columns".to_owned());
    }
    let columns = (0..count).map(|_| Ok((self::name(body)?, self::name(body)?))).collect::<Result<_, String>>()?;
    Ok(View { id, database, name, sql, columns })
}

fn id(body: &mut Reader<'_>) -> Result<u32, String> {
    let id = body.u32()?;
    if id == u32::MAX { Err("id is out of range".to_owned()) } else { Ok(id) }
}

fn user_column(body: &mut Reader<'_>) -> Result<ColumnId, String> {
    let id = ColumnId(self::id(body)?);
    if id < ColumnId::FIRST_USER { Err(format!("column id {} is reserved", id.0)) } else { Ok(id) }
}

fn name(body: &mut Reader<'_>) -> Result<String, String> {
    let bytes = body.bytes()?;
    if bytes.len() > NAME_BYTES_MAX {
        return Err("name is too long".to_owned());
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| "name is not UTF-8".to_owned())
}
