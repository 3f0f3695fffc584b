//! A page: up to 8192 rows of one column, read and checked together. Byte layout: `storage/format/page.md`.

use super::body::{Codec, DecodeScratch, EncodeScratch, decode_body, encode_body, id};
use super::boolean::{count_present, spread};
use super::{PAGE_ROWS_MAX, ValuesRef};
use crate::schema::FieldType;
use crate::values::Values;

/// Bytes before the body.
const HEAD_BYTES: usize = 16;
/// Where the checksum is; it covers all of the page but itself.
const CRC_AT: usize = 12;
/// Pages are multiples of this.
const ALIGN: usize = 8;
/// No body of a page that a writer makes is longer.
const BODY_BYTES_MAX: usize = 1 << 30;

/// What a page has to decode in.
const DECODE_BYTES: usize = 24 * 1024;

const PRESENCE_ALL: u8 = 0;
const PRESENCE_NONE: u8 = 1;
const PRESENCE_BITMAP: u8 = 2;

/// What the page index keeps of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageStats {
    /// Rows, `1..=8192`.
    pub rows: u32,
    /// Rows that have a value.
    pub present: u32,
    /// Raw bits of the smallest value, in the order of its type; doubles in total order, −0.0 before 0.0. `None` for
    /// strings, and if no row has a value.
    pub min: Option<u64>,
    /// Raw bits of the greatest value.
    pub max: Option<u64>,
}

/// A decoded page, to be used again for the next one.
pub struct PageBuf {
    /// Rows of the page.
    pub rows: usize,
    /// One bit per row, the lowest first; `None` when every row has a value.
    pub presence: Option<Vec<u64>>,
    /// One slot per row. Absent rows hold 0, 0.0, `false` or the empty string.
    pub values: Values,
    pub(super) scratch: DecodeScratch,
    spare: Vec<u64>,
}

impl PageBuf {
    /// What it takes in memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        let words = self.presence.as_ref().map_or(0, Vec::capacity) + self.spare.capacity();
        size_of::<Self>() + DECODE_BYTES + self.values.memory_bytes() + words * 8
    }

    /// An empty page (about 24 KiB of room to decode in).
    pub fn new() -> Self {
        Self {
            rows: 0,
            presence: None,
            values: Values::I64(Vec::new()),
            scratch: DecodeScratch::new(),
            spare: Vec::new(),
        }
    }
}

#[cfg(test)]
impl PageBuf {
    /// A page whose rows all have a value.
    pub(crate) fn of(values: Values) -> Self {
        Self { rows: values.len(), values, ..Self::new() }
    }
}

impl Default for PageBuf {
    fn default() -> Self {
        Self::new()
    }
}

struct Head {
    kind: u8,
    codec: Codec,
    presence: u8,
    rows: u16,
    present: u16,
    body_bytes: u32,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&[self.kind, self.codec.id, self.codec.parameter, self.presence]);
        bytes[4..6].copy_from_slice(&self.rows.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.present.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<(Self, u32), &'static str> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or("a page header is cut short")?;
        let [kind, codec, parameter, presence, r0, r1, p0, p1, b0, b1, b2, b3, c0, c1, c2, c3] = *head;
        let head = Self {
            kind,
            codec: Codec { id: codec, parameter },
            presence,
            rows: u16::from_le_bytes([r0, r1]),
            present: u16::from_le_bytes([p0, p1]),
            body_bytes: u32::from_le_bytes([b0, b1, b2, b3]),
        };
        if head.rows == 0 || usize::from(head.rows) > PAGE_ROWS_MAX {
            return Err("the row count of a page is out of range");
        }
        if head.present > head.rows {
            return Err("a page has more values than rows");
        }
        if head.body_bytes as usize > BODY_BYTES_MAX {
            return Err("the body of a page is longer than 1 GiB");
        }
        Ok((head, u32::from_le_bytes([c0, c1, c2, c3])))
    }

    fn page_bytes(&self) -> usize {
        HEAD_BYTES + (self.body_bytes as usize).next_multiple_of(ALIGN)
    }
}

/// The checksum of a page: all of it but the checksum.
fn checksum(page: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(page.get(..CRC_AT).unwrap_or_default());
    hasher.update(page.get(HEAD_BYTES..).unwrap_or_default());
    hasher.finalize()
}

/// Appends one page of `1..=8192` rows: header, presence, body, checksum, padding to 8 bytes.
///
/// `presence`: `None` if all rows have a value, else one bit per row, the lowest first, and none behind the last row.
/// `values` holds the present rows only. The same rows always give the same bytes.
///
/// # Panics
/// If the counts contradict one another.
pub fn encode_page(
    rows: usize,
    presence: Option<&[u64]>,
    values: ValuesRef<'_>,
    scratch: &mut EncodeScratch,
    out: &mut Vec<u8>,
) -> PageStats {
    assert!(0 < rows);
    assert!(rows <= PAGE_ROWS_MAX);
    let present = presence.map_or(Some(rows), |presence| count_present(presence, rows));
    assert!(present == Some(values.len()), "a page of {rows} rows has {} values", values.len());
    let present = values.len();

    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    let form = match present {
        0 => PRESENCE_NONE,
        _ if present == rows => PRESENCE_ALL,
        _ => PRESENCE_BITMAP,
    };
    if form == PRESENCE_BITMAP {
        out.extend(presence.unwrap_or_default().iter().flat_map(|word| word.to_le_bytes()));
    }
    let (codec, range) = if present == 0 {
        (Codec { id: id::RAW, parameter: 0 }, None)
    } else {
        let encoded = encode_body(values, scratch, out);
        (Codec { id: encoded.codec, parameter: encoded.parameter }, encoded.range)
    };
    let body_bytes = out.len() - start - HEAD_BYTES;
    assert!(body_bytes <= BODY_BYTES_MAX);
    let head = Head {
        kind: values.kind().code(),
        codec,
        presence: form,
        rows: rows as u16,
        present: present as u16,
        body_bytes: body_bytes as u32,
    };
    out.resize(start + head.page_bytes(), 0);
    let page = &mut out[start..];
    page[..HEAD_BYTES].copy_from_slice(&head.encode());
    let crc = checksum(page);
    page[CRC_AT..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    PageStats {
        rows: rows as u32,
        present: present as u32,
        min: range.map(|(min, _)| min),
        max: range.map(|(_, max)| max),
    }
}

/// How many bytes the page takes that starts with this header (16 bytes are enough).
///
/// # Errors
/// The rule that the header breaks. Its checksum is not verified here.
pub fn page_bytes(header: &[u8]) -> Result<usize, String> {
    Head::decode(header).map(|(head, _)| head.page_bytes()).map_err(str::to_owned)
}

/// Verifies the checksum of the page that starts here, and decodes it into `page`.
///
/// Never panics. What it allocates is bounded by 8192 rows, or, for strings, by what their lengths add up to, after
/// those were checked against the bytes that are there. Time pages are [`FieldType::I64`].
///
/// # Errors
/// The rule that the bytes break. `page` then holds anything.
pub fn decode_page(bytes: &[u8], kind: FieldType, page: &mut PageBuf) -> Result<(), String> {
    decode(bytes, kind, page).map_err(str::to_owned)
}

/// The head of a page of this type, and all that its checksum covers behind it.
fn open(bytes: &[u8], kind: FieldType) -> Result<(Head, &[u8]), &'static str> {
    let (head, crc) = Head::decode(bytes)?;
    let bytes = bytes.get(..head.page_bytes()).ok_or("a page is cut short")?;
    if checksum(bytes) != crc {
        return Err("the checksum of a page does not match");
    }
    if head.kind != kind.code() {
        return Err("a page is of another type than its column");
    }
    let body = bytes.get(HEAD_BYTES..HEAD_BYTES + head.body_bytes as usize).ok_or("a page is cut short")?;
    Ok((head, body))
}

/// Codec, number and bytes of the present values of a page. One without values has none of them.
pub(super) fn open_values(bytes: &[u8], kind: FieldType) -> Result<(Codec, usize, &[u8]), &'static str> {
    let (head, mut body) = open(bytes, kind)?;
    let (rows, present) = (usize::from(head.rows), usize::from(head.present));
    match head.presence {
        PRESENCE_ALL if present == rows => {}
        PRESENCE_NONE if present == 0 => {}
        PRESENCE_BITMAP => {
            let (bytes, rest) = body.split_at_checked(rows.div_ceil(64) * 8).ok_or("a page is cut short")?;
            body = rest;
            let mut words = [0; PAGE_ROWS_MAX / 64];
            let words = words.get_mut(..rows.div_ceil(64)).unwrap_or_default();
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            if count_present(words, rows) != Some(present) {
                return Err("the presence of a page contradicts its header");
            }
        }
        _ => return Err("the presence of a page has an unknown form"),
    }
    if present == 0 && (head.codec != (Codec { id: id::RAW, parameter: 0 }) || !body.is_empty()) {
        return Err("a page without values has a body");
    }
    Ok((head.codec, present, body))
}

fn decode(bytes: &[u8], kind: FieldType, page: &mut PageBuf) -> Result<(), &'static str> {
    let (head, mut body) = open(bytes, kind)?;
    let (rows, present) = (usize::from(head.rows), usize::from(head.present));
    let mut presence = page.presence.take().unwrap_or_else(|| std::mem::take(&mut page.spare));
    match head.presence {
        PRESENCE_ALL if present == rows => {}
        PRESENCE_NONE if present == 0 => {
            presence.clear();
            presence.resize(rows.div_ceil(64), 0);
        }
        PRESENCE_BITMAP => {
            let (words, rest) = body.split_at_checked(rows.div_ceil(64) * 8).ok_or("a page is cut short")?;
            body = rest;
            presence.clear();
            presence.extend(words.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
            if count_present(&presence, rows) != Some(present) {
                return Err("the presence of a page contradicts its header");
            }
        }
        _ => return Err("the presence of a page has an unknown form"),
    }
    if page.values.kind() != kind {
        page.values = Values::new(kind);
    }
    page.rows = rows;
    if present == 0 {
        if head.codec != (Codec { id: id::RAW, parameter: 0 }) || !body.is_empty() {
            return Err("a page without values has a body");
        }
        clear(&mut page.values);
    } else {
        decode_body(head.codec, body, present, 0, &mut page.scratch, &mut page.values)?;
    }
    if present == rows {
        page.spare = presence;
        return Ok(());
    }
    match &mut page.values {
        Values::I64(values) => spread(values, &presence, rows, 0),
        Values::U64(values) => spread(values, &presence, rows, 0),
        Values::F64(values) => spread(values, &presence, rows, 0.0),
        Values::Bool(values) => spread(values, &presence, rows, false),
        Values::String(strings) => {
            spread(&mut strings.ends, &presence, rows, u32::MAX);
            let mut end_before = 0;
            for end in &mut strings.ends {
                if *end == u32::MAX {
                    *end = end_before;
                }
                end_before = *end;
            }
        }
    }
    page.presence = Some(presence);
    Ok(())
}

fn clear(values: &mut Values) {
    match values {
        Values::I64(values) => values.clear(),
        Values::U64(values) => values.clear(),
        Values::F64(values) => values.clear(),
        Values::Bool(values) => values.clear(),
        Values::String(strings) => {
            strings.bytes.clear();
            strings.ends.clear();
        }
    }
}
