//! What the server says about itself: names, abilities, types.

use std::sync::OnceLock;

use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{Nullable, Searchable, SqlInfo, SqlSupportedTransaction, XdbcDataType};
use tonic::Status;

use super::internal;

static SQL_INFO: OnceLock<SqlInfoData> = OnceLock::new();
static TYPES: OnceLock<XdbcTypeInfoData> = OnceLock::new();
/// Of the format that Arrow data has on the wire.
const ARROW_VERSION: &str = "1.5";

/// Answers to `GetSqlInfo`.
pub(super) fn sql_info() -> Result<&'static SqlInfoData, Status> {
    if let Some(known) = SQL_INFO.get() {
        return Ok(known);
    }
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Marigram");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    let info = info.build().map_err(internal)?;
    Ok(SQL_INFO.get_or_init(|| info))
}

/// Answers to `GetXdbcTypeInfo`: the types of stored columns, with the limits that values have.
pub(super) fn types() -> Result<&'static XdbcTypeInfoData, Status> {
    if let Some(known) = TYPES.get() {
        return Ok(known);
    }
    let mut types = XdbcTypeInfoDataBuilder::new();
    let one = |name: &str, kind: XdbcDataType, size: i32, radix: Option<i32>, quote: Option<&str>| XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type: kind,
        column_size: Some(size),
        literal_prefix: quote.map(str::to_owned),
        literal_suffix: quote.map(str::to_owned),
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: quote.is_some(),
        searchable: Searchable::Full,
        unsigned_attribute: radix.map(|_| false),
        fixed_prec_scale: false,
        auto_increment: Some(false),
        local_type_name: Some(name.to_owned()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: kind,
        datetime_subcode: None,
        num_prec_radix: radix,
        interval_precision: None,
    };
    types.append(one("BIGINT", XdbcDataType::XdbcBigint, 64, Some(2), None));
    types.append(one("DOUBLE PRECISION", XdbcDataType::XdbcDouble, 53, Some(2), None));
    types.append(one("VARCHAR", XdbcDataType::XdbcVarchar, i32::MAX, None, Some("'")));
    types.append(one("BOOLEAN", XdbcDataType::XdbcBit, 1, None, None));
    types.append(one("TIMESTAMP", XdbcDataType::XdbcTimestamp, 29, None, Some("'")));
    let types = types.build().map_err(internal)?;
    Ok(TYPES.get_or_init(|| types))
}
