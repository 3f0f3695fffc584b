//! Values that clients bind: columns of a batch, a row for each time that a statement runs.
//!
//! Arrow's reader trusts the lengths that a message names, and panics where they are lies; so it runs behind a guard, and a
//! broken message fails its call only.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, make_array};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_schema::{ArrowError, DataType, TimeUnit};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use marigram_query::ScalarParam;
use tonic::Status;

/// Rows of one message: a column without bytes may claim any number.
const ROWS_MAX: usize = 1 << 22;
/// Of the values that a handle carries.
const BOUND_BYTES_MAX: usize = 1 << 20;
/// The zone that times are handed on in.
const UTC: &str = "+00:00";

/// The values of one row, and their types.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bound {
    pub(super) values: Vec<ScalarParam>,
    pub(super) types: Vec<Option<DataType>>,
}

impl Bound {
    /// A row of a batch.
    pub(super) fn row(batch: &RecordBatch, row: usize) -> Result<Self, Status> {
        let mut bound = Self::default();
        for column in batch.columns() {
            let single = single(column, row)?;
            bound.values.push(scalar(&single)?);
            bound.types.push(Some(declared(single.data_type())));
        }
        Ok(bound)
    }

    /// The one row that a handle carries for a query, if any.
    pub(super) fn of_handle(messages: &[FlightData]) -> Result<Self, Status> {
        let batches = carried(messages)?;
        match batches.as_slice() {
            [] => Ok(Self::default()),
            [batch] if batch.num_rows() == 1 => Self::row(batch, 0),
            _ => Err(Status::invalid_argument("a query takes one row of values")),
        }
    }

    /// For `$1`, `$2`, …
    pub(super) fn numbered(self) -> HashMap<String, ScalarParam> {
        self.values.into_iter().enumerate().map(|(at, value)| ((at + 1).to_string(), value)).collect()
    }
}

/// What a client sends, batch by batch.
pub(super) fn received(data: PeekableFlightDataStream) -> BoxStream<'static, Result<RecordBatch, Status>> {
    decoded(data)
}

fn decoded(
    data: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch, Status>> {
    let data = data.map_err(|status| FlightError::Tonic(Box::new(status)));
    // Who has no values sends a message that only names the command.
    let data = data.try_filter(|message| {
        let is_data = !message.data_header.is_empty();
        async move { is_data }
    });
    let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
    let mut is_broken = false;
    futures::stream::poll_fn(move |context| {
        if is_broken {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| batches.poll_next_unpin(context)));
        let polled = polled.unwrap_or_else(|_| Poll::Ready(Some(Err(lying().into()))));
        polled.map(|batch| {
            let batch = batch?;
            is_broken = batch.is_err();
            Some(batch.map_err(of_stream).and_then(checked))
        })
    })
    .try_filter(|batch| {
        let has_rows = batch.num_rows() != 0;
        async move { has_rows }
    })
    .boxed()
}

/// What a client binds, as a handle carries it. It is read here, so that what cannot be is refused now.
pub(super) async fn to_carry(
    mut data: impl Stream<Item = Result<FlightData, Status>> + Unpin,
) -> Result<Vec<FlightData>, Status> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(message) = data.next().await {
        let FlightData { data_header, data_body, .. } = message?;
        bytes += data_header.len() + data_body.len();
        if BOUND_BYTES_MAX < bytes {
            let message = format!("a handle carries at most {BOUND_BYTES_MAX} bytes of values");
            return Err(Status::invalid_argument(message));
        }
        if !data_header.is_empty() {
            messages.push(FlightData { data_header, data_body, ..FlightData::default() });
        }
    }
    for batch in carried(&messages)? {
        (0..batch.num_rows()).try_for_each(|row| Bound::row(&batch, row).map(|_| ()))?;
    }
    Ok(messages)
}

/// What a handle carries. Its parts are messages and no Arrow stream: where those name a length, the reader takes as much
/// memory before it looks whether so much comes.
pub(super) fn carried(messages: &[FlightData]) -> Result<Vec<RecordBatch>, Status> {
    let messages: Vec<_> = messages.iter().cloned().map(Ok).collect();
    let batches = decoded(futures::stream::iter(messages)).try_collect::<Vec<_>>().now_or_never();
    batches.unwrap_or_else(|| Err(broken("they are not whole")))
}

fn lying() -> ArrowError {
    ArrowError::IpcError("a message names lengths that it does not have".to_owned())
}

fn of_stream(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => broken(other),
    }
}

fn broken(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("the values cannot be read: {error}"))
}

fn checked(batch: RecordBatch) -> Result<RecordBatch, Status> {
    if ROWS_MAX < batch.num_rows() {
        return Err(Status::invalid_argument(format!("a batch has at most {ROWS_MAX} rows")));
    }
    Ok(batch)
}

/// One value as a column of its own, of a type that a statement can have.
fn single(column: &ArrayRef, row: usize) -> Result<ArrayRef, Status> {
    // A union says for each row which of its columns has the value: some clients send them so where they know no type.
    if let Some(union) = column.as_union_opt() {
        return single(&union.value(row), 0);
    }
    let value = make_array(column.slice(row, 1).to_data());
    match value.data_type() {
        DataType::Dictionary(_, values) => arrow_cast::cast(&value, values).map_err(broken),
        DataType::Timestamp(unit, Some(zone)) if **zone != *UTC => {
            arrow_cast::cast(&value, &DataType::Timestamp(*unit, Some(UTC.into()))).map_err(broken)
        }
        _ => Ok(value),
    }
}

/// The type that the statement is planned with.
fn declared(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
        other => other.clone(),
    }
}

/// The value of a column of one row.
fn scalar(column: &ArrayRef) -> Result<ScalarParam, Status> {
    let text = || {
        let texts = arrow_cast::cast(column, &DataType::Utf8).map_err(broken)?;
        Ok::<_, Status>(texts.as_string::<i32>().value(0).to_owned())
    };
    let kind = column.data_type();
    if column.is_null(0) || *kind == DataType::Null {
        return Ok(ScalarParam::Typed(None, declared(kind)));
    }
    Ok(match kind {
        DataType::Boolean => ScalarParam::Bool(column.as_boolean().value(0)),
        DataType::Int64 => ScalarParam::I64(column.as_primitive::<Int64Type>().value(0)),
        DataType::Float64 if column.as_primitive::<Float64Type>().value(0).is_finite() => {
            ScalarParam::F64(column.as_primitive::<Float64Type>().value(0))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ScalarParam::String(text()?),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = arrow_cast::cast(column, &DataType::Binary).map_err(broken)?;
            ScalarParam::Bytes(bytes.as_binary::<i32>().value(0).to_vec())
        }
        kind if kind.is_numeric() || kind.is_temporal() => ScalarParam::Typed(Some(text()?), declared(kind)),
        other => return Err(Status::invalid_argument(format!("a value of type {other} cannot be bound"))),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{
        BinaryArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, NullArray,
        StringArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow_flight::encode::FlightDataEncoderBuilder;

    use super::*;

    #[test]
    fn values_keep_their_types() {
        #[track_caller]
        fn check(column: impl Array + 'static, want: ScalarParam, kind: DataType) {
            let batch = RecordBatch::try_from_iter_with_nullable([("v", Arc::new(column) as ArrayRef, true)]).unwrap();
            let bound = Bound::row(&batch, 0).unwrap();
            assert_eq!(bound, Bound { values: vec![want], types: vec![Some(kind)] });
        }
        let typed = |text: &str, kind: &DataType| ScalarParam::Typed(Some(text.to_owned()), kind.clone());
        check(Int64Array::from(vec![-7]), ScalarParam::I64(-7), DataType::Int64);
        check(Int32Array::from(vec![7]), typed("7", &DataType::Int32), DataType::Int32);
        check(UInt64Array::from(vec![u64::MAX]), typed("18446744073709551615", &DataType::UInt64), DataType::UInt64);
        check(Float64Array::from(vec![0.5]), ScalarParam::F64(0.5), DataType::Float64);
        check(Float64Array::from(vec![f64::NAN]), typed("NaN", &DataType::Float64), DataType::Float64);
        check(Float32Array::from(vec![0.5]), typed("0.5", &DataType::Float32), DataType::Float32);
        check(StringArray::from(vec!["x"]), ScalarParam::String("x".to_owned()), DataType::Utf8);
        check(BinaryArray::from(vec![&b"x"[..]]), ScalarParam::Bytes(b"x".to_vec()), DataType::Binary);
        check(NullArray::new(1), ScalarParam::Typed(None, DataType::Null), DataType::Null);
        check(Int64Array::from(vec![None]), ScalarParam::Typed(None, DataType::Int64), DataType::Int64);
        let packed: DictionaryArray<Int32Type> = ["x"].into_iter().collect();
        check(packed, ScalarParam::String("x".to_owned()), DataType::Utf8);
        let local = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let times = || TimestampMicrosecondArray::from(vec![1_700_000_000_000_001]);
        check(times(), typed("2023-11-14T22:13:20.000001", &local), local.clone());
        let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()));
        check(times().with_timezone("UTC"), typed("2023-11-14T22:13:20.000001Z", &utc), utc.clone());
    }

    /// Messages of a client.
    fn sent(batches: Vec<RecordBatch>) -> Vec<FlightData> {
        let batches = futures::stream::iter(batches.into_iter().map(Ok));
        let messages = FlightDataEncoderBuilder::new().build(batches).try_collect();
        futures::executor::block_on(messages).unwrap()
    }

    fn bind(messages: Vec<FlightData>) -> Result<Vec<FlightData>, Status> {
        futures::executor::block_on(to_carry(futures::stream::iter(messages.into_iter().map(Ok))))
    }

    fn whole(rows: Vec<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(rows)) as ArrayRef)]).unwrap()
    }

    #[test]
    fn a_handle_carries_what_was_bound() {
        let carry = |batches| bind(sent(batches));
        let messages = carry(vec![whole(vec![]), whole(vec![5])]).unwrap();
        assert_eq!(Bound::of_handle(&messages).unwrap().values, [ScalarParam::I64(5)]);
        assert_eq!(bind(vec![FlightData::default()]).unwrap(), []);
        assert_eq!(Bound::of_handle(&[]).unwrap(), Bound::default());
        for many in [vec![whole(vec![1, 2])], vec![whole(vec![1]), whole(vec![2])]] {
            let messages = carry(many.clone()).unwrap();
            assert_eq!(carried(&messages).unwrap(), many);
            assert_eq!(Bound::of_handle(&messages).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert!(carry(vec![whole((0..200_000).collect())]).unwrap_err().message().contains("at most"));
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let list = RecordBatch::try_from_iter([("v", Arc::new(list) as ArrayRef)]).unwrap();
        assert!(carry(vec![list]).unwrap_err().message().contains("cannot be bound"));
    }

    #[test]
    fn broken_values_are_an_error_and_no_panic() {
        let row = RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![5])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ]);
        let good = bind(sent(vec![row.unwrap()])).unwrap();
        let (mut refused, mut all) = (0, 0);
        for message in 0..good.len() {
            for at in 0..good[message].data_header.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    let mut header = bad[message].data_header.to_vec();
                    header[at] ^= 1 << bit;
                    bad[message].data_header = header.into();
                    refused += usize::from(Bound::of_handle(&bad).is_err());
                    all += 1;
                }
            }
        }
        assert!(all / 10 < refused, "{refused} of {all}");
    }
}
