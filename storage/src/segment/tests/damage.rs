//! Broken bytes: an error or the same rows, never wrong ones and never a panic.

use super::model::*;
use crate::error::{Error, Result};
use crate::schema::ColumnId;
use crate::segment::footer::{Footer, Section, SectionKind, Tail};
use crate::segment::{SegmentReader, SegmentSummary, SegmentWriter};
use proptest::prelude::*;

/// Six series, three tags, every type, two stripes.
fn small() -> Model {
    random_model(5, 6, 9)
}

/// A segment of it, postings and all.
fn whole() -> (Vec<u8>, SegmentSummary) {
    written_with(&small(), 20, 0)
}

const VALUES: [&str; 4] = ["a", "b", "n1", "host-1"];

/// Whether postings and order of keys say what columns say, as far as they can be read.
fn tags_agree(bytes: &[u8]) -> Result<bool> {
    let reader = open(bytes)?;
    for column in TAGS.map(ColumnId) {
        for value in VALUES {
            let told = reader.tag(column)?.map(|tag| tag.matching(&[Some(value)])).unwrap_or_default();
            if reader.series_matching(column, &[Some(value)])? != told {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// All that a reader can be asked for.
fn read_everything(bytes: &[u8]) -> Result<Model> {
    let reader = open(bytes)?;
    let model = read_all(&reader)?;
    for column in TAGS {
        reader.series_matching(ColumnId(column), &[Some("a"), None])?;
        for value in VALUES {
            reader.series_matching(ColumnId(column), &[Some(value)])?;
        }
    }
    for key in small().keys() {
        reader.find_series(key)?;
    }
    Ok(model)
}

fn tail_of(bytes: &[u8]) -> Tail {
    Tail::decode(bytes.last_chunk().unwrap()).unwrap()
}

fn footer_range(bytes: &[u8]) -> std::ops::Range<usize> {
    let end = bytes.len() - Tail::BYTES;
    end - tail_of(bytes).footer_bytes as usize..end
}

fn footer_of(bytes: &[u8]) -> Footer {
    let range = footer_range(bytes);
    Footer::decode(&bytes[range.clone()], range.start as u64).unwrap()
}

/// The same segment under another footer, whose checksum matches.
fn with_footer(bytes: &[u8], footer: &[u8]) -> Vec<u8> {
    let start = footer_range(bytes).start;
    let mut out = bytes[..start].to_vec();
    out.extend_from_slice(footer);
    out.extend_from_slice(&Tail::of(footer, start as u64).encode());
    out
}

/// Gives every section the checksum of its bytes.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut footer = footer_of(bytes);
    for section in &mut footer.sections {
        section.crc32 = crc32fast::hash(&bytes[section.offset as usize..][..section.bytes as usize]);
    }
    with_footer(bytes, &footer.encode(0, 0))
}

/// Replaces a checksum wherever it stands in a section.
fn replace_crc32(bytes: &mut [u8], section: &Section, old: u32, new: u32) {
    let section = &mut bytes[section.offset as usize..][..section.bytes as usize];
    let at = section.windows(4).position(|window| window == old.to_le_bytes()).unwrap();
    section[at..at + 4].copy_from_slice(&new.to_le_bytes());
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let model = small();
    let (bytes, summary) = whole();
    assert!(bytes.len() < 4096, "a small segment has {} bytes", bytes.len());
    let footer = footer_of(&bytes);
    let postings = footer
        .sections
        .iter()
        .filter(|section| [SectionKind::POSTINGS, SectionKind::POSTINGS_INDEX].contains(&section.kind));
    let postings: Vec<_> =
        postings.map(|section| section.offset as usize..(section.offset + section.bytes) as usize).collect();
    assert!(postings.len() > 2, "{postings:?}");
    let padded = |byte: usize| {
        let ends = footer.sections.iter().map(|section| (section.offset + section.bytes) as usize);
        ends.into_iter().any(|end| (end..end.next_multiple_of(8)).contains(&byte))
    };
    let mut paddings = 0;
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // The columns of tags answer in their place.
        let is_repeated = postings.iter().any(|range| range.contains(&(bit / 8)));
        let is_padding = padded(bit / 8);
        paddings += usize::from(is_padding);
        match read_everything(&damaged) {
            Ok(read) => {
                assert!(read == model && tags_agree(&damaged).unwrap(), "bit {bit}");
                // Only what pads sections is under no checksum but the hash of the whole.
                assert!(is_repeated || is_padding, "bit {bit} was not found");
            }
            Err(error) => {
                let is_needed = !is_repeated && !is_padding;
                assert!(matches!(error, Error::Corrupt { .. }) && is_needed, "bit {bit}: {error}");
            }
        }
        let verified = open(&damaged).and_then(|reader| reader.verify_all(Some(summary.hash)));
        assert!(verified.is_err(), "bit {bit} is not found by verify");
        let verified = open(&damaged).and_then(|reader| reader.verify_rows(Some(summary.hash)));
        let told = match &verified {
            Ok(Some(error)) => error.to_string(),
            Ok(None) => panic!("bit {bit} is not found"),
            Err(_) => String::new(),
        };
        let want = [(is_repeated, "of section postings"), (is_padding, "what pads a section is not zero")];
        let want = want.iter().find(|(is_it, _)| *is_it).map_or("", |(_, reason)| *reason);
        assert!(told.contains(want) && told.is_empty() == want.is_empty(), "bit {bit}: {verified:?}");
        if let Ok(reader) = open(&damaged) {
            assert_eq!(reader.flaw().unwrap().is_some(), is_repeated || is_padding, "bit {bit}");
        }
    }
    assert!(paddings > 8 * 8, "{paddings} bits pad sections");
}

/// Where the hash does not match with zeros either, something else was changed that no checksum tells.
#[test]
fn padding_is_blamed_for_nothing_else() {
    let (bytes, summary) = whole();
    let footer = footer_of(&bytes);
    let end = footer.sections.iter().map(|section| section.offset + section.bytes).find(|end| end % 8 != 0).unwrap();
    let mut damaged = bytes.clone();
    damaged[end as usize] ^= 1;
    let reader = open(&damaged).unwrap();
    assert!(matches!(reader.verify_rows(Some(summary.hash)), Ok(Some(_))));
    assert!(matches!(reader.verify_rows(Some(summary.hash ^ 1)), Err(Error::Corrupt { .. })));
    assert!(matches!(open(&bytes).unwrap().verify_rows(Some(summary.hash ^ 1)), Err(Error::Corrupt { .. })));
}

/// Damage elsewhere is not overlooked where postings are damaged too, and the hash of the whole can say nothing.
#[test]
fn damaged_postings_hide_no_other_damage() {
    let (mut bytes, summary) = whole();
    let footer = footer_of(&bytes);
    let postings = footer.sections.iter().find(|section| section.kind == SectionKind::POSTINGS).unwrap();
    bytes[postings.offset as usize] ^= 1;
    for section in footer.sections.iter().filter(|section| section.bytes > 0) {
        let is_repeated = [SectionKind::POSTINGS, SectionKind::POSTINGS_INDEX].contains(&section.kind);
        for byte in section.offset..section.offset + section.bytes {
            let mut damaged = bytes.clone();
            damaged[byte as usize] ^= 2;
            let verified = open(&damaged).and_then(|reader| reader.verify_rows(Some(summary.hash)));
            let is_told = matches!(&verified, Ok(Some(_)));
            assert_eq!(is_told, is_repeated, "{} at {byte}: {verified:?}", section.kind.name());
        }
    }
    for byte in 0..footer.data_bytes() {
        let mut damaged = bytes.clone();
        damaged[byte as usize] ^= 2;
        assert!(open(&damaged).and_then(|reader| reader.verify_rows(Some(summary.hash))).is_err(), "byte {byte}");
    }
}

#[test]
fn a_segment_cut_anywhere_is_refused() {
    let (bytes, _) = whole();
    for length in 0..bytes.len() {
        // The file ends early, the address is whole.
        let cut = open_at(&bytes[..length], 0, bytes.len() as u64);
        assert!(matches!(cut.err(), Some(Error::Corrupt { .. })), "file of {length} bytes");
        // The address is short.
        let short = open_at(&bytes, 0, length as u64);
        assert!(matches!(short.err(), Some(Error::Corrupt { .. })), "address of {length} bytes");
    }
    assert!(open_at(&bytes, u64::MAX - 7, bytes.len() as u64).is_err());
    assert!(open_at(&bytes, 8, bytes.len() as u64 - 8).is_err());
}

#[test]
fn an_error_names_the_place_in_the_file() {
    let model = random_model(9, 40, 9000);
    let (bytes, summary) = written(&model, 9000);
    let mut file = vec![0; 4096];
    file.extend_from_slice(&bytes);
    let reader = open_at(&file, 4096, summary.bytes).unwrap();
    let page = *reader.column_page(ColumnId::TIME, 1).unwrap();
    file[4096 + page.offset as usize + 20] ^= 1;
    let reader = open_at(&file, 4096, summary.bytes).unwrap();
    let error = read_all(&reader).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { offset, .. } if *offset == 4096 + page.offset), "{error}");
    // The other pages can still be read.
    let (mut scratch, mut target) = (Vec::new(), crate::codec::PageBuf::new());
    reader.read_page(ColumnId::TIME, 0, &mut scratch, &mut target).unwrap();
    assert_eq!(target.rows, reader.pages()[0].rows as usize);
}

#[test]
fn a_whole_page_at_the_wrong_place_is_found() {
    let row = |time| (time, vec![None, Some(Value::I64(time % 50)), None, None, None, None]);
    let model = Model::from([
        (key(&[(16, "a")]), (0..4096).map(row).collect()),
        (key(&[(16, "b")]), (1..4097).map(row).collect()),
    ]);
    let (mut bytes, _) = written(&model, 100_000);
    let reader = open(&bytes).unwrap();
    let pages = [0, 1].map(|page| *reader.column_page(ColumnId(19), page).unwrap());
    assert_eq!(pages[0].bytes, pages[1].bytes);
    let (from, to) = (pages[0].offset as usize, pages[1].offset as usize);
    bytes.copy_within(from..from + pages[0].bytes as usize, to);
    let error = read_everything(&bytes).unwrap_err().to_string();
    assert!(error.contains("belongs here"), "{error}");
}

#[test]
fn unknown_sections_are_skipped_unless_they_are_required() {
    let model = small();
    let with_section = |required| {
        let mut bytes = Vec::new();
        let mut writer = SegmentWriter::new(&mut bytes, spec());
        for_each_stripe(&model, 20, |stripe| writer.stripe(stripe).unwrap());
        writer.section(SectionKind(900), required, ColumnId(3), b"from the future").unwrap();
        writer.finish().unwrap();
        bytes
    };
    assert_eq!(read_everything(&with_section(false)).unwrap(), model);
    assert!(matches!(open(&with_section(true)).err(), Some(Error::Unsupported { .. })));
}

#[test]
fn unknown_required_features_orders_and_flags_are_refused() {
    let (bytes, _) = whole();
    let footer = footer_of(&bytes);
    assert_eq!(read_everything(&with_footer(&bytes, &footer.encode(0, u64::MAX))).unwrap(), small());
    let unsupported =
        |footer: &[u8]| matches!(open(&with_footer(&bytes, footer)).err(), Some(Error::Unsupported { .. }));
    assert!(unsupported(&footer.encode(4, 0)));
    let mut order = footer.encode(0, 0);
    order[4] = 2;
    assert!(unsupported(&order));
    let mut flags = footer.encode(0, 0);
    flags[96 + 2] |= 2;
    assert!(unsupported(&flags));
    let mut format = bytes.clone();
    let tail = format.len() - Tail::BYTES;
    format[tail + 16] = 2;
    let mut checked = crc32fast::Hasher::new();
    checked.update(&format[tail..tail + 20]);
    checked.update(&format[tail + 24..]);
    format[tail + 20..tail + 24].copy_from_slice(&checked.finalize().to_le_bytes());
    assert!(matches!(open(&format).err(), Some(Error::Unsupported { .. })));
}

#[test]
fn suspects_have_their_place_and_are_empty() {
    let (bytes, _) = whole();
    let reader = open(&bytes).unwrap();
    let suspects = reader.footer().section(SectionKind::SUSPECTS, ColumnId(0)).unwrap();
    assert_eq!((suspects.bytes, suspects.required), (0, false));
}

/// Opens, reads and verifies; any outcome but a panic is fine.
fn must_not_panic(bytes: &[u8]) {
    let _ = read_everything(bytes);
    let _ = open(bytes).and_then(|reader: SegmentReader| reader.verify_all(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn garbage_under_good_checksums_never_panics(
        section in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0)]), 1..4),
    ) {
        let (mut bytes, _) = whole();
        let footer = footer_of(&bytes);
        let sections: Vec<_> = footer.sections.iter().filter(|section| section.bytes != 0).collect();
        let section = **section.get(&sections);
        for (at, byte) in &changes {
            bytes[section.offset as usize + at.index(section.bytes as usize)] = *byte;
        }
        must_not_panic(&with_checksums(&bytes));
    }

    #[test]
    fn a_garbage_footer_under_a_good_checksum_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0)]), 1..4),
    ) {
        let (bytes, _) = whole();
        let mut footer = bytes[footer_range(&bytes)].to_vec();
        for (at, byte) in &changes {
            let at = at.index(footer.len());
            footer[at] = *byte;
        }
        must_not_panic(&with_footer(&bytes, &footer));
    }

    #[test]
    fn garbage_pages_and_key_blocks_under_good_checksums_never_panic(
        page in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let (mut bytes, _) = whole();
        let reader = open(&bytes).unwrap();
        let columns = std::iter::once(ColumnId::TIME).chain(FIELDS.iter().map(|(column, _)| ColumnId(*column)));
        let pages: Vec<_> = columns
            .flat_map(|column| (0..reader.pages().len()).map(move |page| (column, page)))
            .filter_map(|(column, page)| reader.column_page(column, page).copied())
            .filter(|page| page.bytes != 0)
            .collect();
        let page = page.get(&pages);
        let section = *reader.footer().section(SectionKind::PAGES, ColumnId(0)).unwrap();
        let start = page.offset as usize;
        bytes[start + at.index(page.bytes as usize)] = byte;
        let found = &bytes[start..start + page.bytes as usize];
        let crc32 = crc32fast::hash(&[&found[..12], &found[16..]].concat());
        bytes[start + 12..start + 16].copy_from_slice(&crc32.to_le_bytes());
        replace_crc32(&mut bytes, &section, page.crc32, crc32);
        must_not_panic(&with_checksums(&bytes));

        let (mut bytes, _) = whole();
        let keys = *reader.footer().section(SectionKind::KEYS, ColumnId(0)).unwrap();
        let index = *reader.footer().section(SectionKind::KEY_INDEX, ColumnId(0)).unwrap();
        let range = keys.offset as usize..(keys.offset + keys.bytes) as usize;
        let old = crc32fast::hash(&bytes[range.clone()]);
        bytes[range.start + at.index(range.len())] = byte;
        let new = crc32fast::hash(&bytes[range]);
        replace_crc32(&mut bytes, &index, old, new);
        must_not_panic(&with_checksums(&bytes));
    }
}
