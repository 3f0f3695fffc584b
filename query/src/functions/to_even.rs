//! `to_even(x)`: the whole double that is nearest, the even one of two: what a cast to an integer takes in PostgreSQL.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Float64Array};
use datafusion::arrow::compute::unary;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::argument;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ToEven {
    signature: Signature,
}

impl ToEven {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToEven {
    fn name(&self) -> &str {
        "to_even"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match argument(&args.args, 0)? {
            ColumnarValue::Scalar(ScalarValue::Float64(value)) => {
                Ok(ColumnarValue::Scalar(ScalarValue::Float64(value.map(f64::round_ties_even))))
            }
            ColumnarValue::Scalar(_) => Ok(ColumnarValue::Scalar(ScalarValue::Float64(None))),
            ColumnarValue::Array(values) => {
                let rounded: Float64Array = unary(values.as_primitive::<Float64Type>(), f64::round_ties_even);
                Ok(ColumnarValue::Array(Arc::new(rounded)))
            }
        }
    }
}
