//! Run directories, decoded whole and block by block.

use proptest::prelude::*;

use super::*;
use crate::codec::{decode_column, encode_column};
use crate::manifest::Encoding;
use crate::schema::FieldType;

/// Rows, first and last time.
type Numbers = (u32, i64, i64);

/// Stripes of runs; of all but the first whether it continues a series.
#[derive(Clone, Debug)]
struct Shape {
    stripes: Vec<(bool, Vec<Numbers>)>,
}

impl Shape {
    fn runs(&self) -> Vec<RunRange> {
        let (mut runs, mut first_row, mut series) = (Vec::new(), 0, 0);
        for (continues, stripe) in &self.stripes {
            series -= u32::from(*continues);
            for (rows, time_min, time_max) in stripe.iter().copied() {
                runs.push(RunRange { first_row, rows, series, time_min, time_max });
                first_row += u64::from(rows);
                series += 1;
            }
        }
        runs
    }

    fn encoded(&self, encoding: Encoding) -> Vec<u8> {
        let (mut writer, mut scratch) = (RunsWriter::default(), EncodeScratch::of(encoding));
        for (continues, stripe) in &self.stripes {
            writer.stripe(stripe.len(), *continues);
            for (rows, time_min, time_max) in stripe.iter().copied() {
                writer.run(rows, time_min, time_max, &mut scratch);
            }
        }
        assert_eq!(writer.runs(), self.stripes.iter().map(|(_, runs)| runs.len()).sum::<usize>());
        writer.finish(&mut scratch).concat()
    }

    fn decoded(&self, bytes: &[u8], decoded_max: u32) -> Result<RunDirectory, String> {
        let runs = self.runs();
        let stripe_rows: Vec<u64> =
            self.stripes.iter().map(|(_, runs)| runs.iter().map(|run| u64::from(run.0)).sum()).collect();
        let times = runs
            .iter()
            .fold((i64::MAX, i64::MIN), |(least, most), run| (least.min(run.time_min), most.max(run.time_max)));
        let series = runs.last().map_or(0, |run| run.series + 1);
        let expected = RunsExpected { runs: runs.len() as u32, series, stripe_rows: &stripe_rows, times };
        RunDirectory::decode(bytes, &expected, decoded_max)
    }
}

/// `count` runs of a few rows; every `stripe` of them a stripe, some of which continue a series.
fn shape(count: usize, stripe: usize, seed: u64) -> Shape {
    let mut state = seed;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut run = || (1 + next(5) as u32, next(1 << 40) as i64, 1 << 41);
    let all: Vec<Numbers> = (0..count).map(|_| run()).collect();
    let stripes = all.chunks(stripe).enumerate().map(|(at, runs)| (at % 3 == 1, runs.to_vec())).collect();
    Shape { stripes }
}

/// The section as it was written before runs were encoded as they come.
fn encoded_at_once(shape: &Shape) -> Vec<u8> {
    let runs = shape.runs();
    let heads: Vec<u64> =
        shape.stripes.iter().map(|(continues, runs)| (runs.len() as u64) << 1 | u64::from(*continues)).collect();
    let rows: Vec<u64> = runs.iter().map(|run| u64::from(run.rows)).collect();
    let times: Vec<i64> = runs.iter().map(|run| run.time_min).collect();
    let spans: Vec<u64> = runs.iter().map(|run| run.time_max.abs_diff(run.time_min)).collect();
    let (mut out, mut scratch) = (Vec::new(), EncodeScratch::new());
    for column in [ValuesRef::U64(&heads), ValuesRef::U64(&rows), ValuesRef::I64(&times), ValuesRef::U64(&spans)] {
        encode_column(column, &mut scratch, &mut out);
    }
    out
}

fn check(shape: &Shape, encoding: Encoding) {
    let (bytes, runs) = (shape.encoded(encoding), shape.runs());
    for decoded_max in [u32::MAX, 0] {
        let directory = shape.decoded(&bytes, decoded_max).unwrap();
        assert_eq!(directory.count() as usize, runs.len());
        let mut held = HeldRuns::default();
        let all: Vec<RunRange> = (0..directory.count()).map_while(|number| directory.get(number, &mut held)).collect();
        assert!(all == runs, "runs are not as they were, decoded up to {decoded_max}");
        assert_eq!(directory.get(directory.count(), &mut held), None);
        // Not in their order either.
        for number in (0..runs.len()).rev().step_by(1 + runs.len() / 50) {
            let run = runs[number];
            assert_eq!(directory.get(number as u32, &mut held), Some(run));
            for row in [run.first_row, run.first_row + u64::from(run.rows) - 1] {
                assert_eq!(directory.series_of_row(row), Some(run.series), "row {row}");
            }
            let of_series = runs.iter().filter(|other| other.series == run.series).count();
            let numbers = directory.of_series(run.series);
            assert!(numbers.contains(&(number as u32)) && numbers.len() == of_series, "{numbers:?} of run {number}");
        }
        let end = runs.last().map_or(0, |run| run.first_row + u64::from(run.rows));
        assert_eq!(directory.series_of_row(end), None);
        assert!(directory.of_series(runs.last().map_or(0, |run| run.series + 1)).is_empty());
    }
}

#[test]
fn runs_are_the_same_decoded_whole_and_by_block() {
    for encoding in [Encoding::Hot, Encoding::Cold] {
        // Stripes that end with a block, beside it, and far from it.
        for (count, stripe) in
            [(1, 1), (300, 7), (8192, 8192), (8193, 4096), (16_384, 8192), (30_000, 8191), (20_000, 999)]
        {
            check(&shape(count, stripe, 3), encoding);
        }
    }
    // A series with a run in each stripe.
    check(&Shape { stripes: (0..20_000).map(|at| (at > 0, vec![(2, at, at)])).collect() }, Encoding::Hot);
    check(&Shape { stripes: Vec::new() }, Encoding::Hot);
}

#[test]
fn what_is_encoded_as_it_comes_has_the_same_bytes() {
    for (count, stripe) in [(100, 30), (8192, 500), (8193, 9000), (20_000, 1200)] {
        let shape = shape(count, stripe, 8);
        assert!(shape.encoded(Encoding::Hot) == encoded_at_once(&shape), "{count} runs");
    }
}

/// A million series, each with a row at about the same time, are a few bytes each, and one block in the hands of who reads.
#[test]
fn many_runs_take_a_few_bytes_each() {
    let runs: Vec<Numbers> =
        (0..1_000_000).map(|at| (1 + at % 3 / 2, i64::from(at) * 7919 % 10_000_000, 10_000_000)).collect();
    let shape = Shape { stripes: vec![(false, runs)] };
    let (bytes, runs) = (shape.encoded(Encoding::Hot), shape.runs());
    let stripe_rows = [runs.iter().map(|run| u64::from(run.rows)).sum()];
    let least = runs.iter().map(|run| run.time_min).min().unwrap_or_default();
    let most = runs.iter().map(|run| run.time_max).max().unwrap_or_default();
    let expected = RunsExpected { runs: 1_000_000, series: 1_000_000, stripe_rows: &stripe_rows, times: (least, most) };
    let decode = || RunDirectory::decode(&bytes, &expected, DECODED_RUNS_MAX).unwrap();
    let (directory, held) = crate::allocated::peak_of(decode);
    eprintln!("{} bytes in the section, {} in memory, {held} at most", bytes.len(), directory.memory_bytes());
    assert!(directory.memory_bytes() < bytes.len() + 10_000 && directory.memory_bytes() < 8_000_000);
    assert!(held < RunDirectory::decoding_bytes(1_000_000) + bytes.len() as u64, "{held}");
    let mut held = HeldRuns::default();
    let (_, block) = crate::allocated::peak_of(|| {
        (0..20_000).for_each(|number| assert!(directory.get(number, &mut held).is_some()))
    });
    assert!(block <= directory.held_bytes() as u64, "{block}");
}

proptest! {
    /// Numbers of anything, under a checksum that matches: runs that agree with the rest of the segment, or an error.
    #[test]
    fn garbage_is_an_error_or_runs(at in 0..4000_usize, byte: u8, count in 1..400_usize, stripe in 1..100_usize) {
        let shape = shape(count, stripe, 5);
        let mut bytes = shape.encoded(Encoding::Hot);
        let length = bytes.len();
        bytes[at % length] = byte;
        let (whole, packed) = (shape.decoded(&bytes, u32::MAX), shape.decoded(&bytes, 0));
        prop_assert_eq!(whole.as_ref().err(), packed.as_ref().err());
        if let (Ok(whole), Ok(packed)) = (whole, packed) {
            let mut held = HeldRuns::default();
            for number in 0..=whole.count() {
                prop_assert_eq!(whole.get(number, &mut HeldRuns::default()), packed.get(number, &mut held));
            }
        }
    }
}

#[test]
fn a_section_that_contradicts_the_segment_is_refused() {
    let shape = shape(100, 40, 2);
    let bytes = shape.encoded(Encoding::Hot);
    #[track_caller]
    fn check(told: &Shape, bytes: &[u8], reason: &str) {
        let refused = told.decoded(bytes, 0).map(|_| ()).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    let changed = |change: fn(&mut Shape)| {
        let mut changed = shape.clone();
        change(&mut changed);
        changed
    };
    check(&changed(|shape| shape.stripes[2].1[5].0 += 1), &bytes, "stripe");
    check(&changed(|shape| shape.stripes[2].1[5].1 = -7), &bytes, "those of the footer");
    check(&changed(|shape| shape.stripes[2].0 ^= true), &bytes, "run");
    check(&changed(|shape| shape.stripes[2].1.truncate(19)), &bytes, "left behind");
    check(&shape, &[&bytes[..], &[0]].concat(), "bytes follow");
    check(&shape, &bytes[..bytes.len() - 1], "");
    check(&shape, &changed(|shape| shape.stripes[0].0 = true).encoded(Encoding::Hot), "the first stripe continues");
}

#[test]
fn pieces_of_a_column_are_columns() {
    let numbers: Vec<u64> = (0..20_000).map(|at| at * at % 977).collect();
    let mut bytes = Vec::new();
    encode_column(ValuesRef::U64(&numbers), &mut EncodeScratch::new(), &mut bytes);
    let mut rest = bytes.as_slice();
    let starts = crate::codec::column_pieces(&mut rest, numbers.len()).unwrap();
    assert!(rest.is_empty() && starts.len() == 3);
    for (start, want) in starts.into_iter().zip(numbers.chunks(PAGE_ROWS_MAX)) {
        let piece = decode_column(&mut &bytes[start..], FieldType::U64, want.len()).unwrap();
        assert_eq!(piece, crate::values::Values::U64(want.to_vec()));
    }
    let cut = &mut &bytes[..bytes.len() - 1];
    assert!(crate::codec::column_pieces(cut, numbers.len()).is_err());
}
