//! `approx_percentile(value, p)`, `approx_median(value)`, `approx_distinct(value)` and `histogram(value, min, max, n)`: over the
//! sketches of `marigram_storage::aggregate`, which are the same for the same rows, in any order and any split.
//!
//! `approx_distinct` and `approx_median` replace DataFusion's: the first hashes by what the processor offers, so its states differ
//! between machines and cannot be stored; the second depends on the order in which rows come.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Builder, ListBuilder, UInt64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility};
use marigram_storage::aggregate::{DistinctSketch, Histogram, HistogramRange, InvalidState, QuantileSketch};

use super::grouped::{self, Function, Grouped};
use super::{argument, broken_state, constant_argument, invalid};

/// Which of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sketch {
    Percentile,
    Median,
    Distinct,
    Histogram,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SketchFunction {
    sketch: Sketch,
    signature: Signature,
}

impl SketchFunction {
    pub(super) fn new(sketch: Sketch) -> Self {
        Self { sketch, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// How the function is called.
    fn call(&self) -> &'static str {
        match self.sketch {
            Sketch::Percentile => "approx_percentile(value, p)",
            Sketch::Median => "approx_median(value)",
            Sketch::Distinct => "approx_distinct(value)",
            Sketch::Histogram => "histogram(value, min, max, n)",
        }
    }

    /// The share of values that a percentile is asked for.
    fn share(&self, args: &AccumulatorArgs) -> Result<f64> {
        match args.exprs.get(1) {
            None => Ok(0.5),
            Some(p) => match constant_argument(p, "the share of approx_percentile")? {
                ScalarValue::Float64(Some(p)) if (0.0..=1.0).contains(&p) => Ok(p),
                other => Err(invalid(format!("the share of approx_percentile must be from 0 to 1, not {other}"))),
            },
        }
    }

    fn range(&self, args: &AccumulatorArgs) -> Result<HistogramRange> {
        let constant = |index| constant_argument(argument(args.exprs, index)?, "the range of histogram");
        let range = match (constant(1)?, constant(2)?, constant(3)?) {
            (ScalarValue::Float64(Some(min)), ScalarValue::Float64(Some(max)), ScalarValue::Int64(Some(parts))) => {
                u32::try_from(parts).ok().and_then(|parts| HistogramRange::new(min, max, parts))
            }
            _ => None,
        };
        range.ok_or_else(|| {
            let most = HistogramRange::PARTS_MAX;
            invalid(format!("histogram needs finite ends, the first below the second, and 1 to {most} parts"))
        })
    }
}

/// Expands to `$make!(function)` with the function of the call.
macro_rules! with_function {
    ($self:expr, $args:expr, $make:ident) => {
        match $self.sketch {
            Sketch::Distinct => $make!(Distinct),
            _ if $args.is_distinct => plan_err!("DISTINCT is not supported in {}", $self.call()),
            Sketch::Percentile | Sketch::Median => $make!(Percentile { share: $self.share(&$args)? }),
            Sketch::Histogram => $make!(Counts { range: $self.range(&$args)? }),
        }
    };
}

impl AggregateUDFImpl for SketchFunction {
    fn name(&self) -> &str {
        self.call().split('(').next().unwrap_or_default()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let constants: &[DataType] = match self.sketch {
            Sketch::Percentile => &[DataType::Float64],
            Sketch::Median | Sketch::Distinct => &[],
            Sketch::Histogram => &[DataType::Float64, DataType::Float64, DataType::Int64],
        };
        let Some((value, given)) = arg_types.split_first().filter(|(_, given)| given.len() == constants.len()) else {
            return plan_err!("{} is how it is called", self.call());
        };
        if !given.iter().all(|kind| kind.is_numeric() || kind.is_null()) {
            return plan_err!("{} is how it is called, with numbers", self.call());
        }
        let value = match value {
            DataType::Dictionary(_, value) => value,
            value => value,
        };
        let value = match (self.sketch, value) {
            (Sketch::Distinct, value) => countable(value)?,
            (_, value) if value.is_numeric() || value.is_null() => DataType::Float64,
            (_, other) => return plan_err!("{} is not supported for values of type {other}", self.name()),
        };
        Ok([&[value], constants].concat())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.sketch {
            Sketch::Percentile | Sketch::Median => DataType::Float64,
            Sketch::Distinct => DataType::UInt64,
            Sketch::Histogram => DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))),
        })
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.sketch {
            Sketch::Distinct => Ok(ScalarValue::UInt64(Some(0))),
            _ => ScalarValue::try_from(data_type),
        }
    }

    fn is_nullable(&self) -> bool {
        self.sketch != Sketch::Distinct
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(grouped::state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        macro_rules! make {
            ($function:expr) => {
                Ok(Box::new(Grouped::new($function)))
            };
        }
        with_function!(self, args, make)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! make {
            ($function:expr) => {
                Ok(Box::new(Grouped::new($function)))
            };
        }
        with_function!(self, args, make)
    }

    /// A window that grows would shrink, were it read from its end: nothing can be taken out of a state.
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The type by which values are told apart.
fn countable(value: &DataType) -> Result<DataType> {
    use DataType::*;
    Ok(match value {
        Utf8 | LargeUtf8 | Utf8View | Null => Utf8View,
        Int8 | Int16 | Int32 | Int64 => Int64,
        UInt8 | UInt16 | UInt32 | UInt64 => UInt64,
        Float16 | Float32 | Float64 => Float64,
        Boolean | Date32 | Date64 | Timestamp(..) | Duration(_) | Time32(_) | Time64(_) => value.clone(),
        other => return plan_err!("approx_distinct is not supported for values of type {other}"),
    })
}

fn refused(error: InvalidState) -> datafusion::common::DataFusionError {
    broken_state(error)
}

#[derive(Clone, Debug)]
struct Percentile {
    share: f64,
}

impl Function for Percentile {
    type State = QuantileSketch;
    type Rows = Float64Array;
    const COLUMNS: usize = 1;

    fn rows(&self, columns: &[ArrayRef]) -> Result<Float64Array> {
        Ok(argument(columns, 0)?.as_primitive::<Float64Type>().clone())
    }
    #[inline]
    fn add(&self, state: &mut QuantileSketch, rows: &Float64Array, row: usize) -> Result<()> {
        state.add(rows.value(row));
        Ok(())
    }
    fn merge(&self, state: &mut QuantileSketch, bytes: &[u8]) -> Result<()> {
        state.merge(&QuantileSketch::deserialize(bytes).map_err(refused)?);
        Ok(())
    }
    fn serialize(&self, state: &QuantileSketch, out: &mut Vec<u8>) {
        state.serialize(out);
    }
    fn heap_bytes(state: &QuantileSketch) -> usize {
        state.heap_bytes()
    }
    fn finish(&self, states: &mut [QuantileSketch]) -> Result<ArrayRef> {
        Ok(Arc::new(states.iter().map(|state| state.quantile(self.share)).collect::<Float64Array>()))
    }
}

#[derive(Clone, Debug)]
struct Distinct;

impl Function for Distinct {
    type State = DistinctSketch;
    /// Hashes.
    type Rows = Vec<u64>;
    const COLUMNS: usize = 1;

    fn rows(&self, columns: &[ArrayRef]) -> Result<Vec<u64>> {
        let column = argument(columns, 0)?;
        Ok(match column.data_type() {
            DataType::Utf8View => column
                .as_string_view()
                .iter()
                .map(|text| DistinctSketch::hash_of_text(text.unwrap_or_default()))
                .collect(),
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().values();
                values.iter().map(|value| DistinctSketch::hash_of_float(*value)).collect()
            }
            // Unsigned ones by their bits, which are those of the signed ones.
            DataType::UInt64 => {
                let values = column.as_primitive::<datafusion::arrow::datatypes::UInt64Type>().values();
                values.iter().map(|value| DistinctSketch::hash_of_integer(*value)).collect()
            }
            _ => {
                let values = cast(column, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>().values();
                values.iter().map(|value| DistinctSketch::hash_of_integer(*value as u64)).collect()
            }
        })
    }
    #[inline]
    fn add(&self, state: &mut DistinctSketch, rows: &Vec<u64>, row: usize) -> Result<()> {
        state.add(rows[row]);
        Ok(())
    }
    fn merge(&self, state: &mut DistinctSketch, bytes: &[u8]) -> Result<()> {
        state.merge(&DistinctSketch::deserialize(bytes).map_err(refused)?);
        Ok(())
    }
    fn serialize(&self, state: &DistinctSketch, out: &mut Vec<u8>) {
        state.serialize(out);
    }
    fn heap_bytes(state: &DistinctSketch) -> usize {
        state.heap_bytes()
    }
    fn finish(&self, states: &mut [DistinctSketch]) -> Result<ArrayRef> {
        Ok(Arc::new(UInt64Array::from_iter_values(states.iter().map(|state| state.estimate()))))
    }
}

#[derive(Clone, Debug)]
struct Counts {
    range: HistogramRange,
}

impl Function for Counts {
    type State = Histogram;
    type Rows = Float64Array;
    const COLUMNS: usize = 1;

    fn rows(&self, columns: &[ArrayRef]) -> Result<Float64Array> {
        Ok(argument(columns, 0)?.as_primitive::<Float64Type>().clone())
    }
    #[inline]
    fn add(&self, state: &mut Histogram, rows: &Float64Array, row: usize) -> Result<()> {
        state.add(&self.range, rows.value(row));
        Ok(())
    }
    fn merge(&self, state: &mut Histogram, bytes: &[u8]) -> Result<()> {
        state.merge(&Histogram::deserialize(&self.range, bytes).map_err(refused)?);
        Ok(())
    }
    fn serialize(&self, state: &Histogram, out: &mut Vec<u8>) {
        state.serialize(out);
    }
    fn heap_bytes(state: &Histogram) -> usize {
        state.heap_bytes()
    }
    fn finish(&self, states: &mut [Histogram]) -> Result<ArrayRef> {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for state in states {
            let counts = state.counts();
            counts.iter().for_each(|count| lists.values().append_value(i64::try_from(*count).unwrap_or(i64::MAX)));
            lists.append(!counts.is_empty());
        }
        Ok(Arc::new(lists.finish()))
    }
}
