//! Rows as bytes, in both formats.

use arrow_array::builder::{Int16Builder, Int64Builder, ListBuilder};
use arrow_array::types::IntervalMonthDayNano;
use arrow_array::{
    Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, StringArray, TimestampNanosecondArray,
    UInt32Array, UInt64Array,
};

use arrow_schema::{Field, Schema};

use super::*;

fn one_column(array: ArrayRef) -> RecordBatch {
    let field = Field::new("x", array.data_type().clone(), true);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
}

/// The value of the one field of the first row, without its length; `None`: NULL.
fn field(array: ArrayRef, binary: bool) -> Option<Vec<u8>> {
    let batch = one_column(array);
    let encoder = Encoder::new(&batch.schema(), &[i16::from(binary)]).unwrap();
    let mut out = Vec::new();
    encoder.rows(&batch, 0, 1, &mut out).unwrap();
    let length = |at: usize| i32::from_be_bytes(out[at..at + 4].try_into().unwrap());
    assert_eq!((out[0], length(1) as usize, &out[5..7]), (b'D', out.len() - 1, &[0, 1][..]));
    usize::try_from(length(7)).ok().map(|bytes| {
        assert_eq!(out.len(), 11 + bytes);
        out[11..].to_vec()
    })
}

#[test]
fn values_have_both_forms() {
    #[track_caller]
    fn check(array: impl Array + 'static, text: &str, binary: &[u8]) {
        let array: ArrayRef = Arc::new(array);
        assert_eq!(String::from_utf8(field(Arc::clone(&array), false).unwrap()).unwrap(), text);
        assert_eq!(field(array, true).unwrap(), binary, "{text}");
    }
    check(BooleanArray::from(vec![true]), "t", &[1]);
    check(Int32Array::from(vec![-2]), "-2", &(-2_i32).to_be_bytes());
    check(Int64Array::from(vec![i64::MIN]), "-9223372036854775808", &i64::MIN.to_be_bytes());
    check(Float64Array::from(vec![f64::NAN]), "NaN", &f64::NAN.to_be_bytes());
    check(StringArray::from(vec!["é"]), "é", "é".as_bytes());
    check(UInt64Array::from(vec![10_000]), "10000", &[0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    // Half a microsecond before 1970 is in the microsecond before it.
    let before = (-1 - EPOCH_US).to_be_bytes();
    check(TimestampNanosecondArray::from(vec![-500]), "1969-12-31 23:59:59.999999+00", &before);
    let interval = IntervalMonthDayNano { months: 1, days: 2, nanoseconds: 3_000 };
    let bytes = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1];
    check(IntervalMonthDayNanoArray::from(vec![interval]), "1 mon 2 days 00:00:00.000003", &bytes);
    let mut list = ListBuilder::new(Int64Builder::new());
    list.append_value([Some(5), None]);
    let bytes = b"\0\0\0\x01\0\0\0\x01\0\0\0\x14\0\0\0\x02\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x05\xff\xff\xff\xff";
    check(list.finish(), "{5,NULL}", bytes);
    check(UInt32Array::from(vec![u32::MAX]), "4294967295", &[255; 4]);
    assert_eq!(field(Arc::new(Int64Array::from(vec![None])), true), None);
    assert_eq!(field(arrow_array::new_null_array(&DataType::Null, 1), false), None);
}

#[test]
fn what_was_described_is_sent() {
    let described = one_column(Arc::new(Int64Array::from(vec![0]))).schema();
    let encoder = Encoder::new(&described, &[1]).unwrap();
    let (batch, mut out) = (one_column(Arc::new(Int32Array::from(vec![1, 7]))), Vec::new());
    encoder.rows(&batch, 1, 2, &mut out).unwrap();
    assert_eq!(out, [&b"D\0\0\0\x12\0\x01\0\0\0\x08"[..], &7_i64.to_be_bytes()].concat());
    assert!(Encoder::new(&described, &[1, 1]).is_err());
}

#[test]
fn vectors_begin_at_zero() {
    let mut list = ListBuilder::new(Int16Builder::new());
    list.append_value([Some(2), Some(1)]);
    let array: ArrayRef = Arc::new(list.finish());
    let metadata = [(marigram_query::PG_TYPE.to_owned(), "int2vector".to_owned())].into();
    let field = Field::new("x", array.data_type().clone(), true).with_metadata(metadata);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    let row = |format| {
        let (encoder, mut out) = (Encoder::new(&batch.schema(), &[format]).unwrap(), Vec::new());
        encoder.rows(&batch, 0, 1, &mut out).unwrap();
        out[11..].to_vec()
    };
    assert_eq!(row(0), b"2 1");
    let head = [&b"\0\0\0\x01\0\0\0\0\0\0\0\x15\0\0\0\x02\0\0\0\0"[..], b"\0\0\0\x02\0\x02\0\0\0\x02\0\x01"].concat();
    assert_eq!(row(1), head);
}
