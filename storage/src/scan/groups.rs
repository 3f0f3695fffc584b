//! Which sources of one partition are merged, and which are read apart because no row of one repeats a key of another.
//!
//! A segment knows whether it repeats keys: the cut that wrote it looked ([`crate::late`]). Of memory nobody knows, as nothing
//! is kept for that when rows come. So a plan groups it with all that it overlaps in time, for which bounds are enough
//! ([`group`]); and who reads a group without keys, where whole pages go out unless something is to be compared, asks first
//! what its memory does repeat ([`regroup`]). Mostly that is nothing: rows of one time came before a cut and behind it, or
//! the overlap is that of a series which another has not. Then a look into the keys and runs of the segment is all that it
//! costs, less than to merge; who shows tags reads every key anyway, and is not asked.
//!
//! A key is repeated if a series has rows in memory between its first and its last time in the segment. That says too often
//! yes, never wrongly no: rows that are gone count as if they were there, and so does what cannot be read.

use std::sync::Arc;

use super::{Context, Unit};
use crate::error::{Error, Result};
use crate::memory::MemoryUse;
use crate::memscan::MemSource;
use crate::merge::{MergeSpec, Source, TagFilter};
use crate::placement::Segment;
use crate::priority::give_way;
use crate::schema::TableMode;
use crate::segment::HeldRuns;

/// A look goes on for so many series before others may run, and before it is asked whether the snapshot is still held.
const LOOK_SERIES: usize = 256;

/// Sources that may hold versions of the same row are merged, the others are not: a source may repeat keys of the older ones
/// that it overlaps in time, unless it is a segment that is known not to. A source that is alone compares no key.
pub(super) fn group(mode: TableMode, sources: Vec<Source>) -> Vec<Unit> {
    if mode == TableMode::Append {
        return sources.into_iter().map(|source| unit(vec![source])).collect();
    }
    let groups = grouped(sources, |_, _| Ok(true));
    groups.unwrap_or_default().into_iter().map(unit).collect()
}

/// The groups that are left of one about to be read, once it is known what its memory repeats. They are of the same keys.
///
/// # Errors
/// [`Error::TooLarge`] if there is no room to look, [`Error::SnapshotExpired`].
pub(super) fn regroup(unit: Unit, spec: &MergeSpec, context: &Context) -> Result<Vec<Unit>> {
    let is_memory = |source: &Source| matches!(source, Source::Memory(_));
    if spec.keys || spec.mode == TableMode::Append || unit.sources.len() < 2 || !unit.sources.iter().any(is_memory) {
        return Ok(vec![unit]);
    }
    let Unit { sources, key_from, key_to, rows } = unit;
    let groups = grouped(sources, |newer, older| match (newer, older) {
        (Source::Memory(newer), Source::Segment(older, _)) => repeats(newer, older, spec, context),
        _ => Ok(true),
    })?;
    let part = |sources| Unit { sources, key_from: key_from.clone(), key_to: key_to.clone(), rows };
    Ok(groups.into_iter().map(part).collect())
}

fn unit(sources: Vec<Source>) -> Unit {
    Unit { rows: sources.iter().map(Source::rows).sum(), sources, key_from: None, key_to: None }
}

/// Groups sources, which come oldest first. `repeats` is asked of one that may by itself repeat keys of an older one that it
/// overlaps in time.
fn grouped(
    sources: Vec<Source>,
    mut repeats: impl FnMut(&Source, &Source) -> Result<bool>,
) -> Result<Vec<Vec<Source>>> {
    let mut groups: Vec<Vec<(usize, Source)>> = Vec::new();
    for (age, source) in sources.into_iter().enumerate() {
        // All groups that it may repeat a key of become one.
        let (mut met, mut apart) = (Vec::new(), Vec::new());
        for group in groups {
            let mut is_met = false;
            for (_, older) in &group {
                let overlap = source.time_min() <= older.time_max() && older.time_min() <= source.time_max();
                is_met = is_met || (source.may_repeat() && overlap && repeats(&source, older)?);
            }
            if is_met {
                met.extend(group);
            } else {
                apart.push(group);
            }
        }
        met.push((age, source));
        apart.push(met);
        groups = apart;
    }
    let by_age = |mut group: Vec<(usize, Source)>| {
        group.sort_by_key(|(age, _)| *age);
        group.into_iter().map(|(_, source)| source).collect()
    };
    Ok(groups.into_iter().map(by_age).collect())
}

/// Whether rows of memory may have keys of a segment, of the series that are read. Up to the first series that has.
fn repeats(newer: &MemSource, older: &Arc<Segment>, spec: &MergeSpec, context: &Context) -> Result<bool> {
    let Ok(reader) = older.reader() else { return Ok(true) };
    let (mut keys, mut runs, mut scratch) = (None, HeldRuns::default(), Vec::new());
    let charge = context.memory.hold(MemoryUse::Scans, 0);
    for (at, ordinal) in newer.series.iter().copied().enumerate() {
        if at % LOOK_SERIES == 0 {
            give_way();
            context.lease.check()?;
        }
        if !newer.has_within(ordinal, older.entry.time_min, older.entry.time_max) {
            continue;
        }
        let key = newer.key(ordinal, &mut scratch);
        let is_read = spec.key_from.as_deref().is_none_or(|from| from <= key)
            && spec.key_to.as_deref().is_none_or(|to| key < to)
            && spec.tags.iter().all(|filter: &TagFilter| filter.accepts(key));
        if !is_read {
            continue;
        }
        let mut is_next = false;
        let Ok(found) = reader.find_series_near(key, &mut keys, &mut || is_next = true) else { return Ok(true) };
        if is_next {
            let held = keys.as_ref().map_or(0, |(_, _, keys)| keys.memory_bytes());
            let bytes = (held + reader.held_runs_bytes() + scratch.capacity()) as u64;
            charge.try_resize(bytes).map_err(|bytes_max| Error::TooLarge { what: "scan", bytes, bytes_max })?;
        }
        let span = found.and_then(|series| reader.span_of(series, &mut runs));
        if span.is_some_and(|(first, last, _)| newer.has_within(ordinal, first, last)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::ScanRequest;
    use super::*;
    use crate::clock::sim::SimRng;
    use crate::draft::{Draft, DraftSeries, DraftTable};
    use crate::merge::{Merge, RunBuffer};
    use crate::schema::{ColumnId, Table};
    use crate::sync::lock;
    use crate::time::TimeRange;
    use crate::tombstone::{Erase, KeyList};
    use crate::values::{FieldColumn, Values};
    use crate::{Engine, Options, Threads, World};

    const HOSTS: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// Host, time, `v`, `w`.
    type Row = (usize, i64, i64, Option<i64>);

    fn open() -> Engine {
        let options = Options { threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
        Engine::open(World::sim(1), options).unwrap()
    }

    fn write(engine: &Engine, rows: &[Row]) {
        let mut series = DraftSeries::default();
        for host in HOSTS {
            series.push_tag(0, host.as_bytes());
            series.finish();
        }
        let present: Vec<u32> = (0..rows.len() as u32).filter(|row| rows[*row as usize].3.is_some()).collect();
        let v = Values::I64(rows.iter().map(|row| row.2).collect());
        let w = Values::I64(rows.iter().filter_map(|row| row.3).collect());
        let w = FieldColumn { column: "w".to_owned(), rows: Some(present), values: w };
        let mut fields = vec![FieldColumn { column: "v".to_owned(), rows: None, values: v }];
        fields.extend((!w.values.is_empty()).then_some(w));
        let table = DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned()],
            series,
            row_series: rows.iter().map(|row| row.0 as u32).collect(),
            times: rows.iter().map(|row| row.1).collect(),
            fields,
        };
        engine.write("main", &Draft { tables: vec![table], position: None }).unwrap();
    }

    fn table(engine: &Engine) -> Arc<Table> {
        Arc::clone(engine.snapshot().catalog().all_tables().next().unwrap())
    }

    fn key(table: &Table, host: usize) -> Vec<u8> {
        let mut key = Vec::new();
        let tag = table.column("host").unwrap().id;
        crate::series::encode_key([(tag, HOSTS[host].as_bytes())], &mut key);
        key
    }

    /// What is read of the columns, as the sources of each group and all rows: time and fields, sorted.
    #[derive(Debug, PartialEq)]
    struct Read {
        merged: Vec<usize>,
        rows: Vec<(i64, Option<i64>, Option<i64>)>,
    }

    /// Of hosts from the first and before the second, all of them or one.
    fn read(engine: &Engine, with_tags: bool, time: TimeRange, hosts: (usize, usize), only: Option<usize>) -> Read {
        let (table, snapshot) = (table(engine), engine.snapshot());
        let id = |name: &str| table.column(name).unwrap().id;
        let mut columns = vec![ColumnId::TIME, id("v")];
        columns.extend(table.column("w").map(|column| column.id));
        columns.extend(with_tags.then(|| id("host")));
        let only = only.map(|host| TagFilter { column: id("host"), values: vec![Some(HOSTS[host].to_owned())] });
        let request = ScanRequest { columns, time, tags: only.into_iter().collect(), parts_max: 1 };
        let scan = snapshot.scan(table.id, &request).unwrap();
        let mut found = Read { merged: Vec::new(), rows: Vec::new() };
        for part in &scan.parts {
            let units = std::mem::take(&mut lock(&part.held.0).as_mut().unwrap().units);
            for mut unit in units {
                unit.key_from = (hosts.0 > 0).then(|| key(&table, hosts.0).into());
                unit.key_to = (hosts.1 < HOSTS.len()).then(|| key(&table, hosts.1).into());
                let spec = part.context.spec(&unit);
                for group in regroup(unit, &spec, &part.context).unwrap() {
                    found.merged.push(group.sources.len());
                    let charge = part.context.memory.hold(MemoryUse::Scans, 0);
                    let spec = part.context.spec(&group);
                    let mut merge = Merge::new(spec.clone(), &group.sources, Arc::default(), charge).unwrap();
                    let mut out = RunBuffer::new(&spec.fields);
                    while merge.fill(&mut out, 8192).unwrap() {
                        let value = |column: usize, row: usize| {
                            let column = out.buffer.columns.get(column)?;
                            let Values::I64(values) = &column.values else { panic!("integers were written") };
                            column.presence.get(row).then(|| values[row])
                        };
                        let rows = out.buffer.times.iter().enumerate();
                        found.rows.extend(rows.map(|(row, time)| (*time, value(0, row), value(1, row))));
                        out.clear();
                    }
                }
            }
        }
        found.merged.sort_unstable();
        found.rows.sort_unstable();
        found
    }

    fn merged(engine: &Engine, with_tags: bool) -> Vec<usize> {
        read(engine, with_tags, TimeRange::ALL, (0, HOSTS.len()), None).merged
    }

    #[test]
    fn one_time_before_a_cut_and_behind_it_is_read_side_by_side() {
        let engine = open();
        write(&engine, &[(0, 1, 1, None), (1, 1, 1, None), (2, 1, 1, None), (0, 2, 1, None)]);
        engine.cut().unwrap();
        write(&engine, &[(1, 2, 1, None), (2, 2, 1, None)]);
        write(&engine, &[(0, 3, 1, None), (1, 3, 1, None)]);
        assert_eq!(merged(&engine, false), [1, 1]);
        assert_eq!(merged(&engine, true), [2], "every key is read anyway");
        // One that is in memory twice, and one that the segment does not know.
        write(&engine, &[(1, 2, 2, None), (3, 1, 1, None)]);
        assert_eq!(merged(&engine, false), [1, 1]);
        // Before all rows of its series, which has some later ones in memory.
        write(&engine, &[(0, 0, 1, None), (2, 1, 1, None)]);
        assert_eq!(merged(&engine, false), [2], "there is one of c at 1 already");
        let of = |from, to, only| read(&engine, false, TimeRange::ALL, (from, to), only).merged;
        assert_eq!((of(0, 2, None), of(2, 3, None), of(3, 5, None)), (vec![1, 1], vec![2], vec![1, 1]));
        assert_eq!((of(0, 5, Some(1)), of(0, 5, Some(2))), (vec![1, 1], vec![2]));
    }

    /// Segments that were grouped because memory overlaps all of them are merged with it only where it repeats their keys.
    #[test]
    fn memory_is_merged_with_the_segment_that_it_repeats() {
        let engine = open();
        for host in 0..3 {
            write(&engine, &[(host, 1, 1, None), (host, 9, 1, None)]);
            engine.cut().unwrap();
        }
        write(&engine, &[(3, 5, 1, None)]);
        assert_eq!(merged(&engine, false), [1, 1, 1, 1]);
        write(&engine, &[(1, 5, 1, None)]);
        assert_eq!(merged(&engine, false), [1, 1, 2], "it lies among rows of the second");
        assert_eq!(merged(&engine, true), [4]);
    }

    /// Times that a cut splits, rows that come late or again, deletes: against an ordered map.
    #[test]
    fn what_is_read_side_by_side_repeats_no_key() {
        let (mut apart, mut together) = (0, 0);
        for seed in 0..60 {
            let rng = &mut SimRng::new(seed);
            let mut draw = |below: usize| (rng.next_u64() % below as u64) as usize;
            let engine = open();
            let mut model: BTreeMap<(usize, i64), (i64, Option<i64>)> = BTreeMap::new();
            let disorder = [0, 0, 1, 4][draw(4)];
            for time in 1..8 {
                for host in 0..HOSTS.len() {
                    let is_late = draw(10) < disorder;
                    let at = if is_late { draw(8) as i64 } else { time };
                    let (v, w) = (draw(100) as i64, (draw(3) == 0).then(|| draw(100) as i64));
                    write(&engine, &[(host, at, v, w)]);
                    let known = model.entry((host, at)).or_default();
                    *known = (v, w.or(known.1));
                    if draw(12) == 0 {
                        engine.cut().unwrap();
                    }
                    if draw(40) == 0 {
                        let (table, mut keys) = (table(&engine), KeyList::default());
                        keys.push(&key(&table, host), time).unwrap();
                        engine.delete(table.id, Erase::Keys(keys.finish()), "").unwrap();
                        model.remove(&(host, time));
                    }
                }
                let (from, to) = (draw(5), 1 + draw(5));
                let only = (draw(3) == 0).then(|| draw(5));
                let range = TimeRange::new(draw(3) as i64, 4 + draw(6) as i64).unwrap();
                for (range, hosts, only) in [(TimeRange::ALL, (0, 5), None), (range, (from, to), only)] {
                    let is_read = |host: usize, time: i64| {
                        (hosts.0..hosts.1).contains(&host)
                            && range.contains(time)
                            && only.is_none_or(|only| only == host)
                    };
                    let kept = model.iter().filter(|((host, time), _)| is_read(*host, *time));
                    let mut want: Vec<_> = kept.map(|((_, time), (v, w))| (*time, Some(*v), *w)).collect();
                    want.sort_unstable();
                    let found = read(&engine, false, range, hosts, only);
                    assert_eq!(found.rows, want, "seed {seed}, time {time}, {range:?}, {hosts:?}, {only:?}");
                    let planned = read(&engine, true, range, hosts, only);
                    assert_eq!(planned.rows, want, "seed {seed}, time {time}, with tags");
                    assert!(planned.merged.len() <= found.merged.len());
                    *(if planned.merged == found.merged { &mut together } else { &mut apart }) += 1;
                }
            }
        }
        assert!(apart > 10 && together > 10, "{apart} groups became more, {together} did not");
    }
}
