//! The structure of lines: series, fields, time, and which bytes stand between them.

use hashbrown::{DefaultHashBuilder, HashTable};
use marigram_storage::draft::Draft;
use marigram_storage::schema::{FieldType, STRING_BYTES_MAX, TAG_BYTES_MAX};
use std::hash::BuildHasher;
use std::ops::Range;

use super::draft::{FieldDraft, Mark, NONE, Rules, TableDraft, check_name, scalar_type};
use super::error::{Fault, conflict, limit, unparsable};
use super::escape::{self, Escapes, Stops, rest};
use super::number::{self, Scalar};
use super::{LineError, ParseOptions, Parsed, Schema};

/// Working memory that outlives a body. Holds nothing of it between bodies.
#[derive(Debug, Default)]
pub(super) struct Memory {
    hasher: DefaultHashBuilder,
    /// Every spelling of a series that occurred, in order of appearance.
    known: Vec<Known>,
    /// `known` by its bytes.
    by_key: HashTable<u32>,
    /// Spellings that do not stand in the body.
    arena: Vec<u8>,
    by_table: HashTable<u32>,
    /// The fields that the line under construction set.
    touched: Vec<u32>,
    tags: Vec<NewTag>,
    /// Unescaped tag values of the line under construction.
    tag_bytes: Vec<u8>,
    name: Vec<u8>,
}

/// A spelling of a series: `measurement,tags` byte for byte.
#[derive(Clone, Copy, Debug)]
struct Known {
    at: u32,
    bytes: u32,
    in_arena: bool,
    table: u32,
    series: u32,
    tags: u32,
    /// The spelling that followed last time.
    next: u32,
}

/// A tag of a series that was not seen before.
#[derive(Clone, Debug)]
struct NewTag {
    /// `name=` in the body.
    prefix: Range<usize>,
    name_escaped: bool,
    /// In the body, or in `tag_bytes`.
    value: Range<usize>,
    value_escaped: bool,
    /// Which tag of the table; `NONE` until it is looked up.
    tag: u32,
}

/// What the line under construction belongs to.
enum Series {
    Known(u32),
    /// A spelling not seen before: its bytes in the body. Its tags are in `Memory::tags`.
    New(Range<usize>),
}

/// Reads a body.
pub(super) fn body(memory: &mut Memory, text: &str, options: &ParseOptions, schema: &dyn Schema) -> Parsed {
    memory.clear();
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        options,
        schema,
        memory,
        tables: Vec::new(),
        columns: 0,
        last: NONE,
        counted: 0,
        line: 1,
        out: Parsed::default(),
    };
    reader.lines();
    reader.finish()
}

impl Memory {
    fn clear(&mut self) {
        self.known.clear();
        self.by_key.clear();
        self.arena.clear();
        self.by_table.clear();
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    options: &'a ParseOptions,
    schema: &'a dyn Schema,
    memory: &'a mut Memory,
    tables: Vec<TableDraft>,
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
        let guess = self.memory.known.get(self.last as usize).map_or(NONE, |last| last.next);
        if let Some(known) = self.memory.known.get(guess as usize)
            && !known.in_arena
        {
            let (at, bytes) = (known.at as usize, known.bytes as usize);
            let key = self.bytes.get(at..at + bytes).unwrap_or_default();
            let here = rest(self.bytes, start);
            if here.get(bytes) == Some(&b' ') && here.starts_with(key) {
                return Ok((Series::Known(guess), known.table, skip_blank(self.bytes, start + bytes)));
            }
        }
        self.other_series(start)
    }

    /// As `series`, when the guess was wrong.
    fn other_series(&mut self, start: usize) -> Result<(Series, u32, usize), Fault> {
        let end = escape::key_end(self.bytes, start);
        let key = self.bytes.get(start..end).unwrap_or_default();
        let hash = self.memory.hasher.hash_one(key);
        if let Some(index) = self.memory.find(self.bytes, key, hash)
            && self.bytes.get(end) == Some(&b' ')
        {
            let table = self.memory.known.get(index as usize).map_or(NONE, |known| known.table);
            return Ok((Series::Known(index), table, skip_blank(self.bytes, end)));
        }
        let (name_end, name_escaped) = escape::name_end(key, 0, Stops::MEASUREMENT);
        if name_end == 0 {
            return Err(unparsable("missing measurement"));
        }
        self.memory.tags.clear();
        self.memory.tag_bytes.clear();
        if name_end < key.len() {
            self.new_tags(start + name_end + 1, end)?;
        }
        if self.bytes.get(end) != Some(&b' ') {
            return Err(unparsable("missing fields"));
        }
        let table = self.table(start..start + name_end, name_escaped)?;
        Ok((Series::New(start..end), table, skip_blank(self.bytes, end)))
    }

    /// Reads the tags of a series that was not seen before into `Memory::tags`.
    fn new_tags(&mut self, mut at: usize, end: usize) -> Result<(), Fault> {
        let key = self.bytes.get(..end).unwrap_or_default();
        loop {
            let (name_end, name_escaped) = escape::name_end(key, at, Stops::TAG);
            if name_end == at {
                return Err(unparsable("missing tag key"));
            }
            if key.get(name_end) != Some(&b'=') {
                return Err(unparsable("missing tag value"));
            }
            let prefix = at..name_end + 1;
            let (value_end, value_escaped) = escape::name_end(key, name_end + 1, Stops::TAG);
            let value = name_end + 1..value_end;
            if key.get(value_end) == Some(&b'=') {
                return Err(unparsable(if value.is_empty() { "missing tag value" } else { "invalid tag format" }));
            }
            let tag = self.memory.new_tag(self.bytes, prefix, name_escaped, value, value_escaped)?;
            self.memory.tags.push(tag);
            if self.memory.tags.len() > self.options.line_columns_max {
                return Err(too_many_columns(self.options.line_columns_max));
            }
            if value_end == end {
                return Ok(());
            }
            at = value_end + 1;
        }
    }

    /// The table whose name stands at `raw`; new if need be.
    fn table(&mut self, raw: Range<usize>, escaped: bool) -> Result<u32, Fault> {
        let raw = self.bytes.get(raw).unwrap_or_default();
        if let Some(last) = self.memory.known.get(self.last as usize)
            && self.tables.get(last.table as usize).is_some_and(|table| table.raw_name == raw)
        {
            return Ok(last.table);
        }
        let Memory { hasher, by_table, name, .. } = &mut *self.memory;
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
        let index = tables.len() as u32;
        by_table.insert_unique(hash, index, |index| hasher.hash_one(named(index)));
        self.tables.push(TableDraft::new(name.to_owned(), raw));
        Ok(index)
    }

    /// Reads fields and time, and adds the row.
    #[inline]
    fn row(&mut self, series: Series, index: u32, start: usize, at: usize) -> Result<usize, Fault> {
        let Some(table) = self.tables.get_mut(index as usize) else { return Ok(self.bytes.len()) };
        let rules = Rules {
            options: self.options,
            schema: self.schema,
            hasher: self.memory.hasher.clone(),
            columns_end: table.column_count() + self.options.body_columns_max.saturating_sub(self.columns),
        };
        let columns_before = table.column_count();
        let at = fields(self.text, at, table, &mut self.memory.touched, &mut self.memory.name, &rules)?;
        let (time, end) = time(self.text, at, self.options)?;
        let tags = match &series {
            Series::Known(index) => self.memory.known.get(*index as usize).map_or(0, |known| known.tags as usize),
            Series::New(_) => self.memory.tags.len(),
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
            Series::New(key) => self.memory.learn(self.bytes, key, index, table, &rules)?,
        };
        if let Some(last) = self.memory.known.get_mut(self.last as usize) {
            last.next = known;
        }
        self.last = known;
        self.columns += table.column_count() - columns_before;
        table.row_series.push(self.memory.known.get(known as usize).map_or(0, |known| known.series));
        table.times.push(time);
        self.out.rows += 1;
        Ok(end)
    }

    /// Forgets what the line under construction left behind.
    #[cold]
    fn undo(&mut self, index: u32, mark: Mark, tables_before: usize) {
        let Memory { hasher, by_table, touched, .. } = &mut *self.memory;
        let Some(table) = self.tables.get_mut(index as usize) else { return };
        table.undo(mark, touched, hasher);
        if tables_before < self.tables.len() {
            let hash = self.tables.last().map_or(0, |table| hasher.hash_one(table.name.as_str()));
            if let Ok(entry) = by_table.find_entry(hash, |found| *found == index) {
                entry.remove();
            }
            self.tables.truncate(tables_before);
        }
    }

    /// Notes a refused line and returns where it ends.
    #[cold]
    fn refuse(&mut self, start: usize, fault: &Fault) -> usize {
        let end = escape::line_end(self.bytes, start);
        self.out.lines_refused += 1;
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

impl Memory {
    fn key<'b>(&'b self, body: &'b [u8], known: &Known) -> &'b [u8] {
        let from = if known.in_arena { self.arena.as_slice() } else { body };
        let at = known.at as usize;
        from.get(at..at + known.bytes as usize).unwrap_or_default()
    }

    /// The known spelling that equals `key`.
    fn find(&self, body: &[u8], key: &[u8], hash: u64) -> Option<u32> {
        let same = |index: &u32| self.known.get(*index as usize).is_some_and(|known| self.key(body, known) == key);
        self.by_key.find(hash, same).copied()
    }

    fn insert(&mut self, hash: u64, known: Known, body: &[u8]) -> u32 {
        let index = self.known.len() as u32;
        self.known.push(known);
        let Self { hasher, known, arena, by_key, .. } = self;
        by_key.insert_unique(hash, index, |index| {
            let Some(known) = known.get(*index as usize) else { return 0 };
            let from = if known.in_arena { arena.as_slice() } else { body };
            let at = known.at as usize;
            hasher.hash_one(from.get(at..at + known.bytes as usize).unwrap_or_default())
        });
        index
    }

    /// Checks one tag and puts its value where it can stay.
    fn new_tag(
        &mut self,
        body: &[u8],
        prefix: Range<usize>,
        name_escaped: bool,
        mut value: Range<usize>,
        value_escaped: bool,
    ) -> Result<NewTag, Fault> {
        if value.is_empty() {
            return Err(unparsable("missing tag value"));
        }
        if value_escaped {
            let from = self.tag_bytes.len();
            escape::unescape(body.get(value).unwrap_or_default(), Escapes::Name, &mut self.tag_bytes);
            value = from..self.tag_bytes.len();
            if self.tag_bytes.last() == Some(&b'\\') {
                return Err(unparsable(ENDS_WITH_BACKSLASH));
            }
        }
        if value.len() > TAG_BYTES_MAX {
            return Err(limit(format!("tag value of {} bytes is longer than {TAG_BYTES_MAX}", value.len())));
        }
        Ok(NewTag { prefix, name_escaped, value, value_escaped, tag: NONE })
    }

    /// Makes a series of `tags`, or finds the one they mean under another spelling, and remembers how it was spelled.
    fn learn(
        &mut self,
        body: &[u8],
        key: Range<usize>,
        index: u32,
        table: &mut TableDraft,
        rules: &Rules<'_>,
    ) -> Result<u32, Fault> {
        let mut tags = std::mem::take(&mut self.tags);
        let resolved = self.resolve_tags(body, &mut tags, table, rules);
        let ordered = match resolved {
            Ok(ordered) => ordered,
            Err(fault) => {
                self.tags = tags;
                return Err(fault);
            }
        };
        let count = tags.len() as u32;
        let bytes = body.get(key.clone()).unwrap_or_default();
        let mut known = Known {
            at: key.start as u32,
            bytes: bytes.len() as u32,
            in_arena: false,
            table: index,
            series: NONE,
            tags: count,
            next: NONE,
        };
        // Without escapes and in the order of the table, a series has one spelling; it stands for the others.
        if ordered && memchr::memchr(b'\\', bytes).is_none() {
            known.series = self.push_series(body, &tags, table);
        } else {
            let at = self.arena.len();
            self.spell(body, &tags, table);
            let canonical = self.arena.get(at..).unwrap_or_default();
            let hash = self.hasher.hash_one(canonical);
            let same_bytes = canonical == bytes;
            match self.find(body, canonical, hash) {
                Some(found) => {
                    self.arena.truncate(at);
                    known.series = self.known.get(found as usize).map_or(NONE, |known| known.series);
                }
                None => {
                    known.series = self.push_series(body, &tags, table);
                    if same_bytes {
                        self.arena.truncate(at);
                    } else {
                        let bytes = (self.arena.len() - at) as u32;
                        self.insert(hash, Known { at: at as u32, bytes, in_arena: true, ..known }, body);
                    }
                }
            }
        }
        self.tags = tags;
        let hash = self.hasher.hash_one(bytes);
        Ok(self.insert(hash, known, body))
    }

    /// Finds or makes the column of each tag and sorts the tags by it; says whether they were sorted.
    fn resolve_tags(
        &mut self,
        body: &[u8],
        tags: &mut [NewTag],
        table: &mut TableDraft,
        rules: &Rules<'_>,
    ) -> Result<bool, Fault> {
        let mut ordered = true;
        let mut expected = 0;
        for tag in tags.iter_mut() {
            let prefix = body.get(tag.prefix.clone()).unwrap_or_default();
            let guess = table.tags.get(expected as usize).is_some_and(|known| known.prefix == prefix);
            tag.tag = if guess {
                expected
            } else {
                let raw = prefix.split_last().map_or(prefix, |(_, name)| name);
                let name = unescaped(raw, tag.name_escaped, Escapes::Name, &mut self.name)?;
                table.tag(name, prefix, rules)?
            };
            ordered &= expected <= tag.tag;
            expected = tag.tag + 1;
        }
        if !ordered {
            tags.sort_by_key(|tag| tag.tag);
            if tags.windows(2).any(|pair| matches!(pair, [left, right] if left.tag == right.tag)) {
                return Err(unparsable("duplicate tags"));
            }
        }
        Ok(ordered)
    }

    fn push_series(&self, body: &[u8], tags: &[NewTag], table: &mut TableDraft) -> u32 {
        for tag in tags {
            table.series.push_tag(tag.tag, self.value(body, tag));
        }
        table.series.finish()
    }

    fn value<'b>(&'b self, body: &'b [u8], tag: &NewTag) -> &'b [u8] {
        let from = if tag.value_escaped { self.tag_bytes.as_slice() } else { body };
        from.get(tag.value.clone()).unwrap_or_default()
    }

    /// Appends the one spelling of a series to the arena: tags in the order of the table, each special character escaped.
    fn spell(&mut self, body: &[u8], tags: &[NewTag], table: &TableDraft) {
        let mut arena = std::mem::take(&mut self.arena);
        escape::escape(table.name.as_bytes(), Escapes::Measurement, &mut arena);
        for tag in tags {
            arena.push(b',');
            escape::escape(table.tag_name(tag.tag).as_bytes(), Escapes::Name, &mut arena);
            arena.push(b'=');
            escape::escape(self.value(body, tag), Escapes::Name, &mut arena);
        }
        self.arena = arena;
    }
}

pub(super) const ENDS_WITH_BACKSLASH: &str =
    "measurements, tag keys and values, and field keys may not end with a backslash";

/// Reads the fields that start at `at` into the row under construction; returns the offset of the space or the end of the
/// line after them.
#[inline]
fn fields(
    text: &str,
    mut at: usize,
    table: &mut TableDraft,
    touched: &mut Vec<u32>,
    name: &mut Vec<u8>,
    rules: &Rules<'_>,
) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let row = table.row();
    let mut expected = table.first_field;
    let mut previous = NONE;
    loop {
        let (index, end) = match table.fields.get_mut(expected as usize) {
            Some(field) if rest(bytes, at).starts_with(&field.prefix) => {
                let end = value(text, at + field.prefix.len(), row, field, &table.name)?;
                (expected, end)
            }
            _ => other_field(text, at, table, name, rules)?,
        };
        touched.push(index);
        if index != expected {
            match table.fields.get_mut(previous as usize) {
                Some(field) => field.next = index,
                None => table.first_field = index,
            }
        }
        expected = table.fields.get(index as usize).map_or(NONE, |field| field.next);
        previous = index;
        match bytes.get(end) {
            Some(b',') => at = end + 1,
            Some(b' ') => return Ok(end),
            _ if ends_line(bytes, end) => return Ok(end),
            _ => return Err(unparsable("invalid field format")),
        }
    }
}

/// As [`fields`] for one field, when the guess was wrong: returns which field it is, and where its value ends.
fn other_field(
    text: &str,
    at: usize,
    table: &mut TableDraft,
    name: &mut Vec<u8>,
    rules: &Rules<'_>,
) -> Result<(u32, usize), Fault> {
    let bytes = text.as_bytes();
    let (end, escaped) = escape::name_end(bytes, at, Stops::FIELD);
    if bytes.get(end) != Some(&b'=') {
        return Err(unparsable("invalid field format"));
    }
    if end == at {
        return Err(unparsable("missing field key"));
    }
    let prefix = bytes.get(at..end + 1).unwrap_or_default();
    let name = unescaped(bytes.get(at..end).unwrap_or_default(), escaped, Escapes::Name, name)?;
    let row = table.row();
    let index = table.field(name, prefix, || value_type(text, end + 1), rules)?;
    match table.fields.get_mut(index as usize) {
        Some(field) => Ok((index, value(text, end + 1, row, field, &table.name)?)),
        None => Err(unparsable("invalid field format")),
    }
}

/// Reads the value that starts at `at` into `field`; returns where it ends.
#[inline]
fn value(text: &str, at: usize, row: u32, field: &mut FieldDraft, table: &str) -> Result<usize, Fault> {
    if text.as_bytes().get(at) == Some(&b'"') {
        return string(text, at + 1, row, field, table);
    }
    let (value, end) = scalar(text, at)?;
    match field.set(row, value) {
        Ok(()) => Ok(end),
        Err(sent) => Err(type_conflict(field, table, sent)),
    }
}

/// The number or boolean that starts at `at`, and where it ends.
#[inline]
fn scalar(text: &str, at: usize) -> Result<(Scalar, usize), Fault> {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'0'..=b'9' | b'-' | b'.') => number::number(text, at),
        Some(b'N' | b'n') => Err(unparsable("invalid number")),
        Some(b',' | b' ') => Err(unparsable("missing field value")),
        _ if ends_line(bytes, at) => Err(unparsable("missing field value")),
        _ => number::boolean(bytes, at),
    }
}

/// Reads the string whose content starts at `at`; returns the offset after its closing quote.
fn string(text: &str, at: usize, row: u32, field: &mut FieldDraft, table: &str) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let (end, escaped) = escape::string_end(bytes, at).ok_or_else(|| unparsable("unbalanced quotes"))?;
    let raw = bytes.get(at..end).unwrap_or_default();
    let mut too_long = None;
    let set = field.set_string(row, |out| {
        let from = out.len();
        if escaped {
            escape::unescape(raw, Escapes::String, out);
        } else {
            out.extend_from_slice(raw);
        }
        too_long = Some(out.len() - from).filter(|bytes| *bytes > STRING_BYTES_MAX);
    });
    match (set, too_long) {
        (Err(sent), _) => Err(type_conflict(field, table, sent)),
        (_, Some(bytes)) => Err(limit(format!("string of {bytes} bytes is longer than {STRING_BYTES_MAX}"))),
        _ => Ok(end + 1),
    }
}

/// The type of the value that starts at `at`.
fn value_type(text: &str, at: usize) -> Result<FieldType, Fault> {
    if text.as_bytes().get(at) == Some(&b'"') {
        return Ok(FieldType::String);
    }
    scalar(text, at).map(|(value, _)| scalar_type(value))
}

/// The time of the line whose fields end at `at`, and where the line ends.
#[inline]
fn time(text: &str, at: usize, options: &ParseOptions) -> Result<(i64, usize), Fault> {
    let bytes = text.as_bytes();
    let at = skip_blank(bytes, at);
    if ends_line(bytes, at) {
        return Ok((options.now_ns, at));
    }
    let (count, end) = number::timestamp(text, at)?;
    let time = options.precision.to_ns(count).ok_or_else(|| unparsable(number::TIME_OUTSIDE))?;
    let end = skip_blank(bytes, end);
    if ends_line(bytes, end) { Ok((time, end)) } else { Err(unparsable("point is invalid")) }
}

/// Whether the line ends at `at`: nothing follows, or a newline with or without a carriage return before it.
#[inline]
fn ends_line(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        None | Some(b'\n') => true,
        Some(b'\r') => matches!(bytes.get(at + 1), None | Some(b'\n')),
        Some(_) => false,
    }
}

/// The offset of the first byte that is no space, tab or NUL.
#[inline]
fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | 0) = bytes.get(at) {
        at += 1;
    }
    at
}

/// What a raw name means; `scratch` holds it where it is not the same.
fn unescaped<'n>(raw: &'n [u8], escaped: bool, escapes: Escapes, scratch: &'n mut Vec<u8>) -> Result<&'n str, Fault> {
    let name = if escaped {
        scratch.clear();
        escape::unescape(raw, escapes, scratch);
        scratch.as_slice()
    } else {
        raw
    };
    if name.last() == Some(&b'\\') {
        return Err(unparsable(ENDS_WITH_BACKSLASH));
    }
    std::str::from_utf8(name).map_err(|_| unparsable("name is not valid UTF-8"))
}

#[cold]
fn type_conflict(field: &FieldDraft, table: &str, sent: FieldType) -> Fault {
    let mut name = Vec::new();
    let raw = field.prefix.split_last().map_or(&[][..], |(_, raw)| raw);
    escape::unescape(raw, Escapes::Name, &mut name);
    conflict("field", &String::from_utf8_lossy(&name), table, sent.influx_name(), field.kind().influx_name())
}

#[cold]
fn too_many_columns(max: usize) -> Fault {
    limit(format!("too many columns: more than {max} tags and fields in one line"))
}
