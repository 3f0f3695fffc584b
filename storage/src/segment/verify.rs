//! Reads all of a segment and checks that its parts agree: what `marigram verify` and an archive's upload ask for.
//!
//! Postings repeat what the columns of tags say, and nobody reads what pads sections: that only they are damaged is told apart.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::codec::PageBuf;
use crate::error::{Error, Result};
use crate::schema::ColumnId;
use crate::series::decode_key;
use crate::values::Values;

use super::footer::{Section, Tail};
use super::keys::KeyIndex;
use super::open::{OpenBytes, read};
use super::postings::{Posting, groups};
use super::run::RunRange;
use super::{ALIGNMENT, SegmentReader, TagColumn};

/// What was found damaged and stops nobody from reading.
#[derive(Default)]
struct Damage {
    first: Option<Error>,
}

impl Damage {
    /// Keeps what damage says, and fails with everything else.
    fn note<T>(&mut self, found: Result<T>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_damage() => {
                self.first.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// So many damages of a segment are named.
const DAMAGES_MAX: usize = 1000;
/// What is read at once.
const VERIFY_BYTES: u64 = 1 << 20;

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(VERIFY_BYTES as usize).map(move |start| start..end.min(start + VERIFY_BYTES))
}

impl SegmentReader {
    /// Reads every byte and checks every rule: the hash of the whole, sections, keys, tags, pages, and that they agree.
    ///
    /// # Errors
    /// The first rule that is broken, with its place.
    pub fn verify_all(&self, expected_hash: Option<u128>) -> Result<()> {
        self.verify_rows(expected_hash)?.map_or(Ok(()), Err)
    }

    /// The same, but it does not fail where only postings are damaged, and in a way that each reader finds out by itself, or
    /// only what pads sections: then every row can be read, and what is damaged is handed back. That the hash of the whole
    /// does not match follows from damaged postings, so that is held against nobody then: everything else has a checksum of
    /// its own, but what pads sections. Where it is the padding, the hash has to match once that is what it was: zeros.
    ///
    /// # Errors
    /// The first other rule that is broken, with its place.
    pub fn verify_rows(&self, expected_hash: Option<u128>) -> Result<Option<Error>> {
        let hash = self.hash_of_all(&[]);
        self.verify_footer()?;
        let mut postings = Damage::default();
        for section in &self.footer.sections {
            let checked = self.section(section, |_| Ok(()));
            match section.kind.is_postings() {
                true => _ = postings.note(checked)?,
                false => checked?,
            }
        }
        self.suspects()?;
        self.verify_keys(&mut postings)?;
        self.verify_pages()?;
        if postings.first.is_some() {
            return Ok(postings.first);
        }
        let hash = hash?;
        let Some(expected) = expected_hash.filter(|expected| *expected != hash) else { return Ok(None) };
        match self.damaged_padding()? {
            Some(padding) if self.hash_of_all(&self.paddings())? == expected => Ok(Some(padding)),
            _ => Err(self.corrupt(0, "the hash of the segment does not match")),
        }
    }

    /// All sections and pages that are damaged, up to [`DAMAGES_MAX`], where a check has found that something is.
    pub fn damages(&self) -> Vec<Error> {
        let sections = self.footer.sections.iter().map(|section| self.check_crc32(section));
        let (mut scratch, mut target) = (Vec::new(), PageBuf::new());
        let columns = || self.fields.iter().map(|(column, _)| *column).chain([ColumnId::TIME]);
        let pages = (0..self.index.pages.len()).flat_map(|page| columns().map(move |column| (column, page)));
        let pages = pages.map(|(column, page)| self.read_page(column, page, &mut scratch, &mut target));
        sections.chain(pages).filter_map(Result::err).take(DAMAGES_MAX).collect()
    }

    /// Reads what no reader needs: postings, and what pads sections. Damage of it is handed back.
    ///
    /// # Errors
    /// [`Error::Io`], where that is no damage.
    pub(crate) fn flaw(&self) -> Result<Option<Error>> {
        let mut damage = Damage::default();
        for section in self.footer.sections.iter().filter(|section| section.kind.is_postings()) {
            damage.note(self.check_crc32(section))?;
        }
        let padding = damage.note(self.damaged_padding())?;
        Ok(damage.first.or(padding.flatten()))
    }

    fn check_crc32(&self, section: &Section) -> Result<()> {
        let mut hasher = crc32fast::Hasher::new();
        for piece in pieces(section.offset..section.offset + section.bytes) {
            hasher.update(&read(self.file.as_ref(), &self.path, self.offset, piece)?);
        }
        match hasher.finalize() == section.crc32 {
            true => Ok(()),
            false => Err(self.corrupt(section.offset, section.mismatch())),
        }
    }

    /// The hash of the whole, with zeros in these ranges.
    fn hash_of_all(&self, zeros: &[Range<u64>]) -> Result<u128> {
        let mut hash = Xxh3::new();
        for piece in pieces(0..self.bytes) {
            let mut bytes = read(self.file.as_ref(), &self.path, self.offset, piece.clone())?;
            for zeros in zeros {
                let (start, end) = (zeros.start.max(piece.start), zeros.end.min(piece.end));
                if start < end
                    && let Some(found) = bytes.get_mut((start - piece.start) as usize..(end - piece.start) as usize)
                {
                    found.fill(0);
                }
            }
            hash.update(&bytes);
        }
        Ok(hash.digest128())
    }

    /// What pads sections, from the first byte of the segment.
    fn paddings(&self) -> Vec<Range<u64>> {
        let ends = self.footer.sections.iter().map(|section| section.offset + section.bytes);
        ends.map(|end| end..end.next_multiple_of(ALIGNMENT as u64)).filter(|range| !range.is_empty()).collect()
    }

    /// What is not zero of it.
    fn damaged_padding(&self) -> Result<Option<Error>> {
        for range in self.paddings() {
            let bytes = read(self.file.as_ref(), &self.path, self.offset, range.clone())?;
            if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(self.corrupt(range.start + at as u64, "what pads a section is not zero")));
            }
        }
        Ok(None)
    }

    /// What led to all other parts when the segment was opened is still there.
    fn verify_footer(&self) -> Result<()> {
        let tail_bytes = Tail::BYTES as u64;
        let input = OpenBytes::read(self.file.as_ref(), &self.path, self.offset, self.bytes, tail_bytes)?;
        match input.footer(self.bytes)? == self.footer {
            true => Ok(()),
            false => Err(self.corrupt(self.bytes - tail_bytes, "the footer is not the one that was read first")),
        }
    }

    /// Keys ascend over blocks, and tag columns say what keys say.
    fn verify_keys(&self, postings: &mut Damage) -> Result<()> {
        let mut cursor = self.keys();
        let mut previous: Option<Vec<u8>> = None;
        let tags = self.tags.iter().map(|(column, ..)| Ok((*column, self.tag(*column)?)));
        let tags = tags.collect::<Result<Vec<_>>>()?;
        for series in 0..self.footer.series {
            let key = cursor.key(series)?;
            if previous.as_deref().is_some_and(|previous| key <= previous) {
                return Err(self.corrupt(self.keys.offset, format!("the key of series {series} is out of order")));
            }
            let decoded = decode_key(key).map_err(|error| self.corrupt(self.keys.offset, error.to_string()))?;
            let told = tags.iter().filter_map(|(column, tag)| Some((*column, tag.as_ref()?.value_of(series)?)));
            let agree = told
                .eq(decoded.iter().map(|(column, value)| (*column, std::str::from_utf8(value).unwrap_or_default())));
            if !agree {
                return Err(self.corrupt(self.keys.offset, format!("tags and key of series {series} differ")));
            }
            previous = Some(key.to_vec());
        }
        tags.iter().filter_map(|(column, tag)| Some((*column, tag.as_ref()?))).try_for_each(|(column, tag)| {
            let found = postings.note(self.postings(column))?;
            found.flatten().map_or(Ok(()), |(section, index)| self.verify_postings(&section, &index, tag, postings))
        })
    }

    /// Postings name all values of their tag, and the series that its column says. A block that does not decode misleads no
    /// reader; one that decodes and says something else does.
    fn verify_postings(
        &self,
        section: &Section,
        index: &KeyIndex,
        tag: &TagColumn,
        postings: &mut Damage,
    ) -> Result<()> {
        let groups = groups(tag.codes(), tag.values().len());
        let (mut code, mut is_behind_damage) = (0, false);
        for block in 0..index.blocks.len() {
            let Some(block) = postings.note(self.postings_block(section, index, block))? else {
                is_behind_damage = true;
                continue;
            };
            for (value, posting) in block.iter() {
                if std::mem::take(&mut is_behind_damage) {
                    code =
                        (code..tag.values().len()).find(|code| tag.values().get(*code) == value).unwrap_or(usize::MAX);
                }
                let agree = code < tag.values().len() && tag.values().get(code) == value;
                if !agree || posting != Posting::Frequent && posting != Posting::Rare(groups.of(code + 1)) {
                    return Err(self.corrupt(section.offset, format!("postings and tag differ in value {code}")));
                }
                code += 1;
            }
        }
        match is_behind_damage || code == tag.values().len() {
            true => Ok(()),
            false => Err(self.corrupt(section.offset, "postings lack values of their tag")),
        }
    }

    /// Pages decode, times are in order and as the run directory says.
    fn verify_pages(&self) -> Result<()> {
        let (mut scratch, mut page) = (Vec::new(), PageBuf::new());
        let mut runs = self.runs();
        let mut run: Option<(RunRange, i64)> = None;
        for (index, range) in self.index.pages.iter().enumerate() {
            for (column, _) in &self.fields {
                self.read_page(*column, index, &mut scratch, &mut page)?;
            }
            self.read_page(ColumnId::TIME, index, &mut scratch, &mut page)?;
            let Values::I64(times) = &page.values else { continue };
            for (row, &time) in (range.first_row..).zip(times) {
                let ends = |(run, _): &(RunRange, i64)| row == run.first_row + u64::from(run.rows);
                if run.as_ref().is_none_or(ends) {
                    run = runs.next().map(|run| (run, run.time_min));
                }
                let (first, last) = run.map_or((i64::MAX, i64::MIN), |(run, least)| (least, run.time_max));
                let edge = run.is_some_and(|(run, _)| row == run.first_row && time != run.time_min)
                    || run
                        .is_some_and(|(run, _)| row + 1 == run.first_row + u64::from(run.rows) && time != run.time_max);
                if edge || !(first..=last).contains(&time) {
                    let offset = self.column_page(ColumnId::TIME, index).map_or(0, |page| page.offset);
                    return Err(self.corrupt(offset, format!("the time of row {row} is not as its run says")));
                }
                run = run.map(|(run, _)| (run, time));
            }
        }
        Ok(())
    }
}
