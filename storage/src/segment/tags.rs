//! Tag columns: for one tag its values and a code for each series, so that `tag = value` finds series without keys.

mod codes;
mod writer;

use crate::codec::decode_column;
use crate::schema::FieldType;
use crate::values::{Strings, Values};

pub(super) use self::writer::TagWriter;
use super::index::take_u64;

/// One tag of a segment, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagColumn {
    values: Strings,
    codes: Vec<u32>,
}

impl TagColumn {
    /// The different values, ascending bytewise; the value of code *n* is at *n* − 1.
    pub fn values(&self) -> &Strings {
        &self.values
    }

    /// For each series 0 = absent, or the code of its value.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// The value of a code; `None` for 0, absent, and for codes that do not occur.
    pub fn value(&self, code: u32) -> Option<&str> {
        let index = code.checked_sub(1)? as usize;
        (index < self.values.len()).then(|| std::str::from_utf8(self.values.get(index)).ok()).flatten()
    }

    /// The value that a series has.
    pub fn value_of(&self, series: u32) -> Option<&str> {
        self.codes.get(series as usize).and_then(|code| self.value(*code))
    }

    /// The code of a value; `None` if no series has it.
    pub fn code(&self, value: Option<&str>) -> Option<u32> {
        let Some(value) = value else { return Some(0) };
        let (mut low, mut high) = (0, self.values.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.values.get(middle).cmp(value.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle as u32 + 1),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn wanted(&self, values: &[Option<&str>]) -> Vec<u32> {
        let mut wanted: Vec<u32> = values.iter().filter_map(|value| self.code(*value)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Takes series away that have none of the values.
    pub fn keep_matching(&self, series: &mut Vec<u32>, values: &[Option<&str>]) {
        let wanted = self.wanted(values);
        let code = |series: u32| self.codes.get(series as usize).copied().unwrap_or_default();
        series.retain(|series| wanted.binary_search(&code(*series)).is_ok());
    }

    /// The series that have one of the values, ascending.
    pub fn matching(&self, values: &[Option<&str>]) -> Vec<u32> {
        let wanted = self.wanted(values);
        let series = self.codes.iter().zip(0_u32..);
        match wanted.as_slice() {
            [] => Vec::new(),
            [one] => series.filter(|(code, _)| *code == one).map(|(_, series)| series).collect(),
            some => series.filter(|(code, _)| some.binary_search(code).is_ok()).map(|(_, series)| series).collect(),
        }
    }

    /// What it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.values.bytes.capacity() + (self.values.ends.capacity() + self.codes.capacity()) * 4
    }

    /// What reading and decoding a section takes of memory, about: values may be packed, codes are twice there for a while.
    pub(super) fn decoding_bytes(section_bytes: u64, series: u32) -> u64 {
        section_bytes.saturating_mul(4).saturating_add(u64::from(series) * 12)
    }

    pub(crate) fn decode(mut input: &[u8], series: u32) -> Result<Self, String> {
        let (count, rest) = input.split_first_chunk::<4>().ok_or("a tag is cut short")?;
        input = rest;
        let count = u32::from_le_bytes(*count);
        if series < count {
            return Err(format!("a tag has {count} values for {series} series"));
        }
        let Values::String(values) = decode_column(&mut input, FieldType::String, count as usize)? else {
            return Err("the values of a tag are no strings".to_owned());
        };
        if (1..values.len()).any(|index| values.get(index) <= values.get(index - 1)) {
            return Err("the values of a tag do not ascend".to_owned());
        }
        let codes = take_u64(&mut input, series as usize)?;
        if !input.is_empty() || codes.iter().any(|code| u64::from(count) < *code) {
            return Err("a code of a tag has no value".to_owned());
        }
        Ok(Self { values, codes: codes.into_iter().map(|code| code as u32).collect() })
    }
}
