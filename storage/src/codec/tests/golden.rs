//! Bytes of format 1, by codec and mode. If a test here fails, add a codec id; leave these bytes alone.

use super::super::*;
use super::{Random, bits};
use crate::manifest::Encoding;
use crate::values::Strings;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn page(rows: usize, presence: Option<&[u64]>, values: &Values) -> Vec<u8> {
    let mut out = Vec::new();
    encode_page(rows, presence, ValuesRef::from(values), &mut EncodeScratch::new(), &mut out);
    out
}

fn strings(values: &[&str]) -> Values {
    let mut strings = Strings::default();
    values.iter().for_each(|value| strings.push(value));
    Values::String(strings)
}

#[test]
fn pages_of_format_1_are_pinned() {
    #[track_caller]
    fn check(name: &str, values: Values, want: &str) {
        assert_eq!(hex(&page(values.len(), None, &values)), want, "{name}");
        check_decoded(name, values, want);
    }
    /// Another version of zstd may write another frame; each must read this one.
    #[track_caller]
    fn check_decoded(name: &str, values: Values, bytes: &str) {
        let mut page = PageBuf::new();
        decode_page(&unhex(bytes), values.kind(), &mut page).unwrap();
        assert_eq!(bits(&page.values), bits(&values), "{name}");
    }
    let noise = |index: i64| Random::new(index as u64).next() as i64;
    let far = |index: i64| if index == 9 { 100_000 } else { 0 };
    check("constant", Values::I64(vec![-7; 5]), "010100000500050002000000b76c46ce000d000000000000");
    check(
        "offsets",
        Values::I64((0..20).map(|index| noise(index) & 3).collect()),
        "010100001400140008000000f476649d01020067ca626f2f",
    );
    check(
        "unsigned",
        Values::U64(vec![u64::MAX, u64::MAX - 1, 0, 1, 2]),
        "020100000500050006000000770d4e3e02020101b0020000",
    );
    check(
        "divisor",
        Values::I64((0..20).map(|index| (noise(index) & 3) * 1000).collect()),
        "01010000140014000a0000000e9d756f110200e80767ca626f2f000000000000",
    );
    check(
        "patch",
        Values::I64((0..20).map(|index| (noise(index) & 3) + far(index)).collect()),
        "01010000140014000e000000decd424021020001020900a86167ca626f2f0000",
    );
    check(
        "steps",
        Values::I64((0..20).map(|index| 1_700_000_000 + index * 10).collect()),
        "010100001400140008000000e5575a6e020080c49fd50c14",
    );
    check(
        "differences",
        Values::I64((0..40).map(|index| index * 1000 + (noise(index) & 1)).collect()),
        "01010000280028000f0000006f76df07020202ce0f8494948545494955624500",
    );
    check(
        "folded",
        Values::I64((0..40).map(|index| index * 9001 + far(index)).collect()),
        "010100002800280014000000e339b95f230000d28c01020409000a00400d03003f0d030000000000",
    );
    check(
        "second",
        Values::I64((0..40).map(|index| index * index * 5001 + (noise(index) & 1)).collect()),
        "01010000280028005000000047183cf3040f02924e000000808813c509e2347192384d9c204e132789d3c429e224718a38519c224e12a788d3c449e2347182384d9c244e132788d3c449e224719238499c264e10278a53c449e224718a384d9c",
    );
    check(
        "runs",
        Values::I64((0..40).map(|index| noise(index / 10) >> 40).collect()),
        "010100002800280016000000bfb9a8150518a5d7f70604047b1651000000084e06e7008c99990000",
    );
    check(
        "decimals",
        Values::F64((0..20i32).map(|index| f64::from(index * index) / 100.0).collect()),
        "03100200140014000d0000008f1b58b500040300020049922449922409000000",
    );
    check(
        "exceptions",
        Values::F64((0..20).map(|index| if index == 3 { -0.0 } else { 0.5 }).collect()),
        "03100100140014000d000000d64cb5a00103000000000000000080000a000000",
    );
    check_decoded(
        "split",
        Values::F64((0..20).map(|index| std::f64::consts::PI * f64::from(index % 2)).collect()),
        "0313000014001400250000006adc282628b52ffd20a0e500004800182d4454fb2109400800c013901c48184804240712061251e2b0000000",
    );
    check(
        "raw doubles",
        Values::F64(vec![std::f64::consts::PI, std::f64::consts::E]),
        "033300000200020010000000edb5ea39182d4454fb2109406957148b0abf0540",
    );
    check(
        "bits",
        Values::Bool((0..11).map(|index| index % 3 == 0).collect()),
        "043200000b000b00020000001b7ddf584902000000000000",
    );
    check("all false", Values::Bool(vec![false; 11]), "043201000b000b00000000006688bad0");
    check("all true", Values::Bool(vec![true; 11]), "043202000b000b000000000065338d3b");
    check(
        "dictionary",
        strings(&["on", "off", "on", "on", "on", "off", "on", "on"]),
        "05300000080008000f000000a528ab540201010402006f6e6f66660101002200",
    );
    check_decoded(
        "zipped",
        strings(&["a line of a log that says much the same", "a line of a log that says much the different"]),
        "053100000200020046000000cf6cf54711014e050228b52ffd2053c50100040361206c696e65206f662061206c6f6720746861742073617973206d756368207468652073616d65646966666572656e740100a748f5040000",
    );
    check("raw strings", strings(&["", "ä", "b"]), "0533000003000300070000000688197501020018c3a46200");
}

/// Another version of pco may choose other bins; each must read these.
#[test]
fn cold_pages_are_pinned() {
    #[track_caller]
    fn check(name: &str, values: Values, want: &str) {
        let mut out = Vec::new();
        encode_page(values.len(), None, ValuesRef::from(&values), &mut EncodeScratch::of(Encoding::Cold), &mut out);
        assert_eq!(hex(&out), want, "{name}");
        let mut page = PageBuf::new();
        decode_page(&unhex(want), values.kind(), &mut page).unwrap();
        assert_eq!(bits(&page.values), bits(&values), "{name}");
    }
    let noise = |index: i64| Random::new(index as u64).next() as i64;
    // Mostly small, at times great: what packing in one width wastes.
    let skewed = |index: i64| (noise(index) & 15) * (noise(index) >> 8 & 15) * (noise(index) >> 16 & 15) / 225;
    check(
        "integers",
        Values::I64((0..300).map(|index| 5 + skewed(index) * 3).collect()),
        "012000002c012c016c000000ada73ba6010a030401003800680400ab00d1281841c41b46891ca1e6ce9426947ea4aefddc64d0c1ccee5b0acb67796273bb7430d71f19e9510fa6cf2f98577824141ca08d9004a78b40b8892487c4088e904f00212e0a11ccd2028acad2a998c5fc5133debbbdf702920e032d43d00500000000",
    );
    check(
        "middle",
        Values::U64((0..300).map(|index| u64::MAX - 40 * skewed(index) as u64 * (1 + index as u64 % 7)).collect()),
        "022000002c012c0192000000bdc8c81f01a12928040100480070003010150ad299462100551563734ae040d1eb73da945996c52fc5361bc044d8b8dd32b2e9344864b7cd638132a18aef066fe7f96b166d9d5b87af7376607cda5b13b1c28be316fcda1439dacd0906351e6bd825959ae4d255599ea59064eaa24acdfc1c109e03c665f267b9d1233106093ca1aa3b7d32acdceb40a7ec0ccc14355d69c3dd869110000000000000",
    );
    check(
        "steps",
        Values::I64(
            (0..300)
                .scan(0, |at, index| {
                    *at += 1000 + skewed(index);
                    Some(*at)
                })
                .collect(),
        ),
        "012000002c012c017b000000259b8feb04e60f0104011081038046f4010040c02a7d000050d0681f00001c0000000000c41b46219123d4dc99d284d28fd4b59f9b0c3a98d97d4b61f92c4f6c6e970ee6fa23233deac1f4f905f30a8f8482006d8424385d04c24d2439244670847c02087151886096165054964ec52ccc1f35e3bddb7b2f483a0cb40c41170000000000",
    );
    check(
        "decimals",
        Values::F64((0..300).map(|index| skewed(index) as f64 / 100.0).collect()),
        "032002002c012c016d000000161ec50e000100010401003800680400ab00d1281841c41b46891ca1e6ce9426947ea4aefddc64d0c1ccee5b0acb67796273bb7430d71f19e9510fa6cf2f98577824141ca08d9004a78b40b8892487c4088e904f00212e0a11ccd2028acad2a998c5fc5133debbbdf702920e032d43d005000000",
    );
    check(
        "exceptions",
        Values::F64((0..300).map(|index| if index == 7 { -0.0 } else { skewed(index) as f64 / 10.0 }).collect()),
        "032001002c012c0177000000825e03d701070000000000000000800100010401003800680400ab00d1281841c41b46891ca1e6ce9426947ea4aefddc64d0c1ccee5b0acb67796273bb7430d71f19e9510fa6cf2f98577824141ca08d9004a78b40b8892487c4088e904f00212e0a11ccd2028acad2a998c5fc5133debbbdf702920e032d43d00500",
    );
    check(
        "doubles",
        Values::F64((0..300).map(|index| skewed(index) as f64 / 7.0).collect()),
        "032100002c012c01ef0000004f0428f9080001040100a800680400000000000000009448922449922409ff002e244992244992a47f000fdbb66ddbb66ddb3f0004499224499224f11fc0c06ddbb66ddbb6f90f2061dbb66ddbb66dfd072000000000000000ff031890244992244992ff0114942449922449d2ffcc009c72c31122fb3e9e6b385576ff7dd737188911887230f6586f84b60f74eb7df375a2cb3fc5b07d343d91431637cffb027f3c4f9c262b85632860b22ef0da3f77479fc22ac75e720149922449922469dbb66ddbb66ddbb66ddbb66d9324499224495292244992244924499224499204000000000080c2b23cfdbc5b304577c7db4dcd0000",
    );
}

#[test]
fn presence_of_format_1_is_pinned() {
    assert_eq!(
        hex(&page(70, Some(&[1 << 2, 1 << 5]), &Values::I64(vec![3, 3]))),
        "01010002460002001200000017c18b1c040000000000000020000000000000000006000000000000"
    );
    assert_eq!(hex(&page(70, Some(&[0, 0]), &Values::F64(vec![]))), "033300014600000000000000abe64a45");
}

/// Full vectors of each width, by their length and checksum.
#[test]
fn full_vectors_of_format_1_are_pinned() {
    let mut all = Vec::new();
    for width in 1..=64 {
        let mut random = Random::new(width);
        let values = (0..2048).map(|_| (random.next() >> (64 - width)) as i64).collect();
        all.extend_from_slice(&page(2048, None, &Values::I64(values)));
    }
    assert_eq!((all.len(), crc32fast::hash(&all)), (534448, 0x9843c677));
}

#[test]
fn columns_of_format_1_are_pinned() {
    #[track_caller]
    fn check(name: &str, values: Values, want: &str) {
        let mut out = Vec::new();
        encode_column(ValuesRef::from(&values), &mut EncodeScratch::new(), &mut out);
        assert_eq!(hex(&out), want, "{name}");
        let decoded = decode_column(&mut out.as_slice(), values.kind(), values.len()).unwrap();
        assert_eq!(bits(&decoded), bits(&values), "{name}");
    }
    check("none", Values::I64(vec![]), "");
    check("few integers", Values::I64(vec![100, 101, 99, i64::MIN]), "02000ec8010203bafeffffffffffffff01");
    check("few unsigned", Values::U64(vec![u64::MAX, 0]), "0200020102");
    check("few decimals", Values::F64(vec![20.5, 20.25, -1.0]), "1402058420319921");
    check("few doubles", Values::F64(vec![-0.0, 1.0]), "3300100000000000000080000000000000f03f");
    check("booleans", Values::Bool(vec![true, false, true]), "32000105");
    check("strings", strings(&["on", "off"]), "330009010104026f6e6f6666");
    check(
        "two pieces",
        Values::I64((0..8193).collect()),
        "010027020000020200801002020080200202008030020200804002020080500202008060020200807002020003808001",
    );
}
