//! The structure of lines: series, fields, time, and which bytes stand between them.

use hashbrown::HashTable;
use marigram_storage::draft::Draft;
use std::hash::BuildHasher;
use std::ops::Range;

use super::draft::{Mark, NONE, Rules, TableDraft, check_name};
use super::error::{Fault, limit, unparsable};
use super::escape::{self, Escapes, Stops, ends_line, rest, skip_blank, unescaped};
use super::fields::{fields, time};
use super::series::{NewKey, Spellings, too_many_columns};
use super::{LineError, ParseOptions, Parsed, Refusal, Schema, TableLimit, number};

/// With how many rows a table is known well enough to guess how many more will come.
const ROWS_BEFORE_RESERVE: usize = 64;
/// No guess makes more room than this; it would be memory for rows that may not come.
const RESERVE_ROWS_MAX: usize = 1 << 16;

/// Working memory that outlives a body. Holds nothing of it between bodies.
#[derive(Debug, Default)]
pub(super) struct Memory {
    spellings: Spellings,
    by_table: HashTable<u32>,
    /// The fields that the line under construction set.
    touched: Vec<u32>,
    /// An unescaped name.
    name: Vec<u8>,
}

/// What the line under construction belongs to.
enum Series {
    Known(u32),
    /// A spelling not seen before, whose tags the spellings keep.
    New(NewKey),
}

/// Reads a body.
pub(super) fn body(memory: &mut Memory, text: &str, options: &ParseOptions, schema: &dyn Schema) -> Parsed {
    memory.spellings.clear();
    memory.by_table.clear();
    if let Some(newcomers) = schema.newcomers() {
        newcomers.begin();
    }
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        options,
        schema,
        memory,
        tables: Vec::new(),
        new_tables: 0,
        columns: 0,
        last: NONE,
        counted: 0,
        line: 1,
        out: Parsed::default(),
    };
    reader.lines();
    reader.finish()
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    options: &'a ParseOptions,
    schema: &'a dyn Schema,
    memory: &'a mut Memory,
    tables: Vec<TableDraft>,
    /// How many of them the catalog lacks.
    new_tables: usize,
    /// Columns of all tables.
    columns: usize,
    /// The series of the line before: an index into `Memory::known`.
    last: u32,
    /// How far lines were counted, and the number of the line there.
    counted: usize,
    line: u32,
    out: Parsed,
}

impl Reader<'_> {
    fn lines(&mut self) {
        let mut at = 0;
        loop {
            at = skip_blank(self.bytes, at);
            match self.bytes.get(at) {
                None => return,
                Some(b'\n') => at += 1,
                Some(b'\r') if ends_line(self.bytes, at) => at += 1,
                Some(b'#') => at = memchr::memchr(b'\n', rest(self.bytes, at)).map_or(self.bytes.len(), |end| at + end),
                Some(_) => at = self.one_line(at),
            }
        }
    }

    /// Takes the line that starts at `start` and returns where it ends.
    #[inline]
    fn one_line(&mut self, start: usize) -> usize {
        self.memory.touched.clear();
        let tables_before = self.tables.len();
        let (series, table, at) = match self.series(start) {
            Ok(found) => found,
            Err(fault) => return self.refuse(start, &fault),
        };
        let Some(mark) = self.tables.get(table as usize).map(TableDraft::mark) else { return self.bytes.len() };
        match self.row(series, table, start, at) {
            Ok(end) => end,
            Err(fault) => {
                self.undo(table, mark, tables_before);
                self.refuse(start, &fault)
            }
        }
    }

    /// The series of the line, its table, and where the fields begin, blanks skipped.
    #[inline]
    fn series(&mut self, start: usize) -> Result<(Series, u32, usize), Fault> {
        match self.memory.spellings.guess(self.bytes, self.last, start) {
            Some((index, known)) => {
                Ok((Series::Known(index), known.table, skip_blank(self.bytes, Spellings::end(known, start))))
            }
            None => self.other_series(start),
        }
    }

    /// As `series`, when the guess was wrong.
    fn other_series(&mut self, start: usize) -> Result<(Series, u32, usize), Fault> {
        let (end, escaped) = escape::key_end(self.bytes, start);
        let key = self.bytes.get(start..end).unwrap_or_default();
        let spellings = &mut self.memory.spellings;
        let hash = spellings.hasher.hash_one(key);
        let has_fields = self.bytes.get(end) == Some(&b' ');
        if let Some(index) = spellings.find(self.bytes, key, hash)
            && has_fields
        {
            let table = spellings.get(index).map_or(NONE, |known| known.table);
            return Ok((Series::Known(index), table, skip_blank(self.bytes, end)));
        }
        let (name_end, name_escaped) = escape::name_end(key, 0, Stops::MEASUREMENT);
        if name_end == 0 {
            return Err(unparsable("missing measurement"));
        }
        spellings.clear_tags();
        let name = start..start + name_end;
        if name_end < key.len() {
            let guess = spellings.get(self.last).and_then(|last| self.tables.get(last.table as usize));
            let guess = guess.filter(|table| self.bytes.get(name.clone()) == Some(&table.raw_name));
            spellings.read_tags(self.bytes, name.end + 1, end, guess, self.options.line_columns_max)?;
        }
        if !has_fields {
            return Err(unparsable("missing fields"));
        }
        let table = self.table(name, name_escaped)?;
        Ok((Series::New(NewKey { key: start..end, hash, escaped }), table, skip_blank(self.bytes, end)))
    }

    /// The table whose name stands at `raw`; new if need be.
    fn table(&mut self, raw: Range<usize>, escaped: bool) -> Result<u32, Fault> {
        let raw = self.bytes.get(raw).unwrap_or_default();
        if let Some(last) = self.memory.spellings.get(self.last)
            && self.tables.get(last.table as usize).is_some_and(|table| table.raw_name == raw)
        {
            return Ok(last.table);
        }
        let Memory { spellings, by_table, name, .. } = &mut *self.memory;
        let hasher = &spellings.hasher;
        let name = unescaped(raw, escaped, Escapes::Measurement, name)?;
        let hash = hasher.hash_one(name);
        let tables = &self.tables;
        let named = |index: &u32| tables.get(*index as usize).map_or("", |table| table.name.as_str());
        if let Some(index) = by_table.find(hash, |index| named(index) == name) {
            return Ok(*index);
        }
        check_name(name, "measurement")?;
        if tables.len() >= self.options.tables_max {
            let max = self.options.tables_max;
            return Err(limit(format!("too many measurements: more than {max} in this request")));
        }
        let of_catalog = self.schema.new_table(name);
        if let Some(TableLimit { known, max }) = of_catalog.filter(|limit| limit.max <= limit.known + self.new_tables) {
            let count = known + self.new_tables;
            return Err(limit(format!("table limit exceeded: the store has {count} tables, {max} are allowed")));
        }
        self.new_tables += usize::from(of_catalog.is_some());
        let index = tables.len() as u32;
        by_table.insert_unique(hash, index, |index| hasher.hash_one(named(index)));
        self.tables.push(TableDraft::new(name.to_owned(), raw, of_catalog.is_some()));
        Ok(index)
    }

    /// Reads fields and time, and adds the row.
    #[inline]
    fn row(&mut self, series: Series, index: u32, start: usize, at: usize) -> Result<usize, Fault> {
        let Some(table) = self.tables.get_mut(index as usize) else { return Ok(self.bytes.len()) };
        let rules = Rules {
            options: self.options,
            schema: self.schema,
            hasher: self.memory.spellings.hasher.clone(),
            columns_end: table.column_count() + self.options.body_columns_max.saturating_sub(self.columns),
        };
        let columns_before = table.column_count();
        let at = fields(self.text, at, table, &mut self.memory.touched, &mut self.memory.name, &rules)?;
        let (time, end) = time(self.text, at, self.options)?;
        let tags = match &series {
            Series::Known(index) => self.memory.spellings.get(*index).map_or(0, |known| known.tags as usize),
            Series::New(_) => self.memory.spellings.new_tag_count(),
        };
        let line_bytes = end - start;
        if line_bytes > self.options.line_bytes_max {
            let max = self.options.line_bytes_max;
            return Err(limit(format!("line of {line_bytes} bytes is longer than {max}")));
        }
        if tags + self.memory.touched.len() > self.options.line_columns_max {
            return Err(too_many_columns(self.options.line_columns_max));
        }
        let known = match series {
            Series::Known(known) => known,
            Series::New(key) => self.memory.spellings.learn(self.bytes, key, index, table, &rules)?,
        };
        self.memory.spellings.follow(self.last, known);
        self.last = known;
        self.columns += table.column_count() - columns_before;
        let series = self.memory.spellings.get(known).map_or(0, |known| known.series);
        table.row_series.push(series);
        table.times.push(time);
        if table.times.len() == ROWS_BEFORE_RESERVE {
            let rows = ROWS_BEFORE_RESERVE * (self.bytes.len() - end) / end.max(1);
            table.reserve(rows.min(RESERVE_ROWS_MAX));
        }
        self.out.rows += 1;
        Ok(end)
    }

    /// Forgets what the line under construction left behind.
    #[cold]
    fn undo(&mut self, index: u32, mark: Mark, tables_before: usize) {
        let Memory { spellings, by_table, touched, .. } = &mut *self.memory;
        let hasher = &spellings.hasher;
        let Some(table) = self.tables.get_mut(index as usize) else { return };
        table.undo(mark, touched, hasher);
        if tables_before < self.tables.len() {
            let hash = self.tables.last().map_or(0, |table| hasher.hash_one(table.name.as_str()));
            if let Ok(entry) = by_table.find_entry(hash, |found| *found == index) {
                entry.remove();
            }
            let new = self.tables.iter().skip(tables_before).filter(|table| table.is_new).count();
            self.new_tables -= new;
            self.tables.truncate(tables_before);
        }
    }

    /// Notes a refused line and returns where it ends.
    #[cold]
    fn refuse(&mut self, start: usize, fault: &Fault) -> usize {
        let end = escape::line_end(self.bytes, start);
        self.out.lines_refused += 1;
        self.out.lines_future += u64::from(fault.refusal == Refusal::Future);
        if self.out.errors.len() < self.options.errors_max {
            let uncounted = self.bytes.get(self.counted..start).unwrap_or_default();
            self.line += memchr::memchr_iter(b'\n', uncounted).count() as u32;
            self.counted = start;
            let original = self.text.get(start..end).unwrap_or_default();
            let original = original.strip_suffix('\r').unwrap_or(original);
            self.out.errors.push(LineError {
                line: self.line,
                original: number::cut(original, self.options.error_line_bytes_max).to_owned(),
                reason: fault.reason.clone().into_owned(),
                refusal: fault.refusal,
            });
        }
        end
    }

    fn finish(mut self) -> Parsed {
        let mode = self.options.mode;
        let tables = self.tables.into_iter().map(|table| table.finish(mode)).collect();
        self.out.draft = Draft { tables, position: None };
        self.out
    }
}
