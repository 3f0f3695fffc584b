//! `avg(x)`: the exact sum over the count, rounded once. Integers are not made doubles first.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::types::{
    NativeType, logical_float64, logical_int8, logical_int16, logical_int32, logical_int64, logical_uint8,
    logical_uint16, logical_uint32, logical_uint64,
};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Coercion, GroupsAccumulator, ReversedUDAF, Signature, TypeSignature,
    TypeSignatureClass, Volatility,
};

use super::exact::Exact;
use super::totals::Finish;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Avg {
    exact: Exact,
    signature: Signature,
}

impl Avg {
    pub(super) fn new() -> Self {
        let exact = |class| TypeSignature::Coercible(vec![Coercion::new_exact(class)]);
        let widened = |class, from: Vec<_>, to| TypeSignature::Coercible(vec![Coercion::new_implicit(class, from, to)]);
        let native = TypeSignatureClass::Native;
        let signatures = vec![
            exact(TypeSignatureClass::Decimal),
            exact(TypeSignatureClass::Duration),
            widened(
                native(logical_uint64()),
                vec![native(logical_uint8()), native(logical_uint16()), native(logical_uint32())],
                NativeType::UInt64,
            ),
            widened(
                native(logical_int64()),
                vec![native(logical_int8()), native(logical_int16()), native(logical_int32())],
                NativeType::Int64,
            ),
            widened(native(logical_float64()), vec![TypeSignatureClass::Float], NativeType::Float64),
        ];
        Self {
            exact: Exact::new(avg_udaf(), Finish::Mean),
            signature: Signature::one_of(signatures, Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for Avg {
    fn name(&self) -> &str {
        "avg"
    }

    fn aliases(&self) -> &[String] {
        self.exact.builtin().aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.exact.builtin().return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.exact.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.exact.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.exact.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.exact.groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.exact.sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
