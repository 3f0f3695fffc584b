//! Deletes are judged once for all chunks of a generation.

use super::*;
use crate::batch::SeriesDefinitions;
use crate::generation::Generation;

fn touched(
    generation: &Generation,
    sequence: u64,
    erase: Erase,
    tags: &[ColumnId],
) -> Arc<std::sync::OnceLock<Touched>> {
    let series = generation.table(TableId(3));
    let delete = Delete { tags: tags.to_vec(), ..delete(erase) };
    series.touched(&Arc::new(Tombstone::new(sequence, delete, &memory())), &series.key_order())
}

#[test]
fn few_series_are_listed_and_many_are_bits_where_they_are_alike() {
    let generation = Generation::new(1);
    let mut definitions = SeriesDefinitions::new(TableId(3));
    (0..5000).for_each(|at| definitions.push(at, &key(&format!("h{at}"))));
    generation.table(TableId(3)).define(&definitions, |key| series::fingerprint(0, TableId(3), key)).unwrap();
    drop(generation.table(TableId(3)).key_order());
    let before = generation.bytes();
    let one = Erase::Where(host_before("h77", 9));
    let known = touched(&generation, 1, one.clone(), &[TAG]);
    let Some(Touched::Some(listed)) = known.get() else { panic!("one series is listed: {known:?}") };
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].0, &listed[0].1.gone), (77, &Instants::of([(i64::MIN, 8)])));
    assert!(Arc::ptr_eq(&known, &touched(&generation, 1, one, &[TAG])), "it is judged once");
    assert!(before < generation.bytes(), "what is kept is counted");
    let others = || compare(TAG, Comparison::NotEqual, Literal::String("h77".to_owned()));
    let before = generation.bytes();
    let same = touched(&generation, 2, Erase::Where(others()), &[TAG]);
    let Some(Touched::Same(ordinals, fate)) = same.get() else { panic!("a bit for each: {same:?}") };
    assert_eq!(fate.gone, Instants::of([(i64::MIN, i64::MAX)]));
    assert!((0..5000).all(|at| ordinals.has(at) == (at != 77)) && !ordinals.has(5000) && !ordinals.has(9999));
    assert!((600..1000).contains(&(generation.bytes() - before)), "{} bytes", generation.bytes() - before);
    // The last one is the one that differs.
    let last = compare(TAG, Comparison::Equal, Literal::String("h4999".to_owned()));
    let but_for = Predicate::Any(vec![
        Predicate::All(vec![others(), Predicate::Not(Box::new(last))]),
        compare(ColumnId::TIME, Comparison::Less, Literal::I64(9)),
    ]);
    let many = touched(&generation, 5, Erase::Where(but_for), &[TAG]);
    assert!(matches!(many.get(), Some(Touched::Many)), "{many:?}");
    let before_9 = compare(ColumnId::TIME, Comparison::Less, Literal::I64(9));
    let alike = touched(&generation, 3, Erase::Where(before_9), &[]);
    let Some(Touched::Alike(fate)) = alike.get() else { panic!("it says the same of all: {alike:?}") };
    assert_eq!(fate.gone, Instants::of([(i64::MIN, 8)]));
    let mut keys = KeyList::default();
    keys.push(&key("h4"), 5).unwrap();
    let of_keys = touched(&generation, 4, Erase::Keys(keys.finish()), &[]);
    assert!(matches!(of_keys.get(), Some(Touched::Some(listed)) if listed.len() == 1), "{of_keys:?}");
}
