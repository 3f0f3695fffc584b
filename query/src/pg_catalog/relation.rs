//! The relations of `pg_catalog`: their columns as PostgreSQL 15 has them, and how rows of them are made.
//!
//! The facts are in `relations.tsv`, written by `tests/catalog/facts.sh`. Rows name the columns that they have something for;
//! the others are null, or nought where PostgreSQL has no null. Only the columns of a scan's projection are made.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    BooleanBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder,
    StringViewBuilder, TimestampNanosecondBuilder, UInt32Builder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::types;
use crate::error::QueryError;

/// A relation of the catalog.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) name: &'static str,
    pub(crate) oid: u32,
    /// `r` or `v`.
    pub(crate) kind: &'static str,
    pub(crate) columns: Vec<RelationColumn>,
    pub(crate) schema: SchemaRef,
}

/// A column of it.
#[derive(Debug)]
pub(crate) struct RelationColumn {
    pub(crate) name: &'static str,
    pub(crate) pg_type: &'static str,
    pub(crate) not_null: bool,
}

static RELATIONS: LazyLock<HashMap<&'static str, Relation>> = LazyLock::new(|| {
    let all = include_str!("relations.tsv").lines().filter_map(relation);
    all.map(|relation| (relation.name, relation)).collect()
});

fn relation(line: &'static str) -> Option<Relation> {
    let mut parts = line.split('\t');
    let (name, oid, kind) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let columns: Vec<_> = parts.next()?.split(' ').filter_map(column).collect();
    let field = |column: &RelationColumn| types::field(column.name, column.pg_type, !column.not_null);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    Some(Relation { name, oid, kind, columns, schema })
}

fn column(text: &'static str) -> Option<RelationColumn> {
    let (name, pg_type) = text.split_once(':')?;
    let not_null = pg_type.ends_with('!');
    Some(RelationColumn { name, pg_type: pg_type.trim_end_matches('!'), not_null })
}

/// The relation of a name.
pub(crate) fn by_name(name: &str) -> Option<&'static Relation> {
    RELATIONS.get(name)
}

/// All of them, by name.
pub(crate) fn all() -> Vec<&'static Relation> {
    let mut all: Vec<_> = RELATIONS.values().collect();
    all.sort_by_key(|relation| relation.name);
    all
}

/// One value of a row.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    I16(i16),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
    Oid(u32),
    Text(&'a str),
    Owned(String),
    /// ns since the epoch.
    Time(i64),
    Texts(Vec<String>),
    I16s(Vec<i16>),
    I32s(Vec<i32>),
    Oids(Vec<u32>),
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        text.map_or(Value::Null, Value::Owned)
    }
}

/// What gathers the values of one column.
pub(crate) enum Column {
    Bool(BooleanBuilder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
    Oid(UInt32Builder),
    Text(StringViewBuilder),
    Time(TimestampNanosecondBuilder),
    Texts(ListBuilder<StringViewBuilder>),
    I16s(ListBuilder<Int16Builder>),
    I32s(ListBuilder<Int32Builder>),
    Oids(ListBuilder<UInt32Builder>),
}

impl Column {
    /// For a field of [`types::field`].
    pub(crate) fn new(field: &Field) -> Self {
        match field.data_type() {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int16 => Self::I16(Int16Builder::new()),
            DataType::Int32 => Self::I32(Int32Builder::new()),
            DataType::Int64 => Self::I64(Int64Builder::new()),
            DataType::Float32 => Self::F32(Float32Builder::new()),
            DataType::Float64 => Self::F64(Float64Builder::new()),
            DataType::UInt32 => Self::Oid(UInt32Builder::new()),
            DataType::Timestamp(..) => Self::Time(TimestampNanosecondBuilder::new()),
            DataType::List(item) => {
                let of = Arc::clone(item);
                match item.data_type() {
                    DataType::Int16 => Self::I16s(ListBuilder::new(Int16Builder::new()).with_field(of)),
                    DataType::Int32 => Self::I32s(ListBuilder::new(Int32Builder::new()).with_field(of)),
                    DataType::UInt32 => Self::Oids(ListBuilder::new(UInt32Builder::new()).with_field(of)),
                    _ => Self::Texts(ListBuilder::new(StringViewBuilder::new()).with_field(of)),
                }
            }
            _ => Self::Text(StringViewBuilder::new()),
        }
    }

    /// Appends; a value of another kind is null.
    pub(crate) fn append(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Bool(to), Value::Bool(value)) => to.append_value(value),
            (Self::Bool(to), _) => to.append_null(),
            (Self::I16(to), Value::I16(value)) => to.append_value(value),
            (Self::I16(to), _) => to.append_null(),
            (Self::I32(to), Value::I32(value)) => to.append_value(value),
            (Self::I32(to), _) => to.append_null(),
            (Self::I64(to), Value::I64(value)) => to.append_value(value),
            (Self::I64(to), _) => to.append_null(),
            (Self::F32(to), Value::F32(value)) => to.append_value(value),
            (Self::F32(to), _) => to.append_null(),
            (Self::F64(to), Value::F64(value)) => to.append_value(value),
            (Self::F64(to), _) => to.append_null(),
            (Self::Oid(to), Value::Oid(value)) => to.append_value(value),
            (Self::Oid(to), _) => to.append_null(),
            (Self::Time(to), Value::Time(value)) => to.append_value(value),
            (Self::Time(to), _) => to.append_null(),
            (Self::Text(to), Value::Text(value)) => to.append_value(value),
            (Self::Text(to), Value::Owned(value)) => to.append_value(value),
            (Self::Text(to), _) => to.append_null(),
            (Self::Texts(to), Value::Texts(values)) => to.append_value(values.into_iter().map(Some)),
            (Self::Texts(to), _) => to.append_null(),
            (Self::I16s(to), Value::I16s(values)) => to.append_value(values.into_iter().map(Some)),
            (Self::I16s(to), _) => to.append_null(),
            (Self::I32s(to), Value::I32s(values)) => to.append_value(values.into_iter().map(Some)),
            (Self::I32s(to), _) => to.append_null(),
            (Self::Oids(to), Value::Oids(values)) => to.append_value(values.into_iter().map(Some)),
            (Self::Oids(to), _) => to.append_null(),
        }
    }

    /// Appends what stands for nothing where null is not allowed.
    fn append_nought(&mut self) {
        match self {
            Self::Bool(to) => to.append_value(false),
            Self::I16(to) => to.append_value(0),
            Self::I32(to) => to.append_value(0),
            Self::I64(to) => to.append_value(0),
            Self::F32(to) => to.append_value(0.0),
            Self::F64(to) => to.append_value(0.0),
            Self::Oid(to) => to.append_value(0),
            Self::Text(to) => to.append_value(""),
            Self::Time(to) => to.append_value(0),
            Self::Texts(to) => to.append(true),
            Self::I16s(to) => to.append(true),
            Self::I32s(to) => to.append(true),
            Self::Oids(to) => to.append(true),
        }
    }

    pub(crate) fn finish(self) -> ArrayRef {
        match self {
            Self::Bool(mut of) => Arc::new(of.finish()),
            Self::I16(mut of) => Arc::new(of.finish()),
            Self::I32(mut of) => Arc::new(of.finish()),
            Self::I64(mut of) => Arc::new(of.finish()),
            Self::F32(mut of) => Arc::new(of.finish()),
            Self::F64(mut of) => Arc::new(of.finish()),
            Self::Oid(mut of) => Arc::new(of.finish()),
            Self::Text(mut of) => Arc::new(of.finish()),
            Self::Time(mut of) => Arc::new(of.finish()),
            Self::Texts(mut of) => Arc::new(of.finish()),
            Self::I16s(mut of) => Arc::new(of.finish()),
            Self::I32s(mut of) => Arc::new(of.finish()),
            Self::Oids(mut of) => Arc::new(of.finish()),
        }
    }
}

/// Rows of one relation while they are made.
pub(crate) struct Rows {
    relation: &'static Relation,
    schema: SchemaRef,
    columns: Vec<(&'static RelationColumn, Column)>,
    count: usize,
}

impl Rows {
    /// For the columns at `projection`.
    pub(crate) fn new(relation: &'static Relation, projection: &[usize]) -> Result<Self, QueryError> {
        let failed = |error| QueryError::internal(format!("cannot project: {error}"));
        let schema = Arc::new(relation.schema.project(projection).map_err(failed)?);
        let of = projection.iter().filter_map(|at| relation.columns.get(*at));
        let columns = of.zip(schema.fields()).map(|(column, field)| (column, Column::new(field))).collect();
        Ok(Self { relation, schema, columns, count: 0 })
    }

    /// Whose rows they are.
    pub(crate) fn relation_name(&self) -> &'static str {
        self.relation.name
    }

    /// One row, of what it has by name.
    pub(crate) fn push(&mut self, values: &[(&str, Value<'_>)]) {
        let known = |name: &str| self.relation.columns.iter().any(|column| column.name == name);
        debug_assert!(values.iter().all(|(name, _)| known(name)), "{} lacks one of {values:?}", self.relation.name);
        self.count += 1;
        for (column, builder) in &mut self.columns {
            match values.iter().find(|(name, _)| *name == column.name) {
                Some((_, value)) => builder.append(value.clone()),
                None if column.not_null => builder.append_nought(),
                None => builder.append(Value::Null),
            }
        }
    }

    pub(crate) fn finish(self) -> Result<RecordBatch, QueryError> {
        let arrays = self.columns.into_iter().map(|(_, column)| column.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        RecordBatch::try_new_with_options(self.schema, arrays, &options)
            .map_err(|error| QueryError::internal(format!("cannot build a batch: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_facts_is_a_relation_of_known_types() {
        assert_eq!(all().len(), include_str!("relations.tsv").lines().count());
        for relation in all() {
            for column in &relation.columns {
                assert!(types::by_name(column.pg_type).is_some(), "{}.{}", relation.name, column.name);
            }
        }
    }
}
