//! Histories: operations drawn from a seed.

use marigram_storage::clock::sim::SimRng;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, ColumnKind, DAY_NS, FieldType, Table, TableMode};
use marigram_storage::token::{Digest, Grant, Rights, Token, TokenId, Verifier};
use marigram_storage::tombstone::{Comparison, Erase, KeyList, Literal, Predicate};
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, series};

use crate::model::{Fields, Model, Rows, Tags, Value, read_table, tag_of};

/// One thing that somebody asks of an engine.
#[derive(Clone, Debug)]
pub enum Op {
    /// A body.
    Write(String, Draft),
    /// `DROP TABLE`.
    DropTable(String, String),
    /// `DROP DATABASE`.
    DropDatabase(String),
    /// `DELETE`.
    Delete(String, String, Doomed),
    /// `ALTER TABLE`, of a database and a table.
    Alter(String, String, Alter),
    /// A new token, with the next id.
    CreateToken(NewToken),
    /// So many-th of the tokens that there are, counted around, is revoked.
    RevokeToken(u64),
    /// A flush. No fact.
    Cut,
}

/// What is drawn of a token.
#[derive(Clone, Debug)]
pub struct NewToken {
    name: String,
    digest: [u8; 32],
    grants: Vec<Grant>,
    expires_ns: Option<i64>,
}

impl NewToken {
    /// The token of an id.
    pub fn token(&self, id: TokenId) -> Token {
        let [digest, stored_key, server_key] = [0, 1, 2].map(|more| self.digest.map(|byte| byte.wrapping_add(more)));
        Token {
            id,
            name: self.name.clone(),
            digest: Digest(digest),
            verifier: Verifier { salt: [id.0 as u8; 16], iterations: 4096 + id.0, stored_key, server_key },
            grants: self.grants.clone(),
            created_ns: i64::from(id.0),
            expires_ns: self.expires_ns,
        }
    }
}

/// Revokes the `nth` token.
fn revoke(engine: &Engine, nth: u64) -> Result<(), Error> {
    let catalog = engine.catalog();
    let count = catalog.tokens().count() as u64;
    let found = catalog.tokens().nth(nth.checked_rem(count).unwrap_or(0) as usize);
    found.map_or(Ok(()), |token| engine.revoke_token(token.id))
}

/// Which rows a delete names.
#[derive(Clone, Debug)]
pub struct Doomed {
    /// Of this host, or of none; `None`: of any.
    host: Option<Option<String>>,
    /// From this time on.
    from: i64,
    /// Up to this time, itself included.
    to: i64,
    /// By key, one by one, as a snapshot shows them.
    by_key: bool,
    /// Rows whose number in this field is below; of an append table only.
    below: Option<(String, i64)>,
}

impl Doomed {
    /// Every row; one by one if `by_key`, where a table has keys.
    pub fn all(by_key: bool) -> Self {
        Self { host: None, from: i64::MIN, to: i64::MAX, by_key, below: None }
    }

    /// The rows of a host at these times, both included.
    pub fn of_host(host: &str, from: i64, to: i64, by_key: bool) -> Self {
        Self { host: Some(Some(host.to_owned())), from, to, by_key, below: None }
    }

    /// The rows whose number in a field of an append table is below `bound`.
    pub fn below(field: &str, bound: i64) -> Self {
        Self { below: Some((field.to_owned(), bound)), ..Self::all(false) }
    }

    fn names(&self, tags: &Tags, time: i64, fields: &Fields) -> bool {
        let host = self.host.as_ref().is_none_or(|host| tags.get("host") == host.as_ref());
        let is_below = self.below.as_ref().is_none_or(|(field, below)| match fields.get(field.as_str()) {
            Some(Value::I64(number)) => number < below,
            Some(Value::F64(bits)) => f64::from_bits(*bits) < *below as f64,
            _ => false,
        });
        host && (self.from..=self.to).contains(&time) && is_below
    }

    /// The condition, for a table of these columns; `None`: a column of it is not there, so nothing qualifies.
    fn predicate(&self, table: &Table) -> Option<Predicate> {
        let compare = |column, op, value| Predicate::Compare { column, op, value };
        let mut all = vec![
            compare(ColumnId::TIME, Comparison::GreaterOrEqual, Literal::I64(self.from)),
            Predicate::Not(Box::new(compare(ColumnId::TIME, Comparison::Greater, Literal::I64(self.to)))),
        ];
        match (&self.host, table.column("host").map(|column| column.id)) {
            (None, _) | (Some(None), None) => {}
            (Some(Some(host)), Some(column)) => {
                all.push(compare(column, Comparison::Equal, Literal::String(host.clone())));
            }
            (Some(None), Some(column)) => all.push(Predicate::IsAbsent(column)),
            (Some(Some(_)), None) => return None,
        }
        if let Some((field, below)) = &self.below {
            all.push(compare(table.column(field)?.id, Comparison::Less, Literal::I64(*below)));
        }
        Some(Predicate::All(all))
    }

    fn run(&self, engine: &Engine, database: &str, table: &str) -> Result<(), Error> {
        let snapshot = engine.snapshot();
        let catalog = snapshot.catalog();
        let Some(database) = catalog.database(database) else { return Ok(()) };
        let Some(table) = catalog.table(database.id, table) else { return Ok(()) };
        let has_hidden_tags = table.hidden.iter().any(|column| column.kind == ColumnKind::Tag);
        let erase = if self.by_key && table.mode == TableMode::Upsert && !has_hidden_tags {
            let mut keys = KeyList::default();
            if let Rows::Upsert(rows) = read_table(&snapshot, table)? {
                for ((tags, time), fields) in rows {
                    if self.names(&tags, time, &fields) {
                        keys.push(&series_key(table, &tags), time)?;
                    }
                }
            }
            Erase::Keys(keys.finish())
        } else {
            match self.predicate(table) {
                Some(predicate) => Erase::Where(predicate),
                None => return Ok(()),
            }
        };
        absent_is_fine(engine.delete(table.id, erase, "DELETE").map(|_| ()))
    }
}

fn series_key(table: &Table, tags: &Tags) -> Vec<u8> {
    let mut columns: Vec<_> =
        tags.iter().map(|(name, value)| (tag_of(table, name).unwrap(), value.as_bytes())).collect();
    columns.sort();
    let mut key = Vec::new();
    series::encode_key(columns, &mut key);
    key
}

/// A change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alter {
    /// `ADD COLUMN IF NOT EXISTS`.
    Add(String, ColumnKind),
    /// `RENAME COLUMN`, to a name that nothing else has.
    Rename(String, String),
    /// `DROP COLUMN`.
    Hide(String),
    /// `ALTER COLUMN … TYPE DOUBLE PRECISION`.
    Widen(String),
    /// `SET (partition_width = …)`, ns.
    Width(i64),
}

impl Alter {
    /// Asks it.
    pub fn run(&self, engine: &Engine, database: &str, table: &str) -> Result<(), Error> {
        match self {
            Self::Add(column, kind) => engine.add_column(database, table, (column, *kind), true),
            Self::Rename(column, to) => engine.rename_column(database, table, column, to),
            Self::Hide(column) => engine.hide_column(database, table, column),
            Self::Widen(column) => engine.widen_column(database, table, column),
            Self::Width(width) => engine.set_partition_width(database, table, *width),
        }
    }

    /// What it does to the model.
    pub fn fold(&self, model: &mut Model, database: &str, table: &str) {
        match self {
            // Nobody sees a width, nor a column without values.
            Self::Add(..) | Self::Width(_) => {}
            Self::Rename(column, to) => model.rename_column(database, table, column, to),
            Self::Hide(column) => model.hide_column(database, table, column),
            Self::Widen(column) => model.widen_column(database, table, column),
        }
    }
}

impl Op {
    /// Asks it.
    pub fn run(&self, engine: &Engine) -> Result<(), Error> {
        match self {
            Self::Write(database, draft) => engine.write(database, draft).map(|_| ()),
            Self::DropTable(database, table) => absent_is_fine(engine.drop_table(database, table)),
            Self::DropDatabase(database) => absent_is_fine(engine.drop_database(database)),
            Self::Delete(database, table, doomed) => doomed.run(engine, database, table),
            Self::Alter(database, table, alter) => absent_is_fine(alter.run(engine, database, table)),
            Self::CreateToken(new) => engine.create_token(new.token(engine.catalog().next_token())),
            Self::RevokeToken(nth) => revoke(engine, *nth),
            Self::Cut => engine.cut(),
        }
    }

    /// What it does to the model.
    pub fn fold(&self, model: &mut Model) {
        match self {
            Self::Write(database, draft) => model.write(database, draft),
            Self::DropTable(database, table) => model.drop_table(database, table),
            Self::DropDatabase(database) => model.drop_database(database),
            Self::Delete(database, table, doomed) => {
                model.delete(database, table, |tags, time, fields| doomed.names(tags, time, fields));
            }
            Self::Alter(database, table, alter) => alter.fold(model, database, table),
            Self::CreateToken(new) => model.create_token(new.token(model.next_token)),
            Self::RevokeToken(nth) => model.revoke_token(*nth),
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

/// Draws operations: bodies over one to five tables, drops, cuts, changes of tables if it may.
#[derive(Debug)]
pub struct History {
    rng: SimRng,
    /// Whether tables are changed, too.
    alters: bool,
    /// How many different times there are: few make overwrites.
    times: u64,
    /// Bodies that may be sent again as they were.
    sent: Vec<(String, Draft)>,
}

const SENT_MAX: usize = 8;
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

/// A field of integers of which each is a double, in histories that change tables.
const SMALL: &str = "small";

impl History {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed);
        let times = 1 + rng.below(40);
        Self { rng, alters: false, times, sent: Vec::new() }
    }

    /// From a seed, with changes of tables.
    pub fn altering(seed: u64) -> Self {
        Self { alters: true, ..Self::new(seed) }
    }

    /// The next operation.
    pub fn next_op(&mut self) -> Op {
        let database = DATABASES[usize::from(self.rng.below(6) == 0)].to_owned();
        if self.alters && self.rng.below(10) == 0 {
            return Op::Alter(database, self.table().0.to_owned(), self.alter());
        }
        if self.alters && self.rng.below(25) == 0 {
            return self.token();
        }
        match self.rng.below(40) {
            0 => Op::DropTable(database, self.table().0.to_owned()),
            // `main` too: an open makes it again.
            1 => Op::DropDatabase(DATABASES[usize::from(self.rng.below(4) > 0)].to_owned()),
            2..=4 => Op::Cut,
            5..=7 => self.delete(database),
            // A client that got no answer, or a file that is loaded twice. What a change of a table refuses is not sent again.
            8..=12 if !self.alters && !self.sent.is_empty() => {
                let at = self.rng.below(self.sent.len() as u64) as usize;
                let (database, draft) = self.sent.swap_remove(at);
                Op::Write(database, draft)
            }
            _ => {
                let draft = self.draft();
                if self.sent.len() < SENT_MAX {
                    self.sent.push((database.clone(), draft.clone()));
                }
                Op::Write(database, draft)
            }
        }
    }

    /// A delete of some rows of some table.
    pub fn delete(&mut self, database: String) -> Op {
        let (table, mode) = self.table();
        let doomed = self.doomed(mode);
        Op::Delete(database, table.to_owned(), doomed)
    }

    fn doomed(&mut self, mode: TableMode) -> Doomed {
        let host = match self.rng.below(4) {
            0 => None,
            1 => Some(None),
            _ => Some(Some(format!("host{}", 1 + self.rng.below(4)))),
        };
        let (one, other) = (self.time(), self.time());
        let (from, to) = match self.rng.below(4) {
            0 => (i64::MIN, i64::MAX),
            1 => (i64::MIN, one),
            _ => (one.min(other), one.max(other)),
        };
        let is_below = mode == TableMode::Append && self.rng.chance(2);
        let below = is_below.then(|| ("b".to_owned(), self.rng.below(60) as i64 - 30));
        Doomed { host, from, to, by_key: self.rng.chance(3), below }
    }

    fn alter(&mut self) -> Alter {
        let column = ["host", "region", "a", "b", "d", "e", SMALL][self.rng.below(7) as usize].to_owned();
        match self.rng.below(8) {
            0 => Alter::Add("added".to_owned(), ColumnKind::Field(FieldType::I64)),
            1 => Alter::Add("rack".to_owned(), ColumnKind::Tag),
            2 | 3 => {
                let to = format!("{column}_{}", self.rng.next_u64());
                Alter::Rename(column, to)
            }
            4 | 5 => Alter::Hide(column),
            6 => Alter::Widen(SMALL.to_owned()),
            _ => Alter::Width(DAY_NS / 4 * (1 + self.rng.below(12) as i64)),
        }
    }

    fn token(&mut self) -> Op {
        if self.rng.below(5) < 2 {
            return Op::RevokeToken(self.rng.next_u64());
        }
        let grant = |database: Option<&str>, bits: u64| {
            let rights = Rights::from_bits(1 + bits as u8).unwrap_or(Rights::READ);
            Grant { database: database.map(str::to_owned), rights }
        };
        let mut grants = vec![grant(None, self.rng.below(15))];
        for database in DATABASES {
            if self.rng.chance(2) {
                grants.push(grant(Some(database), self.rng.below(15)));
            }
        }
        Op::CreateToken(NewToken {
            name: format!("token {}", self.rng.next_u64()),
            digest: [self.rng.below(256) as u8; 32],
            grants,
            expires_ns: self.rng.chance(2).then(|| self.rng.below(1 << 40) as i64),
        })
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
            let time = self.time();
            table.times.push(time);
        }
        if self.alters && self.rng.chance(2) {
            let values = Values::I64((0..rows).map(|_| self.rng.below(100) as i64 - 50).collect());
            table.fields.push(FieldColumn { column: SMALL.to_owned(), rows: None, values });
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

    /// Two days, so that bodies cross a partition; before the epoch too.
    fn time(&mut self) -> i64 {
        let at = self.rng.below(self.times) as i64 * (2 * DAY_NS / 40);
        at - DAY_NS / 2
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
