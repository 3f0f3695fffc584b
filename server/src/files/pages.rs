//! Lengths in a Parquet file that its reader would believe: looked at before it takes memory for them.
//!
//! The reader reserves what a list of row groups, a page or a dictionary says to be, and a process that cannot have so much
//! ends. So the numbers are read here first, out of Thrift's compact encoding, of which only that is known which it takes to
//! step over the rest. What else is wrong with a file is the reader's to find.

/// A page larger than that is no page of a file that this server reads.
pub(super) const PAGE_BYTES_MAX: usize = 64 << 20;
/// The reader counts them so.
const ROW_GROUPS_MAX: u64 = i16::MAX as u64;
/// Structures within structures.
const DEPTH_MAX: usize = 32;

/// Why lengths are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The bytes end before the structure does.
    Short,
    /// It is none, or says what cannot be.
    Wrong(&'static str),
}

/// What matters of the head of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHead {
    /// Of the head itself.
    pub(super) head_bytes: usize,
    pub(super) stored_bytes: usize,
    pub(super) unpacked_bytes: usize,
}

struct Compact<'a> {
    rest: &'a [u8],
}

impl Compact<'_> {
    fn byte(&mut self) -> Result<u8, Bad> {
        let (first, rest) = self.rest.split_first().ok_or(Bad::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn jump(&mut self, bytes: u64) -> Result<(), Bad> {
        let bytes = usize::try_from(bytes).map_err(|_| Bad::Short)?;
        self.rest = self.rest.get(bytes..).ok_or(Bad::Short)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Bad> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Bad::Wrong("a number does not end"))
    }

    /// A number that is no less than nothing and fits a length.
    fn length(&mut self) -> Result<usize, Bad> {
        let value = self.varint()?;
        let signed = (value >> 1) as i64 ^ -((value & 1) as i64);
        usize::try_from(signed).map_err(|_| Bad::Wrong("a length is negative"))
    }

    /// The kind of the elements and how many there are.
    fn list(&mut self) -> Result<(u8, u64), Bad> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Ok((head & 15, count))
    }

    /// Each field of a structure: its number and kind. `each` takes the value, or says that it did not.
    fn fields(
        &mut self,
        depth: usize,
        mut each: impl FnMut(&mut Self, i64, u8) -> Result<bool, Bad>,
    ) -> Result<(), Bad> {
        let mut id = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let kind = head & 15;
            id = match head >> 4 {
                0 => {
                    let value = self.varint()?;
                    (value >> 1) as i64 ^ -((value & 1) as i64)
                }
                step => id + i64::from(step),
            };
            if !each(self, id, kind)? && kind > 2 {
                self.skip(kind, depth)?;
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Bad> {
        let deeper = depth.checked_sub(1).ok_or(Bad::Wrong("structures are nested too deeply"))?;
        match kind {
            1..=3 => self.jump(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.jump(8),
            8 => {
                let bytes = self.varint()?;
                self.jump(bytes)
            }
            9 | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip(kind, deeper))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip(kinds >> 4, deeper)?;
                    self.skip(kinds & 15, deeper)
                })
            }
            12 => self.fields(deeper, |_, _, _| Ok(false)),
            13 => self.jump(16),
            _ => Err(Bad::Wrong("a value is of no kind")),
        }
    }
}

/// Looks at the list of row groups in a footer.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), Bad> {
    let mut compact = Compact { rest: bytes };
    compact.fields(DEPTH_MAX, |compact, id, kind| {
        if (id, kind) != (4, 9) {
            return Ok(false);
        }
        let (kind, count) = compact.list()?;
        if ROW_GROUPS_MAX < count {
            return Err(Bad::Wrong("it has more row groups than there can be"));
        }
        (0..count).try_for_each(|_| compact.skip(kind, DEPTH_MAX))?;
        Ok(true)
    })
}

/// The head of a page that begins here.
pub(super) fn page_head(bytes: &[u8]) -> Result<PageHead, Bad> {
    let mut compact = Compact { rest: bytes };
    let (mut unpacked, mut stored, mut entries) = (None, None, 0);
    compact.fields(DEPTH_MAX, |compact, id, kind| {
        match (id, kind) {
            (2, 5) => unpacked = Some(compact.length()?),
            (3, 5) => stored = Some(compact.length()?),
            // Of a dictionary.
            (7, 12) => compact.fields(DEPTH_MAX, |compact, id, kind| {
                if (id, kind) == (1, 5) {
                    entries = compact.length()?;
                }
                Ok((id, kind) == (1, 5))
            })?,
            // Of data, in both forms: where they say how it is encoded. What is counted by the data itself we cannot see.
            (5, 12) => data_head(compact, 2)?,
            (8, 12) => data_head(compact, 4)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let (Some(unpacked_bytes), Some(stored_bytes)) = (unpacked, stored) else {
        return Err(Bad::Wrong("a page does not say how long it is"));
    };
    if PAGE_BYTES_MAX < unpacked_bytes.max(stored_bytes) {
        return Err(Bad::Wrong("a page is larger than 64 MiB"));
    }
    // Each takes a byte and more.
    if unpacked_bytes < entries {
        return Err(Bad::Wrong("a dictionary says that it has more entries than bytes"));
    }
    Ok(PageHead { head_bytes: bytes.len() - compact.rest.len(), stored_bytes, unpacked_bytes })
}

fn data_head(compact: &mut Compact<'_>, field: i64) -> Result<(), Bad> {
    compact.fields(DEPTH_MAX, |compact, id, kind| {
        if (id, kind) != (field, 5) {
            return Ok(false);
        }
        match compact.length()? {
            6 | 7 => Err(Bad::Wrong("the encodings DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY are not read")),
            _ => Ok(true),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_lies_are_seen() {
        // 1: page type 0; 2: 200 unpacked; 3: 100 stored; 5: data of 3 values, plain, levels in 3.
        let page = [0x15, 0, 0x15, 0x90, 3, 0x15, 0xc8, 1, 0x2c, 0x15, 6, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0, 99];
        let want = PageHead { head_bytes: page.len() - 1, stored_bytes: 100, unpacked_bytes: 200 };
        assert_eq!(page_head(&page), Ok(want));
        for end in 0..page.len() - 1 {
            assert_eq!(page_head(&page[..end]), Err(Bad::Short), "{end}");
        }
        let broken = |at: usize, byte: u8| {
            let mut page = page;
            page[at] = byte;
            page_head(&page)
        };
        assert!(matches!(broken(12, 12), Err(Bad::Wrong(reason)) if reason.contains("DELTA")));
        assert_eq!(page_head(&[0x25, 0x91, 3, 0]), Err(Bad::Wrong("a length is negative")));
        let dictionary = |entries| [0x25, 0x90, 3, 0x15, 0xc8, 1, 0x4c, 0x15, entries, 0, 0];
        assert!(page_head(&dictionary(0x70)).is_ok());
        assert!(page_head(&[0x25, 0x14, 0x15, 2, 0x4c, 0x15, 0x90, 3, 0, 0]).is_err());
        // 1: version; 4: a list of very many structures.
        assert_eq!(check_footer(&[0x15, 2, 0x39, 0x0c, 0]), Ok(()));
        let many = check_footer(&[0x15, 2, 0x39, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0]);
        assert_eq!(many, Err(Bad::Wrong("it has more row groups than there can be")));
        let deep: Vec<_> = [0x1c; 100].to_vec();
        assert_eq!(check_footer(&deep), Err(Bad::Wrong("structures are nested too deeply")));
    }
}
