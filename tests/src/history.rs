//! Histories: operations drawn from a seed.

use marigram_storage::clock::sim::SimRng;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{DAY_NS, FieldType, TableMode};
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error};

use crate::model::Model;

/// One thing that somebody asks of an engine.
#[derive(Clone, Debug)]
pub enum Op {
    /// A body.
    Write(String, Draft),
    /// `DROP TABLE`.
    DropTable(String, String),
    /// `DROP DATABASE`.
    DropDatabase(String),
    /// A flush. No fact.
    Cut,
}

impl Op {
    /// Asks it.
    pub fn run(&self, engine: &Engine) -> Result<(), Error> {
        match self {
            Self::Write(database, draft) => engine.write(database, draft).map(|_| ()),
            Self::DropTable(database, table) => absent_is_fine(engine.drop_table(database, table)),
            Self::DropDatabase(database) => absent_is_fine(engine.drop_database(database)),
            Self::Cut => engine.cut(),
        }
    }

    /// What it does to the model.
    pub fn fold(&self, model: &mut Model) {
        match self {
            Self::Write(database, draft) => model.write(database, draft),
            Self::DropTable(database, table) => model.drop_table(database, table),
            Self::DropDatabase(database) => model.drop_database(database),
            Self::Cut => {}
        }
    }
}

fn absent_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// Draws operations: bodies over one to five tables, drops, cuts.
#[derive(Debug)]
pub struct History {
    rng: SimRng,
    /// How many different times there are: few make overwrites.
    times: u64,
}

const DATABASES: [&str; 2] = ["main", "other"];
const TABLES: [(&str, TableMode); 5] = [
    ("cpu", TableMode::Upsert),
    ("mem", TableMode::Upsert),
    ("clicks", TableMode::Append),
    ("disk", TableMode::Upsert),
    ("log", TableMode::Append),
];
const FIELDS: [(&str, FieldType); 6] = [
    ("a", FieldType::F64),
    ("b", FieldType::I64),
    ("c", FieldType::U64),
    ("d", FieldType::Bool),
    ("e", FieldType::String),
    ("f", FieldType::F64),
];

impl History {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed);
        let times = 1 + rng.below(40);
        Self { rng, times }
    }

    /// The next operation.
    pub fn next_op(&mut self) -> Op {
        let database = DATABASES[usize::from(self.rng.below(6) == 0)].to_owned();
        match self.rng.below(40) {
            0 => Op::DropTable(database, self.table().0.to_owned()),
            // `main` too: an open makes it again.
            1 => Op::DropDatabase(DATABASES[usize::from(self.rng.below(4) > 0)].to_owned()),
            2..=4 => Op::Cut,
            _ => Op::Write(database, self.draft()),
        }
    }

    fn table(&mut self) -> (&'static str, TableMode) {
        TABLES[self.rng.below(TABLES.len() as u64) as usize]
    }

    /// A body over one to five tables.
    pub fn draft(&mut self) -> Draft {
        let mut draft = Draft::default();
        let first = self.rng.below(5) as usize;
        let count = 1 + self.rng.below(5) as usize;
        for at in 0..count.min(TABLES.len()) {
            let (name, mode) = TABLES[(first + at) % TABLES.len()];
            draft.tables.push(self.draft_table(name, mode));
        }
        draft
    }

    fn draft_table(&mut self, name: &str, mode: TableMode) -> DraftTable {
        let rows = 1 + self.rng.below(12) as usize;
        let mut series = DraftSeries::default();
        let sets = 1 + self.rng.below(4);
        for _ in 0..sets {
            // The tags come in either order, and one may be absent: the key must not depend on it.
            let host = self.rng.below(5);
            let region = self.rng.below(3);
            let swap = self.rng.chance(4);
            if !swap && host > 0 {
                series.push_tag(0, format!("host{host}").as_bytes());
            }
            if region > 0 {
                series.push_tag(1, format!("re\0gion{region}").as_bytes());
            }
            if swap && host > 0 {
                series.push_tag(0, format!("host{host}").as_bytes());
            }
            series.finish();
        }
        let mut table = DraftTable {
            name: name.to_owned(),
            mode,
            tags: vec!["host".to_owned(), "region".to_owned()],
            series,
            row_series: Vec::new(),
            times: Vec::new(),
            fields: Vec::new(),
        };
        for _ in 0..rows {
            table.row_series.push(self.rng.below(sets) as u32);
            // Two days, so that bodies cross a partition; before the epoch too.
            let at = self.rng.below(self.times) as i64 * (2 * DAY_NS / 40);
            table.times.push(at - DAY_NS / 2);
        }
        let (field_first, field_count) = (self.rng.below(6) as usize, 1 + self.rng.below(4) as usize);
        for at in 0..field_count {
            let (field, kind) = FIELDS[(field_first + at) % FIELDS.len()];
            // The first is in every row, so no row is without a field.
            let present: Vec<u32> = (0..rows as u32).filter(|_| at == 0 || self.rng.chance(5)).collect();
            let mut values = Values::new(kind);
            for _ in &present {
                self.push_value(&mut values);
            }
            let sparse = (present.len() < rows).then_some(present);
            table.fields.push(FieldColumn { column: field.to_owned(), rows: sparse, values });
        }
        table
    }

    fn push_value(&mut self, values: &mut Values) {
        let draw = self.rng.next_u64();
        match values {
            Values::I64(values) => {
                values.push(if draw.is_multiple_of(8) { draw as i64 } else { (draw % 100) as i64 - 50 })
            }
            Values::U64(values) => values.push(if draw.is_multiple_of(8) { draw } else { draw % 100 }),
            Values::F64(values) => values.push(match draw % 8 {
                0 => -0.0,
                1 => f64::from_bits(draw & !(1 << 62)),
                2 => 1e308,
                _ => (draw % 1000) as f64 / 10.0,
            }),
            Values::Bool(values) => values.push(draw.is_multiple_of(2)),
            Values::String(values) => values.push(["", "ok", "two words", "ä\"\\\n"][(draw % 4) as usize]),
        }
    }
}
