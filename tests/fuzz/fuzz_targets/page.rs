//! Any bytes as a page whose checksum is right, of every type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marigram_storage::codec::{PageBuf, decode_column, decode_page};
use marigram_storage::schema::FieldType;

const KINDS: [FieldType; 5] =
    [FieldType::I64, FieldType::U64, FieldType::F64, FieldType::Bool, FieldType::String];

fuzz_target!(|bytes: &[u8]| {
    let Some((head, body)) = bytes.split_first_chunk::<7>() else { return };
    let [kind, codec, parameter, presence, low, high, absent] = *head;
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let rows = u16::from_le_bytes([low, high]);
    let mut page = vec![kind.code(), codec, parameter, presence];
    page.extend_from_slice(&rows.to_le_bytes());
    page.extend_from_slice(&rows.saturating_sub(u16::from(absent)).to_le_bytes());
    page.extend_from_slice(&(body.len() as u32).to_le_bytes());
    page.extend_from_slice(&[0; 4]);
    page.extend_from_slice(body);
    page.resize(page.len().next_multiple_of(8), 0);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..12]);
    hasher.update(&page[16..]);
    let crc = hasher.finalize();
    page[12..16].copy_from_slice(&crc.to_le_bytes());
    let mut decoded = PageBuf::new();
    if decode_page(&page, kind, &mut decoded).is_ok() {
        assert_eq!(decoded.values.len(), usize::from(rows));
    }
    let _ = decode_column(&mut &bytes[7..], kind, usize::from(rows));
});
