//! `json_build_object(key, value, …)`: a text, for JSON is text here.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use datafusion::arrow::compute::cast;
use datafusion::common::{Result as DfResult, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The function.
pub(super) fn build_object() -> ScalarUDF {
    ScalarUDF::new_from_impl(BuildObject { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BuildObject {
    signature: Signature,
}

impl ScalarUDFImpl for BuildObject {
    fn name(&self) -> &str {
        "json_build_object"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match given.len() % 2 {
            0 => Ok(given.to_vec()),
            _ => plan_err!("json_build_object takes a value for each key"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let texts = arrays.iter().map(|array| cast(array, &DataType::Utf8View)).collect::<Result<Vec<_>, _>>()?;
        let pairs: Vec<_> = arrays.iter().zip(&texts).collect();
        let mut made = Vec::with_capacity(rows);
        for row in 0..rows {
            let mut members = Vec::with_capacity(pairs.len() / 2);
            for pair in pairs.chunks_exact(2) {
                let [(_, key), (value, text)] = pair else { continue };
                if key.is_null(row) {
                    return plan_err!("a key of a JSON object is null");
                }
                members.push(format!("{} : {}", quoted(key.as_string_view().value(row)), member(value, text, row)));
            }
            made.push(Some(format!("{{{}}}", members.join(", "))));
        }
        Ok(ColumnarValue::Array(std::sync::Arc::new(arrow_array::StringViewArray::from(made))))
    }
}

/// A value: numbers and booleans stand as they are, all others are texts.
fn member(value: &ArrayRef, text: &ArrayRef, row: usize) -> String {
    if text.is_null(row) {
        return "null".to_owned();
    }
    let text = text.as_string_view().value(row);
    let is_plain = value.data_type().is_numeric() || value.data_type() == &DataType::Boolean;
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
