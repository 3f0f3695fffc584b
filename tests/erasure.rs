//! Never again: what a delete took away is seen by nobody from then on, and after its bound no file holds it, nor what it named.
//!
//! People are rows with a name that no other byte of the store repeats: as a tag, as a text, in both modes. Some of them
//! are deleted while rows come and go, through cuts, compactions, changes of tables, restarts and power cuts; their names are
//! looked for by reading, and in the bytes of all files, also of those that a power cut would bring back.
//! `MARIGRAM_ERASURE_SEEDS=n` runs n histories; `MARIGRAM_ERASURE_SEED=s` repeats one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where it must not go on")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use marigram_storage::clock::Clock;
use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::{Fault, Op, SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{DAY_NS, TableMode};
use marigram_storage::tombstone::{Comparison, Erase, Literal, Predicate};
use marigram_storage::values::{FieldColumn, Strings, Values};
use marigram_storage::{DeleteState, Engine, Options, Threads};
use marigram_tests::read;
use marigram_tests::rig::{open, small_options};

const MINUTE_NS: u64 = 60_000_000_000;
const TABLES: [(&str, TableMode); 2] = [("visit", TableMode::Upsert), ("click", TableMode::Append)];

/// A name that compresses to nothing shorter and is found in raw bytes.
fn name(person: u64) -> String {
    let mut rng = SimRng::new(person.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xca11_ab1e);
    (0..24)
        .map(|_| char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[rng.below(62) as usize]))
        .collect()
}

/// One row of each of some people in both tables.
fn draft(people: &[u64], day: i64, rng: &mut SimRng) -> Draft {
    let table = |(table, mode): (&str, TableMode)| {
        let mut series = DraftSeries::default();
        for person in people {
            series.push_tag(0, name(*person).as_bytes());
            series.push_tag(1, b"web");
            series.finish();
        }
        let mut texts = Strings::default();
        people.iter().for_each(|person| texts.push(&format!("to {}", name(*person))));
        DraftTable {
            name: table.to_owned(),
            mode,
            tags: vec!["person".to_owned(), "site".to_owned()],
            series,
            row_series: (0..people.len() as u32).collect(),
            times: people.iter().map(|_| day * DAY_NS + 1).collect(),
            fields: vec![FieldColumn { column: "text".to_owned(), rows: None, values: Values::String(texts) }],
        }
    };
    let mut tables: Vec<DraftTable> = TABLES.into_iter().filter(|_| rng.chance(7)).map(table).collect();
    // Nobody is deleted from it, and its segments lie beside those of the others.
    let mut sensor = tables.first().cloned();
    if let Some(sensor) = &mut sensor {
        sensor.name = "sensor".to_owned();
        sensor.series = DraftSeries::default();
        people.iter().for_each(|person| {
            sensor.series.push_tag(0, format!("device {}", person % 5).as_bytes());
            sensor.series.finish();
        });
        sensor.fields.clear();
        let values = Values::I64(people.iter().map(|person| *person as i64).collect());
        sensor.fields.push(FieldColumn { column: "v".to_owned(), rows: None, values });
    }
    tables.extend(sensor);
    Draft { tables, position: None }
}

/// Where names of deleted people were found while they could be: a name that is never found proves nothing.
#[derive(Debug, Default)]
struct Found {
    places: BTreeSet<String>,
    erased: usize,
}

impl Found {
    fn note(&mut self, disk: &SimDisk, gone: &BTreeSet<u64>) {
        self.places
            .extend(files_with(disk, gone).into_iter().filter_map(|path| Some(path.split_once('/')?.0.to_owned())));
    }
}

/// The files that hold the name of one of these people.
fn files_with(disk: &SimDisk, people: &BTreeSet<u64>) -> Vec<String> {
    let names: Vec<String> = people.iter().map(|person| name(*person)).collect();
    let holds = |path: &String| {
        let bytes = disk.file_bytes(path).unwrap();
        // A third of a name is nobody else's either; the first bytes of a key may be shared with the one before.
        names.iter().any(|name| {
            let part = &name.as_bytes()[12..];
            bytes.windows(part.len()).any(|window| window == part)
        })
    };
    disk.files().into_iter().filter(holds).collect()
}

struct Run {
    rng: SimRng,
    disk: SimDisk,
    clock: SimClock,
    options: Options,
    engine: Option<Engine>,
    /// By table: whose rows are there.
    there: [BTreeSet<u64>; 2],
    gone: BTreeSet<u64>,
    next: u64,
    /// A sync failed: what the disk makes of what was unsynced then, nobody knows.
    is_lossy: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed);
        let options = Options {
            merge_segments_min: 2 + rng.below(3) as usize,
            late_grace: Some(Duration::ZERO),
            recompress_after: [Duration::ZERO, Duration::from_secs(600)][rng.below(2) as usize],
            checkpoint_edits_max: 1 + rng.below(40),
            delete_bound: Duration::from_secs(3600),
            on_poison: Some(std::sync::Arc::new(|error| panic!("poisoned: {error}"))),
            ..small_options()
        };
        let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
        let engine = Some(open(&disk, &clock, &options).unwrap());
        let next = seed.wrapping_mul(1 << 20);
        Self {
            rng,
            disk,
            clock,
            options,
            engine,
            there: Default::default(),
            gone: BTreeSet::new(),
            next,
            is_lossy: false,
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn act(&mut self) {
        match self.rng.below(13) {
            0..=4 => self.write(),
            5 | 6 => self.engine().cut().unwrap(),
            7 => {
                let (table, is_final) = (TABLES[self.rng.below(2) as usize].0, self.rng.chance(4));
                drop(self.engine().optimize("main", table, is_final));
            }
            8 | 9 => self.delete(),
            10 => self.alter(),
            11 => self.restart(),
            _ => {
                self.clock.advance_ns(self.rng.below(40) * MINUTE_NS);
                self.engine().cut().unwrap();
            }
        }
    }

    fn write(&mut self) {
        let known: Vec<u64> = self.there[0].union(&self.there[1]).copied().collect();
        let mut people = BTreeSet::new();
        for _ in 0..=self.rng.below(4) {
            if known.is_empty() || self.rng.chance(5) {
                self.next += 1;
                people.insert(self.next);
            } else {
                people.insert(known[self.rng.below(known.len() as u64) as usize]);
            }
        }
        let people = Vec::from_iter(people);
        let day = self.rng.below(4) as i64;
        let draft = draft(&people, day, &mut self.rng);
        self.engine().write("main", &draft).unwrap();
        for (at, (table, _)) in TABLES.iter().enumerate() {
            if draft.tables.iter().any(|written| written.name == *table) {
                self.there[at].extend(&people);
            }
        }
    }

    /// Takes a person out of both tables: by tag, or by text where that is judged row by row.
    fn delete(&mut self) {
        let known: Vec<u64> = self.there[0].union(&self.there[1]).copied().collect();
        if known.is_empty() {
            return;
        }
        let person = known[self.rng.below(known.len() as u64) as usize];
        let schema = self.engine().schema();
        let main = schema.database("main").unwrap().id;
        for (at, (table, mode)) in TABLES.into_iter().enumerate() {
            let Some(table) = schema.table(main, table) else { continue };
            let equals = |column, text: String| Predicate::Compare {
                column,
                op: Comparison::Equal,
                value: Literal::String(text),
            };
            let by_text = mode == TableMode::Append && self.rng.chance(4);
            let predicate = match table.column("text") {
                // A text of before it was renamed has another column.
                Some(text) if by_text && !table.columns.iter().any(|column| column.name.starts_with("old")) => {
                    equals(text.id, format!("to {}", name(person)))
                }
                _ => equals(table.column("person").unwrap().id, name(person)),
            };
            let statement = format!("DELETE FROM {} WHERE person = '{}'", table.name, name(person));
            self.engine().delete(table.id, Erase::Where(predicate), &statement).unwrap();
            self.there[at].remove(&person);
        }
        self.gone.insert(person);
    }

    fn alter(&mut self) {
        let table = TABLES[self.rng.below(2) as usize].0;
        let number = self.rng.below(1000);
        // Whatever it says of a table or column that is not there.
        drop(match self.rng.below(3) {
            0 => self.engine().rename_column("main", table, "text", &format!("old{number}")),
            1 => self.engine().rename_column("main", table, "site", &format!("place{number}")),
            _ => self.engine().set_partition_width("main", table, DAY_NS * (1 + number as i64 % 2)),
        });
    }

    fn restart(&mut self) {
        self.engine = None;
        let seed = self.rng.next_u64();
        self.disk = match self.rng.below(3) {
            0 => self.disk.restart(),
            1 => self.disk.crash(Survival::Random, seed),
            _ => self.disk.crash(Survival::None, seed),
        };
        self.engine = Some(open(&self.disk, &self.clock, &self.options).unwrap());
    }

    /// Nobody sees who is gone, everybody sees who is not.
    fn check_seen(&self) {
        let shown = read(&self.engine().snapshot()).unwrap();
        let shown = format!("{shown:?}");
        for person in &self.gone {
            assert!(!shown.contains(&name(*person)), "{} is seen", name(*person));
        }
        for person in self.there.iter().flatten() {
            assert!(shown.contains(&name(*person)), "{} is not seen", name(*person));
        }
    }

    fn check_erased(&mut self) {
        let deletes = self.engine().snapshot().deletes().unwrap();
        let left: Vec<_> = deletes.iter().filter(|delete| !matches!(delete.state, DeleteState::Erased(_))).collect();
        assert!(left.is_empty(), "not erased: {left:?}, {:?}", self.engine().tasks());
        assert_eq!(files_with(&self.disk, &self.gone), Vec::<String>::new(), "names of the deleted");
        self.engine = None;
        if self.is_lossy {
            return;
        }
        let survival = Survival::ALL[self.rng.below(Survival::ALL.len() as u64) as usize];
        self.disk = self.disk.crash(survival, self.rng.next_u64());
        assert_eq!(files_with(&self.disk, &self.gone), Vec::<String>::new(), "names after a power cut, {survival:?}");
        self.engine = Some(open(&self.disk, &self.clock, &self.options).unwrap());
    }
}

fn run(seed: u64, found: &mut Found) {
    let mut run = Run::new(seed);
    for round in 0..2 {
        for _ in 0..15 + run.rng.below(20) {
            run.act();
            run.check_seen();
            found.note(&run.disk, &run.gone);
        }
        run.clock.advance_ns(61 * MINUTE_NS);
        run.engine().cut().unwrap();
        run.check_seen();
        run.check_erased();
        found.erased += run.gone.len();
        if round == 1 {
            // What is to be remembered is.
            let before = run.engine().snapshot().deletes().unwrap();
            run.restart();
            assert_eq!(run.engine().snapshot().deletes().unwrap(), before);
            run.check_seen();
            run.check_erased();
        }
    }
}

#[test]
fn what_is_deleted_is_never_seen_again_and_leaves_every_file() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("MARIGRAM_ERASURE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MARIGRAM_ERASURE_SEEDS").unwrap_or(60),
    };
    let many = seeds.end - seeds.start > 20;
    let mut found = Found::default();
    for seed in seeds {
        println!("repeat: MARIGRAM_ERASURE_SEED={seed} cargo test --workspace --test erasure");
        run(seed, &mut found);
    }
    println!("{found:?}");
    if many {
        let want = ["data", "manifest", "trash", "wal"].map(str::to_owned);
        assert_eq!(found.places, BTreeSet::from(want), "a name that cannot be found proves nothing");
        assert!(found.erased > 100);
    }
}

/// Each call that erasing makes fails once, in each way, and the process goes on or starts again: nothing is lost, and the
/// next tries end it.
#[test]
fn a_failure_on_the_way_only_delays_it() {
    let began = |run: &mut Run| {
        for _ in 0..25 {
            run.act();
        }
        run.clock.advance_ns(61 * MINUTE_NS);
        run.disk.calls()
    };
    let seed = 4;
    let mut whole = Run::new(seed);
    let from = began(&mut whole);
    whole.engine().cut().unwrap();
    let calls = whole.disk.calls() - from;
    assert!(calls > 100 && whole.gone.len() > 1, "{calls} calls, {} are gone", whole.gone.len());
    for at in (1..=calls).step_by(3) {
        let fault = Fault::ALL[(at / 3) as usize % Fault::ALL.len()];
        let mut run = Run::new(seed);
        run.options.on_poison = None;
        run.engine = None;
        run.engine = Some(open(&run.disk, &run.clock, &run.options).unwrap());
        let from = began(&mut run);
        run.disk.fail_at(from + at, fault);
        let _may_fail = run.engine().cut();
        run.disk.heal();
        run.check_seen();
        let struck = run.disk.log().get((from + at) as usize - 1).map(|call| call.op);
        run.is_lossy = struck == Some(Op::SyncDir);
        if run.engine().cut().is_err() {
            run.is_lossy = true;
            run.engine = None;
            run.disk = run.disk.restart();
            run.engine = Some(open(&run.disk, &run.clock, &run.options).unwrap());
        }
        // What failed a moment ago is left alone until a cut.
        let draft = draft(&[run.next], 9, &mut run.rng);
        run.engine().write("main", &draft).unwrap();
        run.engine().cut().unwrap();
        run.check_erased();
    }
}

/// Threads, an idle store, a table that is dropped with its deletes: the keeper goes through a round by itself.
#[test]
fn an_idle_engine_erases_what_was_deleted() {
    let mut run = Run::new(1);
    run.engine = None;
    run.options.threads = Threads::Background;
    run.options.trash_period = Duration::from_millis(1);
    run.engine = Some(open(&run.disk, &run.clock, &run.options).unwrap());
    for _ in 0..12 {
        run.write();
    }
    run.engine().cut().unwrap();
    run.write();
    run.delete();
    run.delete();
    run.engine().drop_table("main", "click").unwrap();
    run.there[1].clear();
    assert!(!files_with(&run.disk, &run.gone).is_empty(), "what was deleted is there");
    run.clock.advance_ns(29 * MINUTE_NS);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(run.engine().stats().erasures_ended, 0, "half of the bound is not over");
    run.clock.advance_ns(2 * MINUTE_NS);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let deletes = run.engine().snapshot().deletes().unwrap();
        if deletes.iter().all(|delete| matches!(delete.state, DeleteState::Erased(_))) {
            break;
        }
        assert!(Instant::now() < until, "not erased: {deletes:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((run.engine().stats().erasures_ended, run.engine().stats().erasures_open), (4, 0));
    run.check_seen();
    run.check_erased();
}

/// Who cares for little else looks often enough for a short bound.
#[test]
fn an_idle_engine_keeps_a_short_bound() {
    let mut run = Run::new(2);
    run.engine = None;
    run.options.threads = Threads::Background;
    run.options.trash_period = Duration::from_secs(60);
    run.options.delete_bound = Duration::from_secs(2);
    run.engine = Some(open(&run.disk, &run.clock, &run.options).unwrap());
    run.write();
    run.delete();
    let from = Instant::now();
    run.clock.advance_ns(1_000_000_000);
    while run.engine().stats().erasures_ended == 0 {
        assert!(from.elapsed() < Duration::from_secs(30), "{:?}", run.engine().stats());
        std::thread::sleep(Duration::from_millis(2));
    }
    run.check_erased();
}

/// What failed once is tried again, though nobody writes and so no cut comes.
#[test]
fn an_idle_engine_tries_again() {
    let mut run = Run::new(3);
    run.engine = None;
    run.options.threads = Threads::Background;
    run.options.trash_period = Duration::from_millis(1);
    run.engine = Some(open(&run.disk, &run.clock, &run.options).unwrap());
    for _ in 0..4 {
        run.write();
    }
    run.engine().cut().unwrap();
    run.delete();
    run.engine().cut().unwrap();
    let flip = |run: &Run| {
        let snapshot = run.engine().snapshot();
        let main = snapshot.catalog().database("main").unwrap().id;
        let mut flipped = 0;
        for table in TABLES.map(|table| snapshot.catalog().table(main, table.0).unwrap().id) {
            for segment in snapshot.segments(table).unwrap() {
                run.disk.flip_bit(&segment.file, segment.offset + 40, 3).unwrap();
                flipped += 1;
            }
        }
        flipped
    };
    let wait = |run: &Run, what: &str, is_met: &dyn Fn(&Run) -> bool| {
        let until = Instant::now() + Duration::from_secs(60);
        while !is_met(run) {
            assert!(Instant::now() < until, "{what}: {:?}", run.engine().snapshot().deletes().unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    // One segment in each partition: all of them are found damaged, one after the other.
    let damaged = flip(&run);
    run.clock.advance_ns(31 * MINUTE_NS);
    wait(&run, "too few compactions have failed", &|run| run.engine().stats().compactions_failed >= damaged);
    flip(&run);
    let ended = |run: &Run| run.engine().stats().erasures_open == 0;
    std::thread::sleep(Duration::from_millis(50));
    assert!(!ended(&run), "it is left alone for a while: {:?}", run.engine().tasks());
    run.clock.advance_ns(11 * MINUTE_NS);
    wait(&run, "nothing was tried again", &ended);
    run.check_seen();
    run.check_erased();
}

/// A delete comes while the clock is a year ahead, and somebody corrects it: before a cut, after it, while the process is down.
/// Or only files came to the trash then, in which somebody is who is deleted later.
#[test]
fn a_clock_that_is_set_back_delays_no_delete() {
    const YEAR_NS: i64 = 365 * 86_400 * 1_000_000_000;
    for case in 0..4 {
        let mut run = Run::new(7);
        run.write();
        run.write();
        let wall_ns = run.clock.wall_ns();
        run.clock.set_wall_ns(wall_ns + YEAR_NS);
        if case == 3 {
            for (table, _) in TABLES {
                run.engine().cut().unwrap();
                run.write();
                drop(run.engine().optimize("main", table, false));
            }
            run.write();
            run.engine().cut().unwrap();
            assert!(run.disk.files().iter().any(|path| path.starts_with("trash/")), "nothing was merged");
            run.clock.set_wall_ns(wall_ns);
        }
        run.delete();
        if case > 0 {
            run.engine().cut().unwrap();
        }
        if case == 2 {
            run.restart();
        }
        run.clock.set_wall_ns(wall_ns);
        for _ in 0..2 {
            run.clock.advance_ns(31 * MINUTE_NS);
            run.engine().cut().unwrap();
        }
        let deletes = run.engine().snapshot().deletes().unwrap();
        assert!(!deletes.is_empty(), "case {case}: no row was deleted");
        let is_erased = |state: &DeleteState| matches!(state, DeleteState::Erased(_));
        assert!(deletes.iter().all(|delete| is_erased(&delete.state)), "case {case}: {deletes:?}");
        run.check_seen();
        run.check_erased();
    }
}

/// A segment that has to leave a file is damaged: nothing of it is written on, the deletes wait, and say so.
#[test]
fn damage_holds_it_up_and_nothing_else() {
    let mut run = Run::new(2);
    for _ in 0..6 {
        run.write();
    }
    run.engine().cut().unwrap();
    run.delete();
    let snapshot = run.engine().snapshot();
    let main = snapshot.catalog().database("main").unwrap().id;
    let sensor = snapshot.catalog().table(main, "sensor").unwrap().id;
    for segment in snapshot.segments(sensor).unwrap() {
        run.disk.flip_bit(&segment.file, segment.offset + 40, 3).unwrap();
    }
    drop(snapshot);
    run.clock.advance_ns(61 * MINUTE_NS);
    run.engine().cut().unwrap();
    let deletes = run.engine().snapshot().deletes().unwrap();
    assert!(deletes.iter().all(|delete| delete.state == DeleteState::InFiles), "{deletes:?}");
    assert!(run.engine().tasks().iter().any(|task| task.error.is_some()), "{:?}", run.engine().tasks());
    for table in TABLES {
        let table = run.engine().schema().table(main, table.0).unwrap().id;
        for segment in run.engine().snapshot().segments(table).unwrap() {
            assert!(segment.rows > 0, "what is not damaged is there");
        }
    }
    let more = draft(&[run.next + 1], 9, &mut run.rng);
    run.engine().write("main", &more).unwrap();
    run.engine().cut().unwrap();
}
