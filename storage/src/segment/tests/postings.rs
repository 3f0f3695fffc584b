//! Series by tag, by way of key order and postings, against a scan of all keys.

use super::model::*;
use crate::error::Error;
use crate::schema::ColumnId;
use crate::segment::footer::SectionKind;
use crate::segment::{SegmentReader, SegmentWriter, TagValues};
use crate::series::key_tag;
use proptest::prelude::*;

/// One row for each series. The bytes of a segment that has postings from so many series on, and other sections.
fn with_postings(model: &Model, series_min: u32, more: &[(SectionKind, ColumnId, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = SegmentWriter::new(&mut bytes, spec());
    writer.postings_series_min = series_min;
    for_each_stripe(model, 100_000, |stripe| writer.stripe(stripe).unwrap());
    for (kind, column, bytes) in more {
        writer.section(*kind, false, *column, bytes).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// Series with a tag of two values in front, one of a value each behind it, and a third that only some have.
fn hosts(count: usize) -> Model {
    let row = vec![(1, vec![None, Some(Value::I64(1)), None, None, None, None])];
    let keys = (0..count).map(|host| {
        let (zone, name, rack) = (["east", "west"][host % 2], format!("host_{host}"), format!("r{}", host / 3));
        let tags = [(16, zone), (17, name.as_str()), (21, rack.as_str())];
        key(if host % 5 == 0 { &tags[..2] } else { &tags })
    });
    keys.map(|key| (key, row.clone())).collect()
}

/// A merge of what cuts were let in for may have more values than a segment can: it is refused, and the process lives.
#[test]
fn a_segment_with_too_many_bytes_of_a_tag_is_refused() {
    let model = hosts(20);
    let names: usize = (0..20).map(|host| format!("host_{host}").len()).sum();
    let write = |bytes_max: usize| {
        let (mut bytes, mut refused) = (Vec::new(), None);
        let mut writer = SegmentWriter::new(&mut bytes, spec());
        writer.tag_bytes_max = bytes_max;
        for_each_stripe(&model, 100, |stripe| refused = writer.stripe(stripe).err());
        refused
    };
    assert!(write(names).is_none());
    // The last name, and one of the first zone, where names still ascend.
    for bytes_max in [names - 1, names / 4] {
        let refused = write(bytes_max);
        let is_told = matches!(refused, Some(Error::TooLarge { bytes_max: told, .. }) if told == bytes_max as u64);
        assert!(is_told, "{refused:?}");
    }
}

fn scan(model: &Model, column: u32, values: &[Option<&str>]) -> Vec<u32> {
    let matches = |key: &[u8]| {
        let value = key_tag(key, ColumnId(column)).map(|value| String::from_utf8(value.into_owned()).unwrap());
        values.contains(&value.as_deref())
    };
    (0..).zip(model.keys()).filter(|(_, key)| matches(key)).map(|(series, _)| series).collect()
}

const ASKED: [&[Option<&str>]; 9] = [
    &[],
    &[None],
    &[Some("")],
    &[Some("a")],
    &[Some("\u{0}")],
    &[Some("zz"), Some("n7"), Some("n8"), Some("n70")],
    &[Some("host-1"), None, Some("ü"), Some("a"), Some("a")],
    &[Some("host-1"), Some("host-10")],
    &[Some("n1"), Some("n2"), Some("n3"), Some("n4"), Some("n5"), Some("n6"), Some("n7")],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn order_and_postings_find_what_a_scan_of_keys_finds(seed: u64, series in 0..900_usize, first in 0..4_usize) {
        let mut model = random_model(seed, series, 1);
        // The tags of the least ids in none of the series: another one is the first.
        model.retain(|key, _| TAGS.iter().take(first).all(|column| key_tag(key, ColumnId(*column)).is_none()));
        let bytes = with_postings(&model, 0, &[]);
        let reader = open(&bytes).unwrap();
        reader.verify_all(None).unwrap();
        let mut by_postings = 0;
        for (at, column) in TAGS.iter().enumerate() {
            let own = model.keys().step_by(9).filter_map(|key| key_tag(key, ColumnId(*column)));
            let own: Vec<String> = own.map(|value| String::from_utf8(value.into_owned()).unwrap()).collect();
            let own: Vec<[Option<&str>; 1]> = own.iter().map(|value| [Some(value.as_str())]).collect();
            for values in ASKED.into_iter().chain(own.iter().map(|own| &own[..])) {
                let want = scan(&model, *column, values);
                if at <= first {
                    prop_assert_eq!(&reader.by_order(ColumnId(*column), values).unwrap(), &want);
                }
                if let Some(found) = reader.by_postings(ColumnId(*column), values).unwrap() {
                    prop_assert_eq!(&found, &want);
                    by_postings += usize::from(!want.is_empty());
                }
                prop_assert_eq!(&reader.series_matching(ColumnId(*column), values).unwrap(), &want);
            }
        }
        prop_assert!(by_postings > 0 || model.len() < 200);
        for lists in ASKED.chunks(3) {
            let columns = [17, 16, 21];
            let filters: Vec<TagValues<'_>> = columns.iter().zip(lists).map(|(id, values)| (ColumnId(*id), values.to_vec())).collect();
            let all: Vec<Vec<u32>> = columns.iter().zip(lists).map(|(id, values)| scan(&model, *id, values)).collect();
            let want: Vec<u32> = (0..model.len() as u32).filter(|series| all.iter().all(|found| found.contains(series))).collect();
            prop_assert_eq!(reader.series_matching_all(&filters).unwrap(), Some(want));
        }
        prop_assert_eq!(reader.series_matching_all(&[]).unwrap(), None);
    }
}

fn matching_all(reader: &SegmentReader, filters: &[(u32, &str)]) -> Vec<u32> {
    let filters: Vec<TagValues<'_>> =
        filters.iter().map(|(column, value)| (ColumnId(*column), vec![Some(*value)])).collect();
    reader.series_matching_all(&filters).unwrap().unwrap()
}

fn bytes_read(reader: &SegmentReader) -> u64 {
    reader.counters().bytes.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn a_value_that_few_series_have_is_found_without_a_column() {
    let model = hosts(6000);
    let bytes = with_postings(&model, 4096, &[]);
    let reader = open(&bytes).unwrap();
    let sections = &reader.footer().sections;
    let kinds: Vec<_> = sections.iter().map(|section| (section.kind, section.column.0)).collect();
    let postings = |column| kinds.contains(&(SectionKind::POSTINGS, column));
    assert!(!postings(16) && postings(17) && postings(21), "{kinds:?}");
    let columns: u64 = [16, 17, 21]
        .map(|column| reader.footer().section(SectionKind::TAG, ColumnId(column)).unwrap().bytes)
        .into_iter()
        .sum();
    let check = |filters: &[(u32, &str)]| {
        let before = bytes_read(&reader);
        let found = matching_all(&reader, filters);
        let mut want: Vec<u32> = (0..6000).collect();
        for (column, value) in filters {
            let one = scan(&model, *column, &[Some(value)]);
            want.retain(|series| one.contains(series));
        }
        assert_eq!(found, want, "{filters:?}");
        (found.len(), bytes_read(&reader) - before)
    };
    for (filters, count) in [
        (&[(17, "host_4711")][..], 1),
        (&[(17, "host_x")], 0),
        (&[(21, "r44")], 3),
        (&[(16, "west"), (17, "host_4711")], 1),
        (&[(16, "east"), (17, "host_4711")], 0),
        (&[(17, "host_4711"), (21, "r1570")], 1),
    ] {
        let (found, bytes) = check(filters);
        assert_eq!(found, count, "{filters:?}");
        assert!(bytes < columns / 3, "{filters:?} read {bytes} bytes, columns are {columns}");
    }
    assert_eq!(check(&[(16, "west")]).0, 3000);
    // What the postings do not say.
    assert_eq!(scan(&model, 21, &[None]), reader.series_matching(ColumnId(21), &[None]).unwrap());
}

#[test]
fn a_small_segment_has_no_postings_and_equal_rows_give_equal_bytes() {
    let model = hosts(300);
    let (plain, _) = written(&model, 100_000);
    let reader = open(&plain).unwrap();
    assert!(reader.footer().sections.iter().all(|section| section.kind.0 < SectionKind::POSTINGS.0));
    assert_eq!(with_postings(&model, 0, &[]), with_postings(&model, 300, &[]));
    assert_eq!(with_postings(&model, 301, &[]), plain);
}

/// Postings that decode but do not say what the column says are found by `verify`.
#[test]
fn postings_of_other_series_are_damage() {
    let model = hosts(300);
    let sound = with_postings(&model, 0, &[]);
    let section = |bytes: &[u8], kind| {
        let section = *open(bytes).unwrap().footer().section(kind, ColumnId(17)).unwrap();
        bytes[section.offset as usize..][..section.bytes as usize].to_vec()
    };
    let told = |postings: &[u8], index: &[u8]| {
        let more =
            [(SectionKind::POSTINGS, ColumnId(17), postings), (SectionKind::POSTINGS_INDEX, ColumnId(17), index)];
        let bytes = with_postings(&model, u32::MAX, &more);
        let rows = open(&bytes).unwrap().verify_rows(None).map_err(|error| error.to_string());
        rows.map(|damage| assert!(damage.is_none(), "{damage:?}"))
    };
    let (postings, index) = (section(&sound, SectionKind::POSTINGS), section(&sound, SectionKind::POSTINGS_INDEX));
    assert_eq!(told(&postings, &index), Ok(()));
    // The same values with other series.
    let mut other = hosts(301);
    other.retain(|key, _| key_tag(key, ColumnId(17)).unwrap().as_ref() != b"host_0");
    let other: Model = other.into_iter().collect();
    let renamed = with_postings(&other, 0, &[]);
    let error = told(&section(&renamed, SectionKind::POSTINGS), &section(&renamed, SectionKind::POSTINGS_INDEX));
    assert!(error.as_ref().is_err_and(|error| error.contains("postings and tag differ")), "{error:?}");
    let lone = with_postings(&model, u32::MAX, &[(SectionKind::POSTINGS_INDEX, ColumnId(17), &index)]);
    let error = open(&lone).unwrap().verify_all(None).unwrap_err().to_string();
    assert!(error.contains("has no postings"), "{error}");
}
