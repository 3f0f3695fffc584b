//! The columns of an answer as every client reads them.
//!
//! Texts that lie in views or dictionaries go out as plain texts, because many readers know nothing else. What a statement
//! is described with and what its rows come with is the same to the last bit, or clients refuse the rows: so all columns
//! may be NULL, and say nothing beside their name and type.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};

/// The schema of a statement's rows.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| Field::new(field.name(), plain_type(field.data_type()), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The schema of a stored table, which says what is never NULL.
pub(super) fn of_table(schema: &Schema) -> Schema {
    let field = |field: &FieldRef| Field::new(field.name(), plain_type(field.data_type()), field.is_nullable());
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

fn plain_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(Field::clone(field).with_data_type(plain_type(field.data_type())));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(field) | DataType::ListView(field) => DataType::List(inner(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(inner(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(inner(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => other.clone(),
    }
}

/// The rows under a schema of the same columns.
pub(super) fn under(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false => arrow_cast::cast(column, field.data_type()),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<Vec<ArrayRef>, _>>()?, &options)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, StringViewArray, StructArray};

    use super::*;

    #[test]
    fn texts_are_plain_however_deep_they_lie() {
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let packed: ArrayRef = Arc::new(["x", "x"].into_iter().collect::<DictionaryArray<Int32Type>>());
        let inner = Field::new("v", DataType::Utf8View, true);
        let nested: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(inner), Arc::clone(&views))]));
        let batch = RecordBatch::try_from_iter([("views", views), ("packed", packed), ("nested", nested)]).unwrap();
        let schema = plain(&batch.schema());
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Utf8", "Utf8", "Struct(\"v\": Utf8)"]);
        let rows = under(&batch, &schema).unwrap();
        assert_eq!((rows.column(0).as_string::<i32>().value(0), rows.column(0).is_null(1)), ("a", true));
        assert_eq!(rows.column(1).as_string::<i32>().value(1), "x");
        assert_eq!(plain(&schema), schema, "once is enough");
    }
}
