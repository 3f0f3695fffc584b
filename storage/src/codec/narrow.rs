//! A page of numbers as it is kept in memory: words as narrow as its values allow, each where its row says.
//!
//! Value *i* is `base + divisor · word i`, of doubles that are decimals the integer of one; all other doubles are their bits.
//! So a page takes one to eight bytes a value, and any part of it becomes values again without the rest. Nothing of this
//! is ever stored.

use super::cold::restore;
use super::decimal::{Decimals, find_decimals, restore_doubles};
use super::divisor::{Divisor, common_divisor};
use super::{PageBuf, VECTOR_ROWS};
use crate::schema::FieldType;
use crate::values::Values;

/// Room to narrow pages in.
#[derive(Default)]
pub(crate) struct NarrowScratch {
    decimals: Decimals,
    scaled: Vec<u64>,
}

impl NarrowScratch {
    /// What it takes in memory, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        let decimals = self.decimals.integers.capacity() * 8 + self.decimals.exceptions.capacity() * 2;
        decimals + self.scaled.capacity() * 8
    }
}

/// One page whose rows all have a number.
#[derive(Debug)]
pub(crate) struct NarrowPage {
    form: Form,
    base: i64,
    divisor: u64,
    words: Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Signed,
    Unsigned,
    /// Doubles that are integers of `10^-digits`.
    Decimal(u8),
    /// Doubles by their bits.
    Bits,
}

#[derive(Debug)]
enum Words {
    W8(Box<[u8]>),
    W16(Box<[u16]>),
    W32(Box<[u32]>),
    W64(Box<[u64]>),
}

/// Runs `$body` with the words of whatever width.
macro_rules! with_words {
    ($words:expr, $name:ident => $body:expr) => {
        match $words {
            Words::W8($name) => $body,
            Words::W16($name) => $body,
            Words::W32($name) => $body,
            Words::W64($name) => $body,
        }
    };
}

impl NarrowPage {
    /// `None`: it is not a page of numbers, or a row has none.
    pub(crate) fn of(page: &PageBuf, scratch: &mut NarrowScratch) -> Option<Self> {
        if page.presence.is_some() || page.rows == 0 {
            return None;
        }
        let NarrowScratch { decimals, scaled } = scratch;
        match &page.values {
            Values::I64(values) => Some(Self::of_integers(Form::Signed, values.iter().copied(), scaled)),
            // In the order of signed numbers a page across 2⁶³ is wide, as it is anyway.
            Values::U64(values) => {
                Some(Self::of_integers(Form::Unsigned, values.iter().map(|value| *value as i64), scaled))
            }
            Values::F64(values) if find_decimals(values, decimals) && decimals.exceptions.is_empty() => {
                Some(Self::of_integers(Form::Decimal(decimals.digits), decimals.integers.iter().copied(), scaled))
            }
            Values::F64(values) => {
                Some(Self::of_integers(Form::Bits, values.iter().map(|value| value.to_bits() as i64), scaled))
            }
            Values::Bool(_) | Values::String(_) => None,
        }
    }

    fn of_integers(form: Form, values: impl Iterator<Item = i64> + Clone, scaled: &mut Vec<u64>) -> Self {
        let base = values.clone().min().unwrap_or_default();
        scaled.clear();
        scaled.extend(values.map(|value| value.wrapping_sub(base) as u64));
        let divisor = common_divisor(scaled).max(1);
        if divisor > 1 {
            let exact = Divisor::new(divisor);
            scaled.iter_mut().for_each(|value| *value = exact.quotient(*value));
        }
        let words = match scaled.iter().copied().max().unwrap_or_default() {
            0..=0xff => Words::W8(scaled.iter().map(|value| *value as u8).collect()),
            0x100..=0xffff => Words::W16(scaled.iter().map(|value| *value as u16).collect()),
            0x1_0000..=0xffff_ffff => Words::W32(scaled.iter().map(|value| *value as u32).collect()),
            _ => Words::W64(scaled.as_slice().into()),
        };
        Self { form, base, divisor, words }
    }

    /// How many.
    pub(crate) fn rows(&self) -> usize {
        with_words!(&self.words, words => words.len())
    }

    /// The type of the values.
    pub(crate) fn kind(&self) -> FieldType {
        match self.form {
            Form::Signed => FieldType::I64,
            Form::Unsigned => FieldType::U64,
            Form::Decimal(_) | Form::Bits => FieldType::F64,
        }
    }

    /// What it takes in memory, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + with_words!(&self.words, words => size_of_val(&**words))
    }

    /// Appends the values of rows `start..end` to a column of the type of the page. `false`, and no values, if it is of
    /// another type or there are fewer rows.
    pub(crate) fn append(&self, start: usize, end: usize, out: &mut Values) -> bool {
        let Some(rows) = end.checked_sub(start).filter(|_| end <= self.rows() && out.kind() == self.kind()) else {
            return false;
        };
        match out {
            Values::I64(values) => self.restore(start, end, grown(values, rows)),
            Values::U64(values) => {
                self.each(start, end, grown(values, rows), |integers, out| {
                    out.iter_mut().zip(integers).for_each(|(out, value)| *out = *value as u64);
                });
            }
            Values::F64(values) => self.restore_doubles(start, end, grown(values, rows)),
            Values::Bool(_) | Values::String(_) => {}
        }
        true
    }

    /// The times or signed integers of rows `start..start + out.len()`, which are there.
    pub(crate) fn restore(&self, start: usize, end: usize, out: &mut [i64]) {
        with_words!(&self.words, words => {
            restore(words.get(start..end).unwrap_or_default(), self.base, self.divisor, out);
        });
    }

    fn restore_doubles(&self, start: usize, end: usize, out: &mut [f64]) {
        self.each(start, end, out, |integers, out| match self.form {
            // They were in range when the page was narrowed.
            Form::Decimal(digits) => {
                let restored = restore_doubles(integers, digits, out);
                debug_assert!(restored.is_ok());
            }
            _ => out.iter_mut().zip(integers).for_each(|(out, bits)| *out = f64::from_bits(*bits as u64)),
        });
    }

    /// The integers of rows, vector by vector, with the slots that they are for.
    fn each<T>(&self, start: usize, end: usize, out: &mut [T], mut put: impl FnMut(&[i64], &mut [T])) {
        let mut integers = [0; VECTOR_ROWS];
        let starts = (start..end).step_by(VECTOR_ROWS);
        for (at, out) in starts.zip(out.chunks_mut(VECTOR_ROWS)) {
            let integers = integers.get_mut(..out.len()).unwrap_or_default();
            self.restore(at, at + integers.len(), integers);
            put(integers, out);
        }
    }
}

/// Room for `rows` more values.
fn grown<T: Copy + Default>(values: &mut Vec<T>, rows: usize) -> &mut [T] {
    let len = values.len();
    values.resize(len + rows, T::default());
    values.get_mut(len..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    fn bits(values: &Values) -> Vec<u64> {
        match values {
            Values::I64(values) => values.iter().map(|value| *value as u64).collect(),
            Values::U64(values) => values.clone(),
            Values::F64(values) => values.iter().map(|value| value.to_bits()).collect(),
            _ => panic!("a page of numbers"),
        }
    }

    /// All rows, and any part of them, come back bit by bit behind what was there; `bytes`: what a word takes.
    #[track_caller]
    fn check(values: Values, bytes: usize) {
        let page = PageBuf::of(values);
        let narrow = NarrowPage::of(&page, &mut NarrowScratch::default()).unwrap();
        let rows = page.rows;
        assert_eq!((narrow.rows(), narrow.kind()), (rows, page.values.kind()));
        assert_eq!(narrow.memory_bytes(), size_of::<NarrowPage>() + rows * bytes, "{:?}", narrow.form);
        let all = bits(&page.values);
        let mut random = Random::new(rows as u64);
        let mut parts = vec![(0, rows), (rows, rows), (rows - 1, rows)];
        parts.extend((0..20).map(|_| {
            let (one, other) = (random.below(rows as u64 + 1) as usize, random.below(rows as u64 + 1) as usize);
            (one.min(other), one.max(other))
        }));
        for (start, end) in parts {
            let mut out = Values::new(page.values.kind());
            assert!(narrow.append(0, 1, &mut out));
            assert!(narrow.append(start, end, &mut out));
            let want: Vec<u64> = all[..1].iter().chain(&all[start..end]).copied().collect();
            assert_eq!(bits(&out), want, "rows {start}..{end}");
        }
    }

    #[test]
    fn numbers_come_back_bit_by_bit_whatever_their_width() {
        let rows = 8192;
        check(Values::I64(vec![-7; rows]), 1);
        check(Values::I64((0..rows as i64).map(|at| at * 10_000_000_000).collect()), 2);
        check(Values::I64((0..rows as i64).map(|at| 3 - at * at).collect()), 4);
        check(Values::I64(vec![i64::MIN, i64::MAX, 0, -1]), 8);
        check(Values::U64(vec![u64::MAX, u64::MAX - 255]), 1);
        check(Values::U64(vec![0, u64::MAX, 1 << 63]), 8);
        check(Values::U64(vec![0, 1 << 63, 3]), 8);
        check(Values::F64((0..3000).map(|at| f64::from(at % 101)).collect()), 1);
        check(Values::F64((0..3000).map(|at| f64::from(at % 3001 - 7) / 100.0).collect()), 2);
        check(Values::F64(vec![-0.0; 5]), 1);
        check(Values::F64(vec![0.5, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(1), 1e308]), 8);
        check(Values::F64((0..2000).map(|at| f64::from(at).sqrt()).collect()), 8);
    }

    #[test]
    fn a_page_with_absent_rows_or_no_numbers_is_not_narrowed() {
        let mut scratch = NarrowScratch::default();
        let mut absent = PageBuf::of(Values::I64(vec![1, 2]));
        absent.presence = Some(vec![1]);
        for page in [absent, PageBuf::of(Values::Bool(vec![true])), PageBuf::of(Values::I64(vec![]))] {
            assert!(NarrowPage::of(&page, &mut scratch).is_none());
        }
    }

    #[test]
    fn what_is_not_there_is_not_appended() {
        let narrow = NarrowPage::of(&PageBuf::of(Values::I64(vec![1, 2])), &mut NarrowScratch::default()).unwrap();
        let mut integers = Values::I64(vec![9]);
        for (start, end) in [(0, 3), (2, 1)] {
            assert!(!narrow.append(start, end, &mut integers));
        }
        assert!(!narrow.append(0, 2, &mut Values::F64(vec![])));
        assert_eq!(integers, Values::I64(vec![9]));
    }
}
