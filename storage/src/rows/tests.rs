//! Presence and packing at the edges of words and columns.

use super::*;

fn bits(presence: &Presence) -> Vec<bool> {
    (0..presence.len()).map(|row| presence.get(row)).collect()
}

#[test]
fn presence_is_what_was_pushed() {
    #[track_caller]
    fn check(pieces: &[(bool, usize)]) {
        let mut presence = Presence::default();
        let mut model = Vec::new();
        for (present, count) in pieces {
            if *present {
                presence.push_present(*count)
            } else {
                presence.push_absent(*count)
            }
            model.resize(model.len() + count, *present);
        }
        assert_eq!(bits(&presence), model, "{pieces:?}");
        assert!(!presence.get(model.len()), "nothing is behind the last row");
        assert_eq!(presence.bits().is_some(), model.contains(&false), "a bitmap exists once a row is absent");
        if let Some(words) = presence.bits() {
            assert_eq!(words.len(), model.len().div_ceil(64));
            let set: u32 = words.iter().map(|word| word.count_ones()).sum();
            assert_eq!(set as usize, model.iter().filter(|present| **present).count(), "no bit is behind the last row");
        }
        // Any part of it, appended to any length, is that part.
        for start in [0, 1, model.len() / 2] {
            for before in [0, 1, 63, 64, 65] {
                let mut copy = Presence::default();
                copy.push_present(before);
                let start = start.min(model.len());
                copy.extend(presence.bits(), start, model.len());
                assert_eq!(bits(&copy)[before..], model[start..], "{pieces:?} from {start} behind {before}");
            }
        }
    }
    check(&[]);
    check(&[(true, 1)]);
    check(&[(false, 1)]);
    check(&[(true, 63), (false, 1), (true, 1)]);
    check(&[(true, 64), (false, 1)]);
    check(&[(false, 64), (true, 64)]);
    check(&[(true, 65), (false, 0), (true, 3)]);
    check(&[(false, 130), (true, 1), (false, 62), (true, 200)]);
}

#[test]
fn a_cleared_column_starts_over() {
    let mut presence = Presence::default();
    presence.push_absent(3);
    presence.clear();
    presence.push_present(2);
    assert_eq!((presence.len(), presence.bits()), (2, None));
}

fn strings(texts: &[&str]) -> Values {
    let mut strings = Strings::default();
    texts.iter().for_each(|text| strings.push(text));
    Values::String(strings)
}

#[test]
fn packing_leaves_out_the_absent_rows() {
    let mut column = DenseColumn { presence: Presence::default(), values: Values::new(FieldType::String) };
    let source = FieldColumn { column: ColumnId(16), rows: Some(vec![1, 3]), values: strings(&["b", "dd"]) };
    for row in 0..5 {
        column.push_from(&source, row);
    }
    assert_eq!(bits(&column.presence), [false, true, false, true, false]);
    assert_eq!(column.values.len(), 5, "one slot per row");
    assert_eq!(column.packed(), strings(&["b", "dd"]));
    column.push_absent(2);
    assert_eq!(column.presence.len(), 7);
    assert_eq!(column.packed(), strings(&["b", "dd"]));
}

#[test]
fn a_dense_column_is_packed_already() {
    let mut column = DenseColumn { presence: Presence::default(), values: Values::I64(vec![]) };
    column.extend_dense(&Values::I64(vec![1, 2, 3]), None, 1, 3);
    assert_eq!(column.packed(), Values::I64(vec![2, 3]));
}

#[test]
fn values_are_copied_by_range_and_by_position() {
    #[track_caller]
    fn check(source: &Values, range: &Values, picked: &Values) {
        let mut out = Values::new(source.kind());
        out.extend_range(source, 1, 3);
        assert_eq!(out, *range);
        let mut out = Values::new(source.kind());
        out.extend_at(source, [2, 0].into_iter());
        assert_eq!(out, *picked);
        out.push_filler(2);
        assert_eq!(out.len(), 4);
        out.clear();
        assert!(out.is_empty());
        out.extend_range(source, 2, 2);
        assert!(out.is_empty());
    }
    check(&Values::I64(vec![1, 2, 3]), &Values::I64(vec![2, 3]), &Values::I64(vec![3, 1]));
    check(&Values::U64(vec![1, 2, 3]), &Values::U64(vec![2, 3]), &Values::U64(vec![3, 1]));
    check(&Values::F64(vec![1.0, 2.0, 3.0]), &Values::F64(vec![2.0, 3.0]), &Values::F64(vec![3.0, 1.0]));
    check(&Values::Bool(vec![true, false, true]), &Values::Bool(vec![false, true]), &Values::Bool(vec![true, true]));
    check(&strings(&["a", "", "ccc"]), &strings(&["", "ccc"]), &strings(&["ccc", "a"]));
}
