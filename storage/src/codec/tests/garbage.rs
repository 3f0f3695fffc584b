//! Bytes that no writer made, behind a checksum that says somebody did.

use proptest::prelude::*;

use super::super::*;
use super::{Random, bits, column, encodings, kinds};

/// Puts the right checksum into a changed page.
pub(super) fn seal(page: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..12]);
    hasher.update(&page[16..]);
    let crc = hasher.finalize();
    page[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// A page as a reader may use it: one slot per row, strings in order and UTF-8, doubles in slots.
fn check(page: &PageBuf, kind: FieldType) {
    assert_eq!(page.values.kind(), kind);
    assert_eq!(page.values.len(), page.rows);
    if let Values::String(strings) = &page.values {
        for index in 0..strings.len() {
            std::str::from_utf8(strings.get(index)).unwrap();
        }
        assert!(strings.ends.is_sorted());
        assert!(strings.bytes.capacity() <= 64 << 20, "room for {} bytes", strings.bytes.capacity());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_changed_page_gives_values_or_an_error(
        kind in kinds(), shape in 0u64..100, rows in 1usize..3000, encoding in encodings(), seed: u64, changes in 1usize..6,
    ) {
        let mut random = Random::new(seed);
        let values = column(kind, shape, rows, &mut random);
        let (mut scratch, mut page) = (EncodeScratch::of(encoding), PageBuf::new());
        let mut bytes = Vec::new();
        encode_page(rows, None, ValuesRef::from(&values), &mut scratch, &mut bytes);
        for _ in 0..20 {
            let mut bytes = bytes.clone();
            for _ in 0..changes {
                // Heads are where the harm is: half of the changes fall on the first 64 bytes.
                let end = if random.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
                let at = random.below(end as u64) as usize;
                bytes[at] = match random.below(3) {
                    0 => random.next() as u8,
                    1 => bytes[at] ^ (1 << random.below(8)),
                    _ => [0, 0xff, 0x80, 1][random.below(4) as usize],
                };
            }
            seal(&mut bytes);
            if decode_page(&bytes, kind, &mut page).is_ok() {
                check(&page, kind);
            }
        }
    }

    #[test]
    fn random_bodies_give_values_or_an_error(
        kind in kinds(), codec in 0u8..64, parameter in 0u8..18, presence in 0u8..4,
        rows in 0u16..9000, present in 0u16..9000, body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = sealed([kind.code(), codec, parameter, presence], rows, present, &body);
        let mut page = PageBuf::new();
        if decode_page(&bytes, kind, &mut page).is_ok() {
            check(&page, kind);
        }
        let _ = decode_column(&mut body.as_slice(), kind, usize::from(rows));
    }

    /// Past the checks of our own, into pco: any tables, any symbols.
    #[test]
    fn entropy_coded_garbage_gives_values_or_an_error(
        float: bool, word in 0u8..9, form in prop::sample::select(vec![0u8, 0x10, 0x20, 0x30, 1, 5]), rows in 1u16..8193,
        body in prop::collection::vec(any::<u8>(), 0..600), sparse: bool,
    ) {
        let (kind, codec) = if float { (FieldType::F64, 33) } else { (FieldType::U64, 32) };
        let mut bytes = vec![word, 2, 1, 4, 1, form];
        // Mostly zeros lead further: few bins, whose weights add up.
        bytes.extend(body.iter().map(|byte| if sparse && byte % 4 != 0 { 0 } else { *byte }));
        let mut page = PageBuf::new();
        if decode_page(&sealed([kind.code(), codec, 0, 0], rows, rows, &bytes), kind, &mut page).is_ok() {
            check(&page, kind);
        }
    }

    #[test]
    fn a_changed_column_gives_values_or_an_error(
        kind in kinds(), shape in 0u64..100, count in 1usize..3000, encoding in encodings(), seed: u64,
    ) {
        let mut random = Random::new(seed);
        let values = column(kind, shape, count, &mut random);
        let mut bytes = Vec::new();
        encode_column(ValuesRef::from(&values), &mut EncodeScratch::of(encoding), &mut bytes);
        for _ in 0..20 {
            let mut bytes = bytes.clone();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            if let Ok(decoded) = decode_column(&mut bytes.as_slice(), kind, count) {
                prop_assert_eq!(decoded.len(), count);
            }
        }
    }

    /// Without a new checksum every changed byte is found.
    #[test]
    fn a_flipped_bit_is_an_error(kind in kinds(), shape in 0u64..100, rows in 1usize..2000, seed: u64) {
        let mut random = Random::new(seed);
        let values = column(kind, shape, rows, &mut random);
        let (mut page, mut bytes) = (PageBuf::new(), Vec::new());
        encode_page(rows, None, ValuesRef::from(&values), &mut EncodeScratch::new(), &mut bytes);
        for _ in 0..10 {
            let (at, bit) = (random.below(bytes.len() as u64) as usize, random.below(8));
            bytes[at] ^= 1 << bit;
            prop_assert!(decode_page(&bytes, kind, &mut page).is_err());
            bytes[at] ^= 1 << bit;
        }
        prop_assert!(decode_page(&bytes[..bytes.len() - 1], kind, &mut page).is_err());
        prop_assert_eq!(decode_page(&bytes, kind, &mut page), Ok(()));
        prop_assert_eq!(bits(&page.values), bits(&values));
    }
}

#[test]
fn a_column_that_announces_much_and_holds_little_is_refused_at_once() {
    for kind in [FieldType::I64, FieldType::U64, FieldType::F64, FieldType::Bool, FieldType::String] {
        assert!(decode_column(&mut &[1, 0, 2, 0, 4][..], kind, usize::MAX / 16).is_err());
        assert!(decode_column(&mut &[][..], kind, usize::MAX / 16).is_err());
    }
}

/// A page with a good checksum.
fn sealed(head: [u8; 4], rows: u16, present: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(&rows.to_le_bytes());
    bytes.extend_from_slice(&present.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    seal(&mut bytes);
    bytes
}

#[test]
fn each_broken_rule_is_named() {
    #[track_caller]
    fn check(head: [u8; 4], rows: u16, present: u16, body: &[u8], want: &str) {
        let kind = FieldType::from_code(head[0]).unwrap_or(FieldType::I64);
        let error = decode_page(&sealed(head, rows, present, body), kind, &mut PageBuf::new()).unwrap_err();
        assert_eq!(error, want);
    }
    let ints = [1, 1, 0, 0];
    check([9, 1, 0, 0], 1, 1, &[0, 2], "a page is of another type than its column");
    check(ints, 0, 0, &[], "the row count of a page is out of range");
    check(ints, 8193, 1, &[0, 2], "the row count of a page is out of range");
    check(ints, 1, 2, &[0, 2], "a page has more values than rows");
    check([1, 1, 0, 3], 1, 1, &[0, 2], "the presence of a page has an unknown form");
    check(ints, 2, 1, &[0, 2], "the presence of a page has an unknown form");
    check([1, 1, 0, 2], 2, 1, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 2], "the presence of a page contradicts its header");
    check([1, 1, 0, 2], 2, 1, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 2], "the presence of a page contradicts its header");
    check([1, 51, 0, 1], 2, 0, &[0], "a page without values has a body");
    check([1, 17, 0, 0], 1, 1, &[0, 2], "the codec is unknown, or not one of this type");
    check([1, 50, 0, 0], 1, 1, &[0, 2], "the codec is unknown, or not one of this type");
    check([1, 1, 1, 0], 1, 1, &[0, 2], "a codec without parameter has one");
    check(ints, 1, 1, &[0, 2, 0], "bytes are left behind the last value");
    check(ints, 1, 1, &[0], "a number is cut short");
    check(ints, 2, 2, &[6, 1, 0, 0], "an integer vector has an unknown mode");
    check(ints, 2, 2, &[0x41, 1, 0, 0], "an integer vector has an unknown mode");
    check(ints, 2, 2, &[1, 65, 0, 0], "an integer vector is wider than 64 bits");
    check(ints, 2, 2, &[0x21, 1, 0, 3, 1], "an integer vector has impossible patches");
    check(ints, 2, 2, &[0x21, 1, 0, 1, 3], "an integer vector has impossible patches");
    check(ints, 2, 2, &[0x21, 1, 0, 1, 1, 2, 0, 1, 0], "a patch lies outside its vector");
    check(ints, 3, 3, &[5, 1, 0, 1, 1, 0, 1], "runs are shorter than their vector");
    check(ints, 3, 3, &[5, 1, 0, 1, 2, 0, 3], "runs are longer than their vector");
    check(ints, 3, 3, &[5, 1, 0, 4, 2, 0, 3], "a vector of runs is longer than its vector");
    check([3, 16, 16, 0], 1, 1, &[0, 0, 2], "decimals have more than 15 digits");
    check([3, 16, 2, 0], 1, 1, &[2, 0, 2], "a page has more exceptions than values");
    let far = [0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x08];
    check([3, 16, 2, 0], 1, 1, &far, "the integer of a decimal is out of range");
    check([3, 16, 0, 0], 1, 1, &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], "an exception lies outside its page");
    check([1, 32, 0, 0], 1, 1, &[], "the body is cut short");
    check([1, 32, 1, 0], 1, 1, &[1, 0, 1, 4, 1, 0], "a codec without parameter has one");
    check([3, 32, 16, 0], 1, 1, &[0, 1, 0, 1, 4, 1, 0], "decimals have more than 15 digits");
    check([1, 33, 0, 0], 1, 1, &[1, 0, 1, 4, 1, 0], "the codec is unknown, or not one of this type");
    check([1, 32, 0, 0], 1, 1, &[3, 0, 1, 4, 1, 0], "entropy-coded integers have an unknown word");
    check([1, 32, 0, 0], 1, 1, &[1, 0, 1, 5, 0, 0], "entropy-coded integers have an unknown form");
    check([1, 32, 0, 0], 1, 1, &[1, 0, 1, 4, 1, 0x20], "entropy-coded integers have an unknown form");
    check([1, 32, 0, 0], 1, 1, &[1, 0, 1, 4, 1, 1], "entropy-coded integers have an unknown form");
    check([1, 32, 0, 0], 1, 1, &[1, 0, 1, 4, 1, 0], "entropy-coded integers are damaged");
    check([4, 50, 0, 0], 3, 3, &[8], "a bitmap has bits behind its end");
    check([4, 50, 3, 0], 3, 3, &[], "a bitmap has an unknown form");
    check([5, 51, 0, 0], 2, 2, &[0, 2, 0xc3, 0xa4], "a string is not UTF-8");
    check([5, 51, 0, 0], 1, 1, &[0, 2, 0xff], "a string is not UTF-8");
    check([5, 51, 0, 0], 1, 1, &[0, 1], "a string is longer than 64 KiB");
    check([5, 48, 0, 0], 1, 1, &[2, 0, 2, 0], "a dictionary has more strings than its page has values");
    check([5, 48, 0, 0], 1, 1, &[1, 0, 2, 0, b'a', 0, 2], "a code lies outside its dictionary");
    check([5, 48, 0, 0], 1, 1, &[1, 0, 2, 2, b'a', 0, 0], "a dictionary has an unknown form");
    let other = sealed(ints, 1, 1, &[0, 2]);
    let error = decode_page(&other, FieldType::U64, &mut PageBuf::new()).unwrap_err();
    assert_eq!(error, "a page is of another type than its column");
}

#[test]
fn a_frame_that_cannot_hold_what_it_announces_gets_no_room() {
    let values = column(FieldType::String, 3, 100, &mut Random::new(1));
    let mut bytes = Vec::new();
    encode_page(100, None, ValuesRef::from(&values), &mut EncodeScratch::new(), &mut bytes);
    assert_eq!(bytes[1], 49, "zstd");
    // 8192 strings of 64 KiB each, from a frame of two bytes.
    let mut body = [0, 0x80, 0x80, 0x08].repeat(8);
    body.extend_from_slice(&[0x28, 0xb5]);
    let page = sealed([5, 49, 0, 0], 8192, 8192, &body);
    let mut buffer = PageBuf::new();
    let error = decode_page(&page, FieldType::String, &mut buffer).unwrap_err();
    assert_eq!(error, "a zstd frame is too short for what it announces");
    assert!(matches!(&buffer.values, Values::String(strings) if strings.bytes.capacity() < 1 << 20));
}
