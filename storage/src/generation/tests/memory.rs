//! What series occupy: held against an allocator that counts.

use super::*;
use crate::allocated::allocated;
use crate::schema::ColumnId;
use crate::series::encode_key;

fn mix(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// Five tags of TSBS: about 60 bytes.
fn key(number: u64) -> Vec<u8> {
    let mixed = mix(number);
    let team = ["SF", "NYC", "LON", "CHI"][(mixed % 4) as usize];
    let (zone, rack) = (b"abcde"[(mixed / 4 % 5) as usize] as char, mixed / 20 % 100);
    let values = [format!("host_{number}"), format!("eu-central-1{zone}"), rack.to_string(), team.into(), "1".into()];
    encoded(&values)
}

/// A tag that only this series has, longer than all others: about 80 bytes.
fn uuid_key(number: u64) -> Vec<u8> {
    let (mixed, uuid) = (mix(number), format!("{:016x}-{:019x}", mix(number), mix(!number)));
    encoded(&[format!("host_{}", number / 10), uuid, format!("eu-central-{}", mixed % 2), (mixed % 30).to_string()])
}

/// All ten tags of TSBS: about 120 bytes.
fn wide_key(number: u64) -> Vec<u8> {
    let mut mixed = mix(number);
    let mut one_of = |values: &[&str]| {
        let at = mixed % values.len() as u64;
        mixed /= values.len() as u64;
        values[at as usize].to_owned()
    };
    let region = one_of(&["us-east-1", "us-west-2", "eu-central-1", "ap-southeast-1", "ap-northeast-1"]);
    let zone = format!("{region}{}", one_of(&["a", "b", "c"]));
    let (os, arch) = (one_of(&["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"]), one_of(&["x64", "x86"]));
    let (team, stage) = (one_of(&["SF", "NYC", "LON", "CHI"]), one_of(&["production", "staging", "test"]));
    let (rack, service, version) = (mixed % 100, mixed / 100 % 20, mixed / 2_000 % 2);
    let host = format!("host_{number}");
    encoded(&[host, region, zone, rack.to_string(), os, arch, team, service.to_string(), version.to_string(), stage])
}

fn encoded(values: &[String]) -> Vec<u8> {
    let mut key = Vec::new();
    encode_key((16..).map(ColumnId).zip(values.iter().map(String::as_bytes)), &mut key);
    key
}

fn add(generation: &Arc<Generation>, key: fn(u64) -> Vec<u8>, numbers: std::ops::Range<u64>) -> Staged {
    let keys: Vec<Vec<u8>> = numbers.map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    stage(generation, &keys, usize::MAX).unwrap().0
}

fn make_durable(generation: &Generation, key: fn(u64) -> Vec<u8>, numbers: std::ops::Range<u64>) {
    let mut definitions = SeriesDefinitions::new(TABLE);
    numbers.for_each(|number| definitions.push(number as u32, &key(number)));
    generation.table(TABLE).define(&definitions, |key| fingerprint(7, TABLE, key)).unwrap();
}

#[test]
fn a_million_series_take_less_than_their_keys_and_all_is_counted() {
    const SERIES: u64 = 1_000_000;
    let before = allocated();
    let generation = Arc::new(Generation::new(1));
    #[track_caller]
    fn check(generation: &Generation, before: u64, what: &str) {
        let (real, counted) = (allocated() - before, generation.bytes());
        // The maps of tables and databases, and the generation itself, are no series.
        assert!(counted <= real && real < counted + 1024, "{what}: {counted} bytes are counted, {real} are allocated");
    }
    for start in (0..SERIES).step_by(10_000) {
        let staged = add(&generation, key, start..start + 10_000);
        let claims = staged.claims.capacity() * size_of::<(Arc<SeriesTable>, Vec<u32>)>();
        let claims = claims + staged.claims.iter().map(|(_, claims)| claims.capacity() * 4).sum::<usize>();
        check(&generation, before + claims as u64, "while they are open");
        drop(staged);
        check(&generation, before, "after a refusal");
        let staged = add(&generation, key, start..start + 10_000);
        make_durable(&generation, key, start..start + 10_000);
        drop(staged);
        check(&generation, before, "once they are durable");
        if start % 70_000 == 0 {
            generation.table(TABLE).key_order();
        }
    }
    let order = generation.table(TABLE).key_order();
    let mut scratch = Vec::new();
    let keys: usize = order.sorted.iter().map(|ordinal| order.key(*ordinal, &mut scratch).unwrap().len()).sum();
    drop(scratch);
    assert_eq!((order.sorted.len() as u64, generation.series_count()), (SERIES, SERIES));
    drop(order);
    let (each, key) = (generation.bytes() as f64 / SERIES as f64, keys as f64 / SERIES as f64);
    assert!((58.0..62.0).contains(&key) && each <= 56.0, "{each} bytes a series, {key} of them a key");
    drop(generation);
}

/// Half of them after a batch that was refused.
#[test]
fn series_take_less_than_a_hundred_bytes_whatever_their_keys() {
    const SERIES: u64 = 300_000;
    for (key, key_bytes, each_max) in [(wide_key as fn(u64) -> Vec<u8>, 115..125, 59), (uuid_key, 78..84, 84)] {
        let generation = Arc::new(Generation::new(1));
        let mut bytes = 0;
        for start in (0..SERIES).step_by(10_000) {
            bytes += (start..start + 10_000).map(|number| key(number).len() as u64).sum::<u64>();
            if start % 20_000 == 0 {
                drop(add(&generation, key, start..start + 10_000));
            }
            let staged = add(&generation, key, start..start + 10_000);
            make_durable(&generation, key, start..start + 10_000);
            drop(staged);
        }
        assert_eq!(generation.table(TABLE).key_order().sorted.len() as u64, SERIES);
        let (each, bytes) = (generation.bytes() / SERIES, bytes / SERIES);
        assert!(key_bytes.contains(&bytes) && each <= each_max, "{each} bytes a series, {bytes} of them a key");
    }
}
