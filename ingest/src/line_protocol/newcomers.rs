//! Series that are new to the store while it takes only so many: the first ones of a body come in, the lines of the others are
//! refused.
//!
//! Only a body that was refused for such a limit is read with this. A series is told by a hash of its table and tags, so
//! what is known of a body's series costs a few bytes each.

use std::cell::Cell;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use marigram_storage::draft::Draft;
use marigram_storage::{NewSeriesRoom, SeriesLimit};

use super::error::{Fault, limit};

/// What is new, and how many of it may come.
#[derive(Debug)]
pub struct Newcomers {
    hashers: [DefaultHashBuilder; 2],
    database_name: String,
    database: Count,
    tables: HashMap<String, Table>,
}

#[derive(Debug)]
struct Table {
    count: Count,
    new: HashSet<u128>,
}

/// A limit, and how many came in since.
#[derive(Debug)]
struct Count {
    limit: SeriesLimit,
    taken: Cell<u64>,
}

impl Newcomers {
    /// Nothing is new yet.
    pub fn of_database(name: &str) -> Self {
        let database = Count::new(SeriesLimit { known: 0, max: u64::MAX });
        Self { hashers: Default::default(), database_name: name.to_owned(), database, tables: HashMap::new() }
    }

    /// Takes what the store said of a draft. What was new before still is.
    pub fn learn(&mut self, draft: &Draft, room: &NewSeriesRoom) {
        self.database = Count::new(room.database);
        for of_table in &room.tables {
            let Some(table) = draft.tables.get(of_table.table) else { continue };
            let name = |tag: u32| table.tags.get(tag as usize).map_or("", String::as_str);
            let mut tags = Vec::new();
            let hashes = of_table.new.iter().map(|series| {
                tags.clear();
                tags.extend(table.series.tags(*series as usize).map(|(tag, value)| (name(tag), value)));
                self.hash(&mut tags)
            });
            let hashes: Vec<u128> = hashes.collect();
            let known = self
                .tables
                .entry_ref(table.name.as_str())
                .or_insert_with(|| Table { count: Count::new(of_table.limit), new: HashSet::new() });
            known.count = Count::new(of_table.limit);
            known.new.extend(hashes);
        }
    }

    /// Lets no new series in.
    pub fn close(&mut self) {
        let counts = self.tables.values_mut().map(|table| &mut table.count).chain([&mut self.database]);
        counts.for_each(|count| count.limit.max = count.limit.max.min(count.limit.known));
    }

    /// A body is read from its start.
    pub(super) fn begin(&self) {
        let counts = self.tables.values().map(|table| &table.count).chain([&self.database]);
        counts.for_each(|count| count.taken.set(0));
    }

    /// Takes a series that the body names for the first time, unless it is new and there is no room.
    pub(super) fn admit(&self, table: &str, mut tags: Vec<(&str, &[u8])>) -> Result<(), Fault> {
        let Some(known) = self.tables.get(table) else { return Ok(()) };
        if !known.new.contains(&self.hash(&mut tags)) {
            return Ok(());
        }
        known.count.check("table", table)?;
        self.database.check("database", &self.database_name)?;
        known.count.taken.update(|taken| taken + 1);
        self.database.taken.update(|taken| taken + 1);
        Ok(())
    }

    fn hash(&self, tags: &mut [(&str, &[u8])]) -> u128 {
        tags.sort_unstable();
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(&*tags));
        u128::from(high) << 64 | u128::from(low)
    }
}

impl Count {
    fn new(limit: SeriesLimit) -> Self {
        Self { limit, taken: Cell::new(0) }
    }

    fn check(&self, what: &str, name: &str) -> Result<(), Fault> {
        if self.taken.get() < self.limit.left() {
            return Ok(());
        }
        let (known, max) = (self.limit.known + self.taken.get(), self.limit.max);
        Err(limit(format!(
            "series limit exceeded: {what} {name:?} has {known} series since the last cut, {max} are allowed"
        )))
    }
}
