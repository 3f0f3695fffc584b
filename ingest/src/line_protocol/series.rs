//! Series by how they are spelled: which bytes were seen before, what they meant, and what came after them.
//!
//! Always true: each spelling in `known` belongs to one series of one accepted line, and series that mean the same set of
//! tags are one, however their tags were ordered or escaped.

use hashbrown::{DefaultHashBuilder, HashTable};
use marigram_storage::schema::TAG_BYTES_MAX;
use std::hash::BuildHasher;
use std::ops::Range;

use super::draft::{NONE, Rules, TableDraft};
use super::error::{Fault, limit, unparsable};
use super::escape::{self, ENDS_WITH_BACKSLASH, Escapes, Stops, rest, unescaped};

/// The spellings of a body. Holds nothing of it after [`Spellings::clear`].
#[derive(Debug, Default)]
pub(super) struct Spellings {
    pub(super) hasher: DefaultHashBuilder,
    /// In order of appearance.
    known: Vec<Known>,
    /// `known` by its bytes.
    by_key: HashTable<u32>,
    /// Spellings that do not stand in the body.
    arena: Vec<u8>,
    /// The tags of the line under construction, if its series was not seen before.
    tags: Vec<NewTag>,
    /// Their unescaped values.
    tag_bytes: Vec<u8>,
    /// An unescaped name.
    name: Vec<u8>,
}

/// A spelling of a series: `measurement,tags` byte for byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    at: u32,
    bytes: u32,
    in_arena: bool,
    /// Which table of the body.
    pub(super) table: u32,
    /// Which series of the table.
    pub(super) series: u32,
    /// How many tags.
    pub(super) tags: u32,
    /// The spelling that followed last time.
    next: u32,
}

/// A spelling not seen before.
#[derive(Clone, Debug)]
pub(super) struct NewKey {
    /// Its bytes in the body.
    pub(super) key: Range<usize>,
    /// Of these bytes.
    pub(super) hash: u64,
    /// Whether there is a backslash in it.
    pub(super) escaped: bool,
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

impl Spellings {
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.by_key.clear();
        self.arena.clear();
        self.clear_tags();
    }

    pub(super) fn clear_tags(&mut self) {
        self.tags.clear();
        self.tag_bytes.clear();
    }

    /// How many tags the line under construction has, if its series was not seen before.
    pub(super) fn new_tag_count(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn get(&self, index: u32) -> Option<&Known> {
        self.known.get(index as usize)
    }

    /// The spelling that followed `last` last time, if the line at `start` begins with it.
    #[inline]
    pub(super) fn guess(&self, body: &[u8], last: u32, start: usize) -> Option<(u32, &Known)> {
        let guess = self.known.get(last as usize)?.next;
        let known = self.known.get(guess as usize).filter(|known| !known.in_arena)?;
        let (at, bytes) = (known.at as usize, known.bytes as usize);
        let key = body.get(at..at + bytes)?;
        let here = rest(body, start);
        (here.get(bytes) == Some(&b' ') && here.starts_with(key)).then_some((guess, known))
    }

    /// Where a spelling ends.
    pub(super) fn end(known: &Known, start: usize) -> usize {
        start + known.bytes as usize
    }

    /// Remembers that `next` came after `last`.
    #[inline]
    pub(super) fn follow(&mut self, last: u32, next: u32) {
        if let Some(last) = self.known.get_mut(last as usize) {
            last.next = next;
        }
    }

    fn key<'b>(&'b self, body: &'b [u8], known: &Known) -> &'b [u8] {
        let from = if known.in_arena { self.arena.as_slice() } else { body };
        let at = known.at as usize;
        from.get(at..at + known.bytes as usize).unwrap_or_default()
    }

    /// The known spelling that equals `key`.
    pub(super) fn find(&self, body: &[u8], key: &[u8], hash: u64) -> Option<u32> {
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

    /// Reads the tags from `at` to `end`, of a series that was not seen before. `guess` is their table, probably.
    pub(super) fn read_tags(
        &mut self,
        body: &[u8],
        mut at: usize,
        end: usize,
        guess: Option<&TableDraft>,
        columns_max: usize,
    ) -> Result<(), Fault> {
        let key = body.get(..end).unwrap_or_default();
        let known = guess.map_or(&[][..], |table| &table.tags);
        loop {
            let expected = self.tags.len();
            let (prefix, name_escaped, tag) = match known.get(expected) {
                Some(tag) if tag.prefix.begins(rest(key, at)) => (at..at + tag.prefix.len(), false, expected as u32),
                _ => {
                    let (name_end, name_escaped) = escape::name_end(key, at, Stops::TAG);
                    if name_end == at {
                        return Err(unparsable("missing tag key"));
                    }
                    if key.get(name_end) != Some(&b'=') {
                        return Err(unparsable("missing tag value"));
                    }
                    (at..name_end + 1, name_escaped, NONE)
                }
            };
            let (value_end, value_escaped) = escape::name_end(key, prefix.end, Stops::TAG);
            let value = prefix.end..value_end;
            if value.is_empty() {
                return Err(unparsable("missing tag value"));
            }
            if key.get(value_end) == Some(&b'=') {
                return Err(unparsable("invalid tag format"));
            }
            let value = if value_escaped { self.unescape_value(body, value)? } else { value };
            if value.len() > TAG_BYTES_MAX {
                return Err(limit(format!("tag value of {} bytes is longer than {TAG_BYTES_MAX}", value.len())));
            }
            self.tags.push(NewTag { prefix, name_escaped, value, value_escaped, tag });
            if self.tags.len() > columns_max {
                return Err(too_many_columns(columns_max));
            }
            if value_end == end {
                return Ok(());
            }
            at = value_end + 1;
        }
    }

    /// Puts what a raw tag value means into `tag_bytes`, and tells where.
    fn unescape_value(&mut self, body: &[u8], raw: Range<usize>) -> Result<Range<usize>, Fault> {
        let from = self.tag_bytes.len();
        escape::unescape(body.get(raw).unwrap_or_default(), Escapes::Name, &mut self.tag_bytes);
        match self.tag_bytes.last() {
            Some(b'\\') => Err(unparsable(ENDS_WITH_BACKSLASH)),
            _ => Ok(from..self.tag_bytes.len()),
        }
    }

    /// Makes a series of `tags`, or finds the one they mean under another spelling, and remembers how it was spelled.
    pub(super) fn learn(
        &mut self,
        body: &[u8],
        new: NewKey,
        index: u32,
        table: &mut TableDraft,
        rules: &Rules<'_>,
    ) -> Result<u32, Fault> {
        let mut tags = std::mem::take(&mut self.tags);
        let learned = self.learn_tags(body, &new, index, &mut tags, table, rules);
        self.tags = tags;
        Ok(self.insert(new.hash, learned?, body))
    }

    fn learn_tags(
        &mut self,
        body: &[u8],
        new: &NewKey,
        index: u32,
        tags: &mut [NewTag],
        table: &mut TableDraft,
        rules: &Rules<'_>,
    ) -> Result<Known, Fault> {
        let ordered = self.resolve_tags(body, tags, table, rules)?;
        let count = tags.len() as u32;
        let bytes = body.get(new.key.clone()).unwrap_or_default();
        let mut known = Known {
            at: new.key.start as u32,
            bytes: bytes.len() as u32,
            in_arena: false,
            table: index,
            series: NONE,
            tags: count,
            next: NONE,
        };
        // Without escapes and in the order of the table, a series has one spelling; it stands for the others.
        if ordered && !new.escaped {
            known.series = self.push_series(body, tags, table, rules)?;
            return Ok(known);
        }
        let at = self.arena.len();
        self.spell(body, tags, table);
        let canonical = self.arena.get(at..).unwrap_or_default();
        let hash = self.hasher.hash_one(canonical);
        let same_bytes = canonical == bytes;
        match self.find(body, canonical, hash) {
            Some(found) => {
                self.arena.truncate(at);
                known.series = self.known.get(found as usize).map_or(NONE, |known| known.series);
            }
            None => {
                known.series = self.push_series(body, tags, table, rules).inspect_err(|_| self.arena.truncate(at))?;
                if same_bytes {
                    self.arena.truncate(at);
                } else {
                    let bytes = (self.arena.len() - at) as u32;
                    self.insert(hash, Known { at: at as u32, bytes, in_arena: true, ..known }, body);
                }
            }
        }
        Ok(known)
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
            if tag.tag == NONE {
                let prefix = body.get(tag.prefix.clone()).unwrap_or_default();
                let raw = prefix.split_last().map_or(prefix, |(_, name)| name);
                let name = unescaped(raw, tag.name_escaped, Escapes::Name, &mut self.name)?;
                tag.tag = table.tag(name, prefix, rules)?;
            }
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

    /// The last that can be refused of a line.
    fn push_series(
        &self,
        body: &[u8],
        tags: &[NewTag],
        table: &mut TableDraft,
        rules: &Rules<'_>,
    ) -> Result<u32, Fault> {
        if let Some(newcomers) = rules.schema.newcomers() {
            let named = tags.iter().map(|tag| (table.tag_name(tag.tag), self.value(body, tag)));
            newcomers.admit(&table.name, named.collect())?;
        }
        for tag in tags {
            table.series.push_tag(tag.tag, self.value(body, tag));
        }
        Ok(table.series.finish())
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

#[cold]
pub(super) fn too_many_columns(max: usize) -> Fault {
    limit(format!("too many columns: more than {max} tags and fields in one line"))
}
