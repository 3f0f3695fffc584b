//! Names to ids: what producers resolve against, ahead of what is durable.
//!
//! The registry holds the catalog *as resolved*: new tables and columns get their id here, under one lock, and the
//! batch that uses them carries their definition until it is durable in the current generation. Names that only refused
//! batches defined are taken back, see [`names`]. What snapshots see is the catalog *as applied*, which follows.
//! What changes the meaning of a name or of an id bumps `drops`: a batch that was resolved before a drop, a rename, a hidden
//! or widened column or a new partition width must be resolved again.

mod alter;
mod keys;
mod known;
mod names;
mod room;
#[cfg(test)]
mod tests;
mod tokens;
mod views;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock, RwLockWriteGuard};

use self::keys::DraftKeys;
use self::known::OfDraft;
pub(crate) use self::known::{FindStored, Lacking};
use self::names::{Name, NameClaims, Shared, Unlogged};
pub use self::room::{NewSeriesRoom, SeriesLimit, TableSeriesRoom};
pub use self::views::ViewSpec;

use crate::batch::{Batch, SERIES_BYTES_MAX, SeriesDefinitions, TableRows};
use crate::catalog::{Catalog, Database, Fact, default_widths};
use crate::draft::{Draft, DraftTable};
use crate::error::{Error, Result};
use crate::generation::{Generation, Ordinals, SeriesTable, Staged};
use crate::schema::{
    Column, ColumnKind, DAY_NS, DatabaseId, FieldType, NAME_BYTES_MAX, PartitionWidth, STRING_BYTES_MAX, Table,
    TableId, TableMode,
};
use crate::sync::{lock, read, write};
use crate::time::{TIME_MAX, TIME_MIN};
use crate::tombstone::{Delete, Erase};
use crate::values::{FieldColumn, Strings, Values};

/// How much a store may name.
#[derive(Clone, Debug)]
pub struct SchemaLimits {
    /// Tags and fields of one table.
    pub columns_max: usize,
    /// Tables of the store.
    pub tables_max: usize,
    /// New series of one table between two cuts: those that are stored already are taken beyond it.
    pub table_series_max: usize,
    /// New series of one database between two cuts.
    pub database_series_max: u64,
    /// Series of the store between two cuts; so many start one.
    pub series_max: u64,
    /// Partitions that one batch may touch.
    pub batch_partitions_max: usize,
}

impl Default for SchemaLimits {
    fn default() -> Self {
        Self {
            columns_max: 4096,
            tables_max: 100_000,
            table_series_max: 10_000_000,
            database_series_max: 10_000_000,
            series_max: 10_000_000,
            batch_partitions_max: 4096,
        }
    }
}

/// A table that `CREATE TABLE` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Case-sensitive.
    pub name: String,
    /// Fixed for its life.
    pub mode: TableMode,
    /// Tags and fields in declared order, without `time`.
    pub columns: Vec<(String, ColumnKind)>,
    /// ns; a day if absent.
    pub partition_width_ns: Option<i64>,
}

/// A batch with ids, and what it was resolved against.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) batch: Batch,
    pub(crate) drops: u64,
    pub(crate) rows: u64,
    /// Its new series stay as long as this does, or for good once they are durable.
    pub(crate) staged: Option<Staged>,
    /// So do names that nothing logged, or for good once it is said that the log has the batch.
    pub(crate) names: NameClaims,
}

#[derive(Debug)]
pub(crate) struct Registry {
    series_seed: u64,
    limits: SchemaLimits,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct State {
    catalog: Arc<Catalog>,
    generation: Arc<Generation>,
    drops: u64,
    unlogged: Unlogged,
}

impl Registry {
    pub(crate) fn new(
        series_seed: u64,
        limits: SchemaLimits,
        catalog: Arc<Catalog>,
        generation: Arc<Generation>,
    ) -> Self {
        let state = Mutex::new(State { catalog, generation, drops: 0, unlogged: Unlogged::default() });
        Self { series_seed, limits, shared: Arc::new(Shared { gate: RwLock::new(()), state }) }
    }

    /// The catalog as resolved.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&lock(&self.shared.state).catalog)
    }

    /// Nothing is resolved while this is held. A drop or change holds it from its resolution until the log has it or refused
    /// it: a name that is given again gets its new id only after the log has taken the old one away.
    pub(crate) fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        write(&self.shared.gate)
    }

    /// Takes back what was done since the gate was closed.
    pub(crate) fn restore(&self, catalog: Arc<Catalog>) {
        lock(&self.shared.state).catalog = catalog;
    }

    /// Takes everything back that was not logged: `logged` is all that is. Only while the gate is closed, behind a fence.
    pub(crate) fn forget_unlogged(&self, logged: Arc<Catalog>) {
        let mut state = lock(&self.shared.state);
        state.catalog = logged;
        state.unlogged.forget();
    }

    /// Begins anew with what an open found; who resolved before must resolve again.
    pub(crate) fn resume(&self, catalog: Arc<Catalog>, generation: Arc<Generation>) {
        let mut state = lock(&self.shared.state);
        let (drops, mut unlogged) = (state.drops, std::mem::take(&mut state.unlogged));
        unlogged.forget();
        *state = State { catalog, generation, drops, unlogged };
    }

    /// From now on series get ordinals of `generation`.
    pub(crate) fn start_generation(&self, generation: Arc<Generation>) {
        lock(&self.shared.state).generation = generation;
    }

    /// As [`Self::resolve_among`] where nothing is stored.
    #[cfg(test)]
    pub(crate) fn resolve(&self, database_name: &str, draft: &Draft, create: bool) -> Result<Resolved> {
        self.resolve_among(database_name, draft, create, &|_, _| None)
    }

    /// Gives every name of a draft its id. With `create` an unknown database is made. `find_stored` is asked for series where too
    /// many seem to be new.
    pub(crate) fn resolve_among(
        &self,
        database_name: &str,
        draft: &Draft,
        create: bool,
        find_stored: &FindStored<'_>,
    ) -> Result<Resolved> {
        // Dropped last: what is refused is taken back from outside the gate.
        let names;
        let _passed = read(&self.shared.gate);
        if let Some(nothing) = self.resolve_nothing(database_name, draft, create) {
            return Ok(nothing);
        }
        let against;
        (names, against) = self.claim_names(database_name, draft, create)?;
        let Against { database, catalog, generation, drops } = against;
        // Nothing gets an ordinal before everything that can be refused was looked at.
        let named = self.name_all(draft, &catalog, database, &generation)?;
        let filled = || filled(draft);
        let keys: Vec<Vec<&[u8]>> = named.iter().map(|named| named.keys.slices()).collect();
        let of_draft = OfDraft { tables: filled().collect(), named: &named, keys: &keys };
        let (staged, ordinals) = of_draft.stage(&generation, (database, database_name), &self.limits, find_stored)?;
        let mut batch = Batch { generation: generation.number, ..Batch::default() };
        let mut rows = 0;
        for (((table, named), keys), ordinals) in filled().zip(&named).zip(&keys).zip(&ordinals) {
            rows += table.times.len() as u64;
            push_definitions(&catalog, &named.known, named.columns_durable, &mut batch.facts);
            push_rows((named, keys), table, ordinals, &mut batch)?;
        }
        Ok(Resolved { batch, drops, rows, staged: Some(staged), names })
    }

    /// Nothing to store makes nothing.
    fn resolve_nothing(&self, database: &str, draft: &Draft, create: bool) -> Option<Resolved> {
        if !create || filled(draft).next().is_some() {
            return None;
        }
        let state = lock(&self.shared.state);
        state.catalog.database(database).is_none().then(|| state.resolved(Vec::new()))
    }

    /// Makes the names that a draft needs, and claims them. The caller is inside the gate.
    fn claim_names(&self, database: &str, draft: &Draft, create: bool) -> Result<(NameClaims, Against)> {
        let mut state = lock(&self.shared.state);
        let database = state.register_all(&self.limits, (database, create), filled(draft))?;
        let tables: Vec<TableId> =
            filled(draft).filter_map(|table| Some(state.catalog.table(database, &table.name)?.id)).collect();
        let names = NameClaims::new(&self.shared, state.unlogged.claim(database, &tables));
        let (catalog, generation) = (Arc::clone(&state.catalog), Arc::clone(&state.generation));
        Ok((names, Against { database, catalog, generation, drops: state.drops }))
    }

    /// The series of all tables of a draft, before they have ordinals.
    fn name_all(
        &self,
        draft: &Draft,
        catalog: &Catalog,
        database: DatabaseId,
        generation: &Generation,
    ) -> Result<Vec<Named>> {
        let name = |table: &DraftTable| {
            let known = catalog.table(database, &table.name);
            let known = known.ok_or_else(|| Error::NotFound { what: "table", name: table.name.clone() })?;
            self.name_series(known, table, generation)
        };
        filled(draft).map(name).collect()
    }

    /// The keys of a draft's series, and where they will get their ordinals.
    fn name_series(&self, known: &Arc<Table>, table: &DraftTable, generation: &Generation) -> Result<Named> {
        check_draft(table, known, &self.limits)?;
        let keys = DraftKeys::new(known, table)?;
        let fingerprints = keys.fingerprints(self.series_seed);
        let series = generation.table(known.id);
        let columns_durable = series.columns_durable.load(Ordering::Acquire);
        Ok(Named { known: Arc::clone(known), series, columns_durable, keys, fingerprints })
    }

    /// The batch of a delete. A condition must name columns of the table, and in an `upsert` table no field.
    pub(crate) fn delete(&self, table: TableId, erase: &Arc<Erase>, at_ns: i64, statement: &str) -> Result<Resolved> {
        // Dropped last, see `resolve`.
        let names;
        let _passed = read(&self.shared.gate);
        let (catalog, generation, drops) = {
            let mut state = lock(&self.shared.state);
            let database = state.catalog.table_by_id(table).map(|known| known.database);
            let claimed = database.map(|database| state.unlogged.claim(database, &[table])).unwrap_or_default();
            names = NameClaims::new(&self.shared, claimed);
            (Arc::clone(&state.catalog), Arc::clone(&state.generation), state.drops)
        };
        let known = catalog.table_by_id(table);
        let known = known.ok_or_else(|| Error::NotFound { what: "table", name: format!("id {}", table.0) })?;
        let mut tags = Vec::new();
        if let Erase::Where(predicate) = &**erase {
            for id in predicate.columns() {
                let column = known.column_by_id(id);
                let column = column.ok_or_else(|| missing(&format!("id {}", id.0)))?;
                match column.kind {
                    ColumnKind::Time => {}
                    ColumnKind::Tag => tags.push(id),
                    ColumnKind::Field(_) if known.mode == TableMode::Append => {}
                    ColumnKind::Field(_) => {
                        let reason =
                            format!("{:?} is a field, and rows of an upsert table go by their keys", column.name);
                        return Err(Error::invalid("delete condition", reason));
                    }
                }
            }
        }
        let mut batch = Batch { generation: generation.number, ..Batch::default() };
        let durable = generation.table(table).columns_durable.load(Ordering::Acquire);
        push_definitions(&catalog, known, durable, &mut batch.facts);
        let (erase, statement) = (Arc::clone(erase), statement.to_owned());
        batch.delete = Some(Box::new(Delete { table, at_ns, erase, tags, statement }));
        Ok(Resolved { batch, drops, rows: 0, staged: None, names })
    }

    /// The batch of `CREATE DATABASE`.
    pub(crate) fn create_database(&self, name: &str, if_not_exists: bool) -> Result<Resolved> {
        let _passed = read(&self.shared.gate);
        let mut state = lock(&self.shared.state);
        if let Some(known) = state.catalog.database(name) {
            if !if_not_exists {
                return Err(Error::AlreadyExists { what: "database", name: name.to_owned() });
            }
            // It may be known but not yet durable: the caller waits for a batch that defines it.
            let (id, fact) = (known.id, Fact::Database(Database::clone(known)));
            return Ok(state.resolved(vec![fact]).claiming(&self.shared, &mut state, (id, &[])));
        }
        let id = state.database(name, true)?;
        let fact = Fact::Database(Database { id, name: name.to_owned() });
        Ok(state.resolved(vec![fact]).claiming(&self.shared, &mut state, (id, &[])))
    }

    /// The batch of `DROP DATABASE`. The caller holds the gate.
    pub(crate) fn drop_database(&self, name: &str) -> Result<Resolved> {
        let mut state = lock(&self.shared.state);
        let id = state
            .catalog
            .database(name)
            .map(|known| known.id)
            .ok_or_else(|| Error::NotFound { what: "database", name: name.to_owned() })?;
        state.drops += 1;
        let fact = Fact::DropDatabase(id);
        state.apply(&fact)?;
        Ok(state.resolved(vec![fact]))
    }

    /// The batch of `CREATE TABLE`: the whole definition, also of a table that exists where that is fine.
    pub(crate) fn create_table(&self, database: &str, spec: &TableSpec, if_not_exists: bool) -> Result<Resolved> {
        let _passed = read(&self.shared.gate);
        let mut state = lock(&self.shared.state);
        let database = state.database(database, false)?;
        if let Some(known) = state.catalog.table(database, &spec.name) {
            if if_not_exists {
                // It may be known here and not yet be durable: the caller waits for a batch that defines it again.
                let id = known.id;
                return Ok(state.defined(database, id).claiming(&self.shared, &mut state, (database, &[id])));
            }
            return Err(Error::AlreadyExists { what: "table", name: spec.name.clone() });
        }
        if state.catalog.view(database, &spec.name).is_some() {
            return Err(Error::AlreadyExists { what: "view", name: spec.name.clone() });
        }
        check_spec(spec, &self.limits)?;
        let width = spec.partition_width_ns.unwrap_or(DAY_NS);
        let id = state.new_table(&self.limits, database, &spec.name, spec.mode, width)?;
        let mut columns = spec.columns.iter();
        let made = columns.try_for_each(|(name, kind)| state.new_column(&self.limits, id, name, *kind));
        made.inspect_err(|_| state.take_back())?;
        Ok(state.defined(database, id).claiming(&self.shared, &mut state, (database, &[id])))
    }

    /// The batch of a definition that was bounced, as it is defined now. `None`: what it makes is gone since.
    pub(crate) fn again(&self, facts: &[Fact]) -> Option<Resolved> {
        let _passed = read(&self.shared.gate);
        let mut state = lock(&self.shared.state);
        let mut again = Vec::with_capacity(facts.len());
        let (mut of, mut tables) = (None, Vec::new());
        for fact in facts {
            match fact {
                Fact::Database(made) => {
                    of = Some(state.catalog.database(&made.name).filter(|known| known.id == made.id)?.id);
                    again.push(fact.clone());
                }
                Fact::Table { id, database, name, mode, .. } => {
                    let known = state.catalog.table_by_id(*id);
                    let is_same =
                        |known: &&Arc<Table>| known.database == *database && known.name == *name && known.mode == *mode;
                    again.extend(crate::catalog::definition(known.filter(is_same)?));
                    (of, tables) = (Some(*database), vec![*id]);
                }
                // Columns come with their table.
                _ => {}
            }
        }
        Some(state.resolved(again).claiming(&self.shared, &mut state, (of?, &tables)))
    }

    /// The same batch for the generation of now. The caller holds the gate, so nothing else has changed.
    pub(crate) fn resubmit(&self, facts: Vec<Fact>) -> Resolved {
        lock(&self.shared.state).resolved(facts)
    }

    /// The batch of `DROP TABLE`. The caller holds the gate.
    pub(crate) fn drop_table(&self, database: &str, table: &str) -> Result<Resolved> {
        let mut state = lock(&self.shared.state);
        let database = state.database(database, false)?;
        let id = state
            .catalog
            .table(database, table)
            .map(|known| known.id)
            .ok_or_else(|| Error::NotFound { what: "table", name: table.to_owned() })?;
        state.drops += 1;
        let fact = Fact::DropTable(id);
        state.apply(&fact)?;
        Ok(state.resolved(vec![fact]))
    }
}

impl Resolved {
    /// With the names of a database and of some tables that nothing logged, if it is logged before it is dropped.
    fn claiming(self, shared: &Arc<Shared>, state: &mut State, (database, tables): (DatabaseId, &[TableId])) -> Self {
        Self { names: NameClaims::new(shared, state.unlogged.claim(database, tables)), ..self }
    }
}

impl State {
    /// A batch that defines a table whole, and its database: either may be known here and not yet be durable.
    fn defined(&self, database: DatabaseId, table: TableId) -> Resolved {
        let known = self.catalog.databases().filter(|known| known.id == database);
        let mut facts: Vec<Fact> = known.map(|known| Fact::Database(Database::clone(known))).collect();
        if let Some(table) = self.catalog.table_by_id(table) {
            facts.extend(crate::catalog::definition(table));
        }
        self.resolved(facts)
    }

    fn resolved(&self, facts: Vec<Fact>) -> Resolved {
        let batch = Batch { generation: self.generation.number, facts, ..Batch::default() };
        Resolved { batch, drops: self.drops, rows: 0, staged: None, names: NameClaims::default() }
    }

    /// Makes the database, tables and columns that a draft needs, all of them or none.
    fn register_all<'a>(
        &mut self,
        limits: &SchemaLimits,
        (name, create): (&str, bool),
        mut tables: impl Iterator<Item = &'a DraftTable>,
    ) -> Result<DatabaseId> {
        let database = self.database(name, create)?;
        let made = tables.try_for_each(|table| self.register(limits, database, table));
        made.inspect_err(|_| self.take_back())?;
        Ok(database)
    }

    fn apply(&mut self, fact: &Fact) -> Result<()> {
        Arc::make_mut(&mut self.catalog).apply(fact).map_err(|reason| Error::invalid("definition", reason))
    }

    fn database(&mut self, name: &str, create: bool) -> Result<DatabaseId> {
        if let Some(known) = self.catalog.database(name) {
            return Ok(known.id);
        }
        if !create {
            return Err(Error::NotFound { what: "database", name: name.to_owned() });
        }
        check_name("database name", name)?;
        let id = self.catalog.next_database();
        self.apply(&Fact::Database(Database { id, name: name.to_owned() }))?;
        self.unlogged.add(Name::Database(id));
        Ok(id)
    }

    /// Makes the table and the columns that a draft needs and the catalog lacks; refuses contradictions.
    fn register(&mut self, limits: &SchemaLimits, database: DatabaseId, table: &DraftTable) -> Result<()> {
        let id = match self.catalog.table(database, &table.name) {
            Some(known) => known.id,
            None => self.new_table(limits, database, &table.name, table.mode, DAY_NS)?,
        };
        let tags = table.tags.iter().map(|name| (name, ColumnKind::Tag));
        let fields = table.fields.iter().filter(|field| !field.values.is_empty());
        let fields = fields.map(|field| (&field.column, ColumnKind::Field(field.values.kind())));
        for (name, kind) in tags.chain(fields) {
            let known = self.catalog.table_by_id(id).and_then(|known| known.column(name)).map(|column| column.kind);
            match known {
                Some(known) if known == kind => {}
                // Whether each value has a double that equals it is seen when they are converted.
                Some(ColumnKind::Field(known)) if matches!(kind, ColumnKind::Field(sent) if sent.widens_to(known)) => {}
                Some(known) => {
                    return Err(Error::TypeConflict {
                        table: table.name.clone(),
                        field: name.clone(),
                        sent: kind.name(),
                        stored: known.name(),
                    });
                }
                None => self.new_column(limits, id, name, kind)?,
            }
        }
        Ok(())
    }

    fn new_table(
        &mut self,
        limits: &SchemaLimits,
        database: DatabaseId,
        name: &str,
        mode: TableMode,
        width: i64,
    ) -> Result<TableId> {
        check_name("table name", name)?;
        if self.catalog.view(database, name).is_some() {
            return Err(Error::invalid("table name", format!("{name:?} is a view, and stores no rows")));
        }
        let count = self.catalog.all_tables().count();
        if count >= limits.tables_max {
            return Err(Error::Limit { what: "table", reason: format!("the store has {count} tables") });
        }
        let mut widths = default_widths();
        if let Some(first) = widths.first_mut() {
            *first = PartitionWidth { from: i64::MIN, width };
        }
        let id = self.catalog.next_table();
        self.apply(&Fact::Table { id, database, name: name.to_owned(), mode, widths })?;
        self.unlogged.add(Name::Table(id));
        Ok(id)
    }

    fn new_column(&mut self, limits: &SchemaLimits, table: TableId, name: &str, kind: ColumnKind) -> Result<()> {
        check_name("column name", name)?;
        let Some(known) = self.catalog.table_by_id(table) else {
            return Err(Error::NotFound { what: "table", name: format!("id {}", table.0) });
        };
        // Without `time`, which all have.
        let count = known.user_columns() + known.hidden.len();
        if count >= limits.columns_max {
            let reason = match known.hidden.len() {
                0 => format!("table {:?} has {count} tags and fields", known.name),
                hidden => format!("table {:?} has {count} tags and fields, {hidden} of them dropped", known.name),
            };
            return Err(Error::Limit { what: "column", reason });
        }
        let id = known.next_column();
        self.apply(&Fact::Column { table, column: Column { id, name: name.to_owned(), kind } })?;
        self.unlogged.add(Name::Column(table, id));
        Ok(())
    }
}

/// The tables of a draft that have rows.
fn filled(draft: &Draft) -> impl Iterator<Item = &DraftTable> {
    draft.tables.iter().filter(|table| !table.times.is_empty())
}

/// What a draft is resolved against.
struct Against {
    database: DatabaseId,
    catalog: Arc<Catalog>,
    generation: Arc<Generation>,
    drops: u64,
}

/// The series of a draft's table, before they have ordinals.
struct Named {
    known: Arc<Table>,
    series: Arc<SeriesTable>,
    columns_durable: u32,
    keys: DraftKeys,
    fingerprints: Vec<u128>,
}

/// The rows of a draft's table, and the definitions of their series.
fn push_rows((named, keys): (&Named, &[&[u8]]), table: &DraftTable, found: &Ordinals, batch: &mut Batch) -> Result<()> {
    let known = &named.known;
    if !found.undefined.is_empty() {
        batch.series.extend(definitions(known.id, keys, found, SERIES_BYTES_MAX));
    }
    let mut fields = Vec::with_capacity(table.fields.len());
    for field in table.fields.iter().filter(|field| !field.values.is_empty()) {
        let column = known.column(&field.column).ok_or_else(|| missing(&field.column))?;
        let values = match column.kind {
            ColumnKind::Field(kind) if kind != field.values.kind() => {
                let widened = field.values.widened().filter(|_| field.values.kind().widens_to(kind));
                Values::F64(widened.ok_or_else(|| conflict(known, column, field.values.kind()))?)
            }
            _ => field.values.clone(),
        };
        fields.push(FieldColumn { column: column.id, rows: field.rows.clone(), values });
    }
    let series = table
        .row_series
        .iter()
        .map(|local| found.ordinals.get(*local as usize).copied())
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| Error::invalid("draft", "a row names a series that the draft does not have"))?;
    batch.tables.push(TableRows { table: known.id, series, times: table.times.clone(), fields });
    Ok(())
}

/// The keys of series that are not durable yet, each once, in sections of at most so many bytes that hold a key at least.
fn definitions(table: TableId, keys: &[&[u8]], found: &Ordinals, bytes_max: usize) -> Vec<SeriesDefinitions> {
    let ordinal = |at: &u32| Some((*found.ordinals.get(*at as usize)?, *at as usize));
    let mut positions: Vec<(u32, usize)> = found.undefined.iter().filter_map(ordinal).collect();
    positions.sort_unstable();
    positions.dedup_by_key(|(ordinal, _)| *ordinal);
    let (mut sections, mut definitions) = (Vec::new(), SeriesDefinitions::new(table));
    for (ordinal, at) in positions {
        let key = keys.get(at).copied().unwrap_or_default();
        if definitions.len() > 0 && bytes_max < definitions.key_bytes() + key.len() {
            sections.push(std::mem::replace(&mut definitions, SeriesDefinitions::new(table)));
        }
        definitions.push(ordinal, key);
    }
    sections.push(definitions);
    sections
}

/// The definitions of a table that are not durable yet in this generation.
fn push_definitions(catalog: &Catalog, table: &Table, durable: u32, facts: &mut Vec<Fact>) {
    if durable == 0 {
        let database = catalog.databases().find(|known| known.id == table.database);
        let database = database.map(|known| Fact::Database(Database::clone(known)));
        if let Some(database) = database.filter(|fact| !facts.contains(fact)) {
            facts.push(database);
        }
        facts.extend(crate::catalog::definition(table));
    } else {
        let columns = table.columns.iter().filter(|column| column.id.0 > durable);
        facts.extend(columns.map(|column| Fact::Column { table: table.id, column: column.clone() }));
    }
}

fn conflict(table: &Table, column: &Column, sent: FieldType) -> Error {
    Error::TypeConflict {
        table: table.name.clone(),
        field: column.name.clone(),
        sent: sent.influx_name(),
        stored: column.kind.name(),
    }
}

fn missing(column: &str) -> Error {
    Error::NotFound { what: "column", name: column.to_owned() }
}

fn check_name(what: &'static str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(what, "it is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(what, format!("it has {} bytes, {NAME_BYTES_MAX} are allowed", name.len())));
    }
    Ok(())
}

fn check_spec(spec: &TableSpec, limits: &SchemaLimits) -> Result<()> {
    check_name("table name", &spec.name)?;
    if limits.columns_max < spec.columns.len() {
        return Err(Error::Limit { what: "column", reason: format!("{} columns are declared", spec.columns.len()) });
    }
    for (at, (name, kind)) in spec.columns.iter().enumerate() {
        check_name("column name", name)?;
        if name == "time" || *kind == ColumnKind::Time {
            return Err(Error::invalid("column", "a table has one time column, called time"));
        }
        if spec.columns.iter().take(at).any(|(other, _)| other == name) {
            return Err(Error::invalid("column", format!("{name:?} is declared twice")));
        }
    }
    spec.partition_width_ns.map_or(Ok(()), check_width)
}

fn check_width(width: i64) -> Result<()> {
    if (60_000_000_000..=3_660 * DAY_NS).contains(&width) {
        return Ok(());
    }
    Err(Error::invalid("partition_width", "it is not between a minute and ten years"))
}

/// What a decoder must have kept; a draft that breaks it never reaches the log.
fn check_draft(table: &DraftTable, known: &Table, limits: &SchemaLimits) -> Result<()> {
    let rows = table.times.len();
    if rows > crate::batch::BATCH_ROWS_MAX {
        return Err(Error::invalid("batch", format!("{rows} rows for table {:?}", table.name)));
    }
    if table.series.len() > crate::batch::BATCH_ROWS_MAX {
        return Err(Error::invalid("batch", format!("{} series for table {:?}", table.series.len(), table.name)));
    }
    if table.row_series.len() != rows {
        return Err(Error::invalid("draft", "rows and series differ in length"));
    }
    if let Some(time) = table.times.iter().find(|time| !(TIME_MIN..=TIME_MAX).contains(*time)) {
        return Err(Error::invalid("time", format!("{time} is out of range")));
    }
    let (first, last) =
        table.times.iter().fold((i64::MAX, i64::MIN), |(first, last), time| (first.min(*time), last.max(*time)));
    if rows > 0 && known.partition_of(first) != known.partition_of(last) {
        let mut partitions: Vec<i64> = table.times.iter().map(|time| known.partition_of(*time)).collect();
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.len() > limits.batch_partitions_max {
            return Err(Error::Limit {
                what: "partition",
                reason: format!(
                    "the batch touches {} partitions of table {:?}, {} are allowed",
                    partitions.len(),
                    table.name,
                    limits.batch_partitions_max
                ),
            });
        }
    }
    for field in &table.fields {
        let values = field.values.len();
        let fits = match &field.rows {
            None => values == rows,
            Some(present) => {
                present.len() == values
                    && present.is_sorted_by(|first, second| first < second)
                    && present.last().is_none_or(|last| (*last as usize) < rows)
            }
        };
        // A column that the decoder made and then rolled back is empty.
        if !fits && values > 0 {
            return Err(Error::invalid("draft", format!("field {:?} does not fit its rows", field.column)));
        }
        if let Values::String(strings) = &field.values
            && let Some(bytes) = longest(strings).filter(|bytes| STRING_BYTES_MAX < *bytes)
        {
            let reason =
                format!("a string of {bytes} bytes in field {:?}, {STRING_BYTES_MAX} are allowed", field.column);
            return Err(Error::invalid("value", reason));
        }
        if let Values::F64(values) = &field.values
            && let Some(value) = values.iter().find(|value| !value.is_finite())
        {
            return Err(Error::invalid("value", format!("{value} in field {:?} is not finite", field.column)));
        }
    }
    Ok(())
}

/// Bytes of the longest of these.
fn longest(strings: &Strings) -> Option<usize> {
    let starts = std::iter::once(&0).chain(&strings.ends);
    strings.ends.iter().zip(starts).map(|(end, start)| end.saturating_sub(*start) as usize).max()
}
