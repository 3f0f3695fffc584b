//! What was written is read, and found by key, tag, row and page.

use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;

use super::model::*;
use crate::codec::PageBuf;
use crate::disk::File;
use crate::manifest::FileId;
use crate::schema::{ColumnId, FieldType};
use crate::segment::{FileHead, FileSink, SegmentReader, SegmentWriter, Sink};
use crate::series::key_tag;
use crate::values::Values;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_come_back_whatever_the_stripes(
        seed: u64,
        series in 0..300_usize,
        rows_max in prop_oneof![Just(5_u64), Just(300), Just(9000)],
        stripe_rows in prop_oneof![1..50_usize, 1000..20_000_usize],
    ) {
        let series = if stripe_rows < 50 || rows_max == 9000 { series / 10 } else { series };
        let rows_max = if stripe_rows < 50 { rows_max.min(300) } else { rows_max };
        let model = random_model(seed, series, rows_max);
        let (bytes, summary) = written(&model, stripe_rows);
        let reader = open(&bytes).unwrap();
        prop_assert_eq!(read_all(&reader).unwrap(), model.clone());
        reader.verify_all(Some(summary.hash)).unwrap();

        let times = || model.values().flatten().map(|row| row.0);
        prop_assert_eq!(summary.bytes, bytes.len() as u64);
        prop_assert_eq!((summary.rows, summary.series as usize), (times().count() as u64, model.len()));
        prop_assert_eq!((reader.rows(), reader.series_count()), (summary.rows, summary.series));
        prop_assert_eq!(summary.time_min, times().min().unwrap_or(i64::MAX));
        prop_assert_eq!(summary.time_max, times().max().unwrap_or(i64::MIN));
        prop_assert_eq!((reader.footer().sequence_min, reader.footer().sequence_max), (11, 12));
    }

    #[test]
    fn series_are_found_by_key_and_by_tag_as_a_scan_of_all_keys_does(seed: u64, series in 0..900_usize) {
        let model = random_model(seed, series, 2);
        let reader = open(&written(&model, 500).0).unwrap();
        let keys: Vec<_> = model.keys().collect();
        let strangers = random_model(!seed, 50, 1);
        for key in keys.iter().copied().chain(strangers.keys()) {
            let want = keys.binary_search(&key).ok().map(|series| series as u32);
            prop_assert_eq!(reader.find_series(key).unwrap(), want);
        }
        let mut rng = Rng(seed);
        let mut cursor = reader.keys();
        for _ in 0..20 {
            if !keys.is_empty() {
                let series = rng.below(keys.len() as u64) as u32;
                prop_assert_eq!(cursor.key(series).unwrap(), keys[series as usize].as_slice());
            }
        }
        for column in [16, 17, 21, 99] {
            for values in [&[Some("a")][..], &[None], &[Some("host-1"), None, Some("ü"), Some("a")], &[Some("zz")], &[Some("")], &[]] {
                let matches = |key: &[u8]| {
                    let value = key_tag(key, ColumnId(column)).map(|value| String::from_utf8(value.into_owned()).unwrap());
                    values.contains(&value.as_deref())
                };
                let want: Vec<_> = (0..).zip(&keys).filter(|(_, key)| matches(key)).map(|(series, _)| series).collect();
                prop_assert_eq!(reader.series_matching(ColumnId(column), values).unwrap(), want);
            }
        }
        let mut held = crate::segment::HeldRuns::default();
        for (series, key) in (0..).zip(&keys) {
            let runs: Vec<_> = reader.runs_of(series, &mut held).collect();
            prop_assert_eq!(runs.iter().map(|run| run.rows as usize).sum::<usize>(), model[*key].len());
            prop_assert_eq!(runs.first().map(|run| run.time_min), model[*key].first().map(|row| row.0));
            prop_assert_eq!(runs.last().map(|run| run.time_max), model[*key].last().map(|row| row.0));
        }
        prop_assert_eq!(reader.runs_of(keys.len() as u32, &mut held).count(), 0);
    }

    #[test]
    fn statistics_of_a_page_are_those_of_its_values(seed: u64) {
        let model = random_model(seed, 60, 6000);
        let reader = open(&written(&model, 7000).0).unwrap();
        let (mut scratch, mut page) = (Vec::new(), PageBuf::new());
        for (index, range) in reader.pages().iter().enumerate() {
            prop_assert_eq!(reader.page_of_row(range.first_row), index);
            prop_assert_eq!(reader.page_of_row(range.first_row + u64::from(range.rows) - 1), index);
            reader.read_page(ColumnId::TIME, index, &mut scratch, &mut page).unwrap();
            let Values::I64(times) = &page.values else { panic!("time is i64") };
            prop_assert_eq!(Some(&range.time_min), times.iter().min());
            prop_assert_eq!(Some(&range.time_max), times.iter().max());
            if reader.field(ColumnId(19)).is_none() {
                continue;
            }
            reader.read_page(ColumnId(19), index, &mut scratch, &mut page).unwrap();
            let Values::I64(values) = &page.values else { panic!("field 19 is i64") };
            let present = |row: &usize| page.presence.as_ref().is_none_or(|bits| bits[row / 64] >> (row % 64) & 1 == 1);
            let values: Vec<_> = (0..page.rows).filter(present).map(|row| values[row]).collect();
            let stats = reader.column_page(ColumnId(19), index).unwrap().stats;
            prop_assert_eq!(stats.present as usize, values.len());
            prop_assert_eq!(stats.min.map(|bits| bits as i64), values.iter().min().copied());
            prop_assert_eq!(stats.max.map(|bits| bits as i64), values.iter().max().copied());
        }
    }
}

#[test]
fn columns_without_a_value_are_not_in_the_segment() {
    let row = vec![None, Some(Value::I64(1)), None, None, None, None];
    let model = Model::from([(key(&[(17, "x")]), vec![(1, row)])]);
    let reader = open(&written(&model, 10).0).unwrap();
    let ids: Vec<_> = reader.columns().iter().map(|column| (column.id.0, column.name.as_str())).collect();
    assert_eq!(ids, [(17, "c17"), (19, "c19")]);
    assert_eq!(reader.field(ColumnId(18)), None);
    assert_eq!(reader.field(ColumnId(19)), Some(FieldType::I64));
    assert_eq!(reader.column_page(ColumnId(18), 0), None);
}

#[test]
fn a_page_of_absent_rows_costs_no_read() {
    let mut model = Model::new();
    for (host, value) in [("a", Some(Value::Bool(true))), ("b", None)] {
        let row = |time| (time, vec![None, Some(Value::I64(time)), None, value.clone(), None, None]);
        model.insert(key(&[(16, host)]), (0..3000).map(row).collect());
    }
    let reader = open(&written(&model, 100_000).0).unwrap();
    let (mut scratch, mut page) = (Vec::new(), PageBuf::new());
    reader.read_page(ColumnId(22), 1, &mut scratch, &mut page).unwrap();
    assert_eq!((page.rows, page.presence.as_deref()), (3000, Some(vec![0; 47].as_slice())));
    assert_eq!(page.values, Values::Bool(vec![false; 3000]));
    assert_eq!(reader.counters().pages.load(std::sync::atomic::Ordering::Relaxed), 0);
    reader.read_page(ColumnId(22), 0, &mut scratch, &mut page).unwrap();
    assert_eq!((page.presence.as_deref(), &page.values), (None, &Values::Bool(vec![true; 3000])));
    assert_eq!(reader.counters().pages.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// No page holds more than 4 MiB of strings, no fewer than it could, and all rows come back.
#[test]
fn pages_of_long_strings_are_short() {
    let string = |count: usize| Some(Value::String(vec![b'x'; count]));
    let kinds = FIELDS.map(|(_, kind)| kind);
    let at = kinds.iter().position(|kind| *kind == FieldType::String).unwrap();
    let row = |time: i64| {
        let mut row = vec![None; FIELDS.len()];
        row[0] = Some(Value::F64(1.5f64.to_bits()));
        row[at] = if time % 3 == 0 { None } else { string(if time < 400 { 65_536 } else { 30_000 }) };
        (time, row)
    };
    let model = Model::from([(key(&[]), (0..700).map(row).collect())]);
    let (bytes, _) = written(&model, 100_000);
    let reader = open(&bytes).unwrap();
    assert_eq!(read_all(&reader).unwrap(), model);
    assert!(reader.pages().len() > 4);
    let (mut scratch, mut page) = (Vec::new(), PageBuf::new());
    for index in 0..reader.pages().len() {
        reader.read_page(ColumnId(FIELDS[at].0), index, &mut scratch, &mut page).unwrap();
        let Values::String(strings) = &page.values else { panic!("a field of strings") };
        assert!(strings.bytes.len() <= 4 << 20, "{} bytes in page {index}", strings.bytes.len());
        assert!(strings.bytes.len() > (4 << 20) - 65_536 || index + 1 == reader.pages().len());
    }
}

#[test]
fn segments_of_a_file_are_found_by_address_and_from_its_end() {
    let head = FileHead { store: 1, file: FileId { epoch: 2, counter: 3 }, shard: 0 };
    let path = Path::new("data/0002-0003");
    let file = MemFile(Mutex::new(Vec::new()));
    let mut sink = FileSink::new(&file, path, 0);
    sink.write(&head.encode()).unwrap();
    let models = [random_model(1, 50, 100), random_model(2, 700, 400), Model::new()];
    let mut places = Vec::new();
    for model in &models {
        let offset = sink.offset();
        let mut writer = SegmentWriter::new(&mut sink, spec());
        for_each_stripe(model, 5000, |stripe| writer.stripe(stripe).unwrap());
        places.push((offset, writer.finish().unwrap()));
    }
    sink.flush().unwrap();
    assert_eq!(FileHead::read(&file, path).unwrap(), head);
    let bytes = file.0.lock().unwrap().clone();
    for (model, (offset, summary)) in models.iter().zip(&places) {
        // A segment does not depend on its place.
        assert_eq!(written(model, 5000).1, *summary);
        let reader = open_at(&bytes, *offset, summary.bytes).unwrap();
        assert_eq!(&read_all(&reader).unwrap(), model);
        reader.verify_all(Some(summary.hash)).unwrap();
        assert!(reader.verify_all(Some(summary.hash ^ 1)).is_err());
    }
    let mut end = file.bytes().unwrap();
    for (offset, _) in places.iter().rev() {
        end = SegmentReader::start_before(&file, path, end).unwrap();
        assert_eq!(end, *offset);
    }
    assert_eq!(end, FileHead::BYTES as u64);
    assert!(SegmentReader::start_before(&file, path, end).is_err());
}

#[test]
#[should_panic(expected = "times of a run ascend")]
fn rows_out_of_order_are_not_written() {
    let row = |time| (time, vec![None, Some(Value::I64(1)), None, None, None, None]);
    written(&Model::from([(key(&[]), vec![row(2), row(1)])]), 10);
}
