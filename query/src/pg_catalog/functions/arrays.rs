//! Functions of arrays of any type that DataFusion lacks.
//!
//! An array of PostgreSQL begins at 1, an `int2vector` and an `oidvector` at 0.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, ListArray, StringViewArray, StructArray, new_empty_array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use datafusion::arrow::compute::cast;
use datafusion::common::{Result as DfResult, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::pg_catalog::types;

/// What is done with an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The first subscript.
    Lower,
    /// The last one.
    Upper,
    /// All of them, as an array.
    Subscripts,
    /// Pairs of an element and its place, counted from 1.
    Expand,
    /// As text: in braces, or, of a vector, with blanks between.
    Text,
    /// An empty array for null.
    NotNull,
}

/// All of them, under the names that statements or rewritten ones call them by.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let kinds = [
        ("array_lower", Kind::Lower),
        ("array_upper", Kind::Upper),
        ("generate_subscripts", Kind::Subscripts),
        ("_pg_expandarray", Kind::Expand),
        ("array_out", Kind::Text),
        ("array_not_null", Kind::NotNull),
    ];
    kinds.into_iter().map(|(name, kind)| Arc::new(ScalarUDF::new_from_impl(OfArray::new(name, kind)))).collect()
}

/// The function that writes an array as text.
pub(crate) fn array_out() -> ScalarUDF {
    ScalarUDF::new_from_impl(OfArray::new("array_out", Kind::Text))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfArray {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl OfArray {
    fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// Whether a dimension is named behind the array.
    fn takes_dimension(&self) -> bool {
        matches!(self.kind, Kind::Lower | Kind::Upper | Kind::Subscripts)
    }
}

impl ScalarUDFImpl for OfArray {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match given {
            [array] if !self.takes_dimension() => Ok(vec![array_type(array)]),
            [array, _] if self.takes_dimension() => Ok(vec![array_type(array), DataType::Int32]),
            _ => plan_err!("function {} does not take {} arguments", self.name, given.len()),
        }
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        let array = given.first().cloned().unwrap_or(DataType::Null);
        Ok(match self.kind {
            Kind::Lower | Kind::Upper => DataType::Int32,
            Kind::Subscripts => DataType::new_list(DataType::Int32, true),
            Kind::Expand => DataType::List(Arc::new(Field::new("item", DataType::Struct(pair(&array)), true))),
            Kind::Text => DataType::Utf8View,
            Kind::NotNull => array,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let given: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name, self.return_type(&given)?, true);
        Ok(Arc::new(match args.arg_fields.first() {
            Some(first) if self.kind == Kind::NotNull => field.with_metadata(first.metadata().clone()),
            _ => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let is_vector = args.arg_fields.first().is_some_and(types::is_vector);
        let Some(array) = arrays.first() else { return plan_err!("function {} takes an array", self.name) };
        // A null of no type is an array of nothing.
        let array = cast(array, &array_type(array.data_type()))?;
        let lists = array.as_list::<i32>();
        let of_dimension = |row: usize| match arrays.get(1) {
            Some(dimensions) => {
                let dimensions = dimensions.as_primitive::<arrow_array::types::Int32Type>();
                lists.is_valid(row) && dimensions.is_valid(row) && dimensions.value(row) == 1
            }
            None => lists.is_valid(row),
        };
        let start = if is_vector { 0 } else { 1 };
        let bounds = |row: usize| {
            let length = lists.value_length(row);
            (of_dimension(row) && 0 < length).then_some((start, start + length - 1))
        };
        let made: ArrayRef = match self.kind {
            Kind::Lower => Arc::new((0..rows).map(|row| bounds(row).map(|of| of.0)).collect::<Int32Array>()),
            Kind::Upper => Arc::new((0..rows).map(|row| bounds(row).map(|of| of.1)).collect::<Int32Array>()),
            Kind::Subscripts => {
                let mut builder = ListBuilder::new(Int32Builder::new());
                for row in 0..rows {
                    match bounds(row) {
                        Some((first, last)) => builder.append_value((first..=last).map(Some)),
                        None => builder.append_value([]),
                    }
                }
                Arc::new(builder.finish())
            }
            Kind::Expand => expand(lists)?,
            Kind::Text => texts(lists, is_vector)?,
            Kind::NotNull => not_null(lists)?,
        };
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)),
            false => Ok(ColumnarValue::Array(made)),
        }
    }
}

/// An array, whatever it was.
fn array_type(given: &DataType) -> DataType {
    match given {
        DataType::List(_) => given.clone(),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(Arc::clone(item)),
        _ => DataType::new_list(DataType::Utf8View, true),
    }
}

fn pair(array: &DataType) -> Fields {
    let item = match array {
        DataType::List(item) => item.data_type().clone(),
        _ => DataType::Null,
    };
    Fields::from(vec![Field::new("x", item, true), Field::new("n", DataType::Int32, true)])
}

fn expand(lists: &ListArray) -> DfResult<ArrayRef> {
    let values = lists.values();
    let mut places = vec![0; values.len()];
    for window in lists.offsets().windows(2) {
        let [from, to] = window else { continue };
        for (place, at) in (1..).zip(*from..*to) {
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| places.get_mut(at)) {
                *slot = place;
            }
        }
    }
    let fields = pair(lists.data_type());
    let pairs =
        StructArray::try_new(fields.clone(), vec![Arc::clone(values), Arc::new(Int32Array::from(places))], None)?;
    let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
    Ok(Arc::new(ListArray::try_new(item, lists.offsets().clone(), Arc::new(pairs), lists.nulls().cloned())?))
}

fn texts(lists: &ListArray, is_vector: bool) -> DfResult<ArrayRef> {
    let one = |items: ArrayRef| -> DfResult<String> {
        let items = cast(&items, &DataType::Utf8View)?;
        let item = |text: Option<&str>| match text {
            None => "NULL".to_owned(),
            Some(text) => quoted(text),
        };
        let items: Vec<_> = items.as_string_view().iter().map(item).collect();
        Ok(if is_vector { items.join(" ") } else { format!("{{{}}}", items.join(",")) })
    };
    let rows = (0..lists.len()).map(|row| lists.is_valid(row).then(|| one(lists.value(row))).transpose());
    Ok(Arc::new(rows.collect::<DfResult<StringViewArray>>()?))
}

/// An element of an array as text.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '{' | '}' | ',' | '"' | '\\');
    if !text.is_empty() && text.chars().all(is_plain) && !text.eq_ignore_ascii_case("null") {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn not_null(lists: &ListArray) -> DfResult<ArrayRef> {
    let DataType::List(item) = lists.data_type() else { return plan_err!("an array is needed") };
    if lists.null_count() == 0 {
        return Ok(Arc::new(lists.clone()));
    }
    let lengths = (0..lists.len()).map(|row| if lists.is_valid(row) { lists.value_length(row) as usize } else { 0 });
    let parts: Vec<ArrayRef> =
        (0..lists.len()).filter(|row| lists.is_valid(*row)).map(|row| lists.value(row)).collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let values = match parts.is_empty() {
        true => new_empty_array(item.data_type()),
        false => datafusion::arrow::compute::concat(&parts)?,
    };
    let nulls: Option<NullBuffer> = None;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}
