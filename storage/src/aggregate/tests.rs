//! The exact sum against the simplest thing that is right, along every path there is.

use std::cmp::Ordering;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};

use super::lanes::{self, Plan};
use super::*;

/// A number as one signed coefficient per binary digit; digit 0 weighs 2^(-1074 - GUARD).
struct Oracle {
    digits: Vec<i64>,
}

/// Digits below the smallest subnormal, for quotients.
const GUARD: usize = 80;

impl Oracle {
    fn sum(rows: &[f64]) -> Self {
        let mut digits = vec![0; 2300 + GUARD];
        for x in rows {
            let bits = x.to_bits();
            let field = (bits >> 52) & 0x7ff;
            assert!(field < 0x7ff);
            let mantissa = (bits & ((1 << 52) - 1)) + if field == 0 { 0 } else { 1 << 52 };
            for digit in 0..53 {
                if mantissa >> digit & 1 == 1 {
                    digits[GUARD + digit + (field.max(1) - 1) as usize] += if x.is_sign_negative() { -1 } else { 1 };
                }
            }
        }
        Self { digits }
    }

    /// The sign, and digits that are 0 or 1.
    fn normal(&self) -> (bool, Vec<i64>) {
        let carried = |digits: &[i64]| {
            let mut carry = 0;
            let digits = digits.iter().map(|digit| {
                let sum = digit + carry;
                carry = sum.div_euclid(2);
                sum.rem_euclid(2)
            });
            (digits.collect::<Vec<_>>(), carry)
        };
        let (digits, carry) = carried(&self.digits);
        if carry == 0 {
            return (false, digits);
        }
        let negated: Vec<i64> = self.digits.iter().map(|digit| -digit).collect();
        let (digits, carry) = carried(&negated);
        assert_eq!(carry, 0);
        (true, digits)
    }

    fn quotient(&self, count: u64) -> f64 {
        let (negative, digits) = self.normal();
        let mut rest = 0u128;
        let mut quotient = vec![0; digits.len()];
        for index in (0..digits.len()).rev() {
            rest = rest * 2 + digits[index] as u128;
            if u128::from(count) <= rest {
                rest -= u128::from(count);
                quotient[index] = 1;
            }
        }
        let size = rounded(&quotient, rest != 0);
        if negative { -size } else { size }
    }
}

/// To nearest even, digit by digit.
fn rounded(digits: &[i64], sticky: bool) -> f64 {
    let Some(top) = digits.iter().rposition(|digit| *digit == 1) else { return 0.0 };
    let last = top.saturating_sub(52).max(GUARD);
    let mut mantissa = digits[last..=top.max(last)].iter().rev().fold(0u64, |sum, digit| sum * 2 + *digit as u64);
    let more = sticky || digits[..last - 1].contains(&1);
    if digits[last - 1] == 1 && (more || mantissa % 2 == 1) {
        mantissa += 1;
    }
    // Doubling rounds nothing.
    let exponent = last - GUARD;
    let unit = f64::from_bits(1);
    let mut result = mantissa as f64 * unit;
    (0..exponent).for_each(|_| result *= 2.0);
    result
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// Doubles of every sort that the kernel treats differently.
fn vector(rng: &mut SmallRng, kind: usize, count: usize) -> Vec<f64> {
    let scale = 10f64.powi(rng.random_range(0..16));
    let window = rng.random_range(1..130);
    let base = rng.random_range(130..1900u64);
    let binades = |rng: &mut SmallRng, from: u64, to: u64| {
        f64::from_bits((rng.random_range(from..to) << 52) | rng.random_range(0..1 << 52) | (rng.random::<u64>() << 63))
    };
    let mut next = || match kind {
        0 => rng.random_range(-1_000_000_000i64..1_000_000_000) as f64 / scale,
        1 => rng.random_range(0..10_000) as f64 / 100.0,
        2 => 1e12 + rng.random_range(0..1000) as f64,
        3 => rng.random::<f64>(),
        4 => binades(rng, base, base + window),
        5 => binades(rng, 0, 0x7ff),
        6 => [1e308, -1e308, 1e-300, 5e-324, -2e-310][rng.random_range(0..5)],
        7 => [f64::MAX, -f64::MAX, f64::MAX / 2.0][rng.random_range(0..3)],
        8 => f64::from_bits(rng.random_range(0..1u64 << 52) | (rng.random::<u64>() << 63)),
        9 => -0.0,
        10 => [0.0, -0.0][rng.random_range(0..2)],
        11 => [9007199254740992.0, 1.0, 3.0, -1.0, 0.5][rng.random_range(0..5)],
        12 => [1.5, -1.5, 1e10, -1e10][rng.random_range(0..4)],
        13 => binades(rng, 2020, 0x7ff),
        14 => 42.0,
        15 => binades(rng, 0, 120),
        16 => 10f64.powf(rng.random_range(-3.0..6.0)),
        _ => binades(rng, 1000, 1060),
    };
    (0..count).map(|_| next()).collect()
}

const KINDS: usize = 18;

/// Adds rows by a random mixture of methods, in pieces that are merged in random order.
fn by_random_path(rng: &mut SmallRng, rows: &[f64]) -> ExactSum {
    let mut parts = vec![ExactSum::new()];
    let mut rest = rows;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.random_range(0..=rest.len().min(3000)));
        rest = after;
        let mut sum = if rng.random() { ExactSum::new() } else { parts.pop().unwrap_or_default() };
        match rng.random_range(0..3) {
            0 => piece.iter().for_each(|x| sum.add(*x)),
            1 => sum.add_slice(piece),
            _ => {
                let mut spread = Vec::new();
                let mut presence = Vec::new();
                for x in piece {
                    while rng.random_range(0..3) == 0 {
                        spread.push([f64::NAN, 1e300, 7.0][rng.random_range(0..3)]);
                        presence.push(false);
                    }
                    spread.push(*x);
                    presence.push(true);
                }
                let words: Vec<u64> = presence
                    .chunks(64)
                    .map(|bits| bits.iter().rev().fold(0, |word, bit| word << 1 | u64::from(*bit)))
                    .collect();
                sum.add_masked(&spread, &words);
            }
        }
        parts.push(sum);
    }
    while 1 < parts.len() {
        let part = parts.swap_remove(rng.random_range(0..parts.len()));
        let part = ExactSum::deserialize(&part.to_bytes()).unwrap();
        let into = rng.random_range(0..parts.len());
        parts[into].merge(&part);
    }
    parts.remove(0)
}

#[test]
fn sums_equal_the_oracle_by_any_path() {
    let mut rng = SmallRng::seed_from_u64(1);
    for round in 0..40 {
        for kind in 0..KINDS {
            let count = [3, 9, 100, 360, 1500, 5000][rng.random_range(0..6)];
            let mut rows = vector(&mut rng, kind, count);
            if kind == 12 {
                let negated: Vec<f64> = rows.iter().map(|x| -x).collect();
                rows.extend(negated);
            }
            let oracle = Oracle::sum(&rows);
            let mut want = oracle.quotient(1);
            if rows.iter().all(|x| same(*x, -0.0)) {
                want = -0.0;
            }
            let mut sum = ExactSum::new();
            sum.add_slice(&rows);
            assert!(same(sum.value(), want), "kind {kind} round {round}: {} is not {want}", sum.value());
            for divisor in [count as u64, 7, u64::MAX] {
                let (got, want) = (sum.mean(divisor), oracle.quotient(divisor));
                assert!(got == want, "kind {kind} round {round}: mean {got} is not {want} by {divisor}");
            }
            let bytes = sum.to_bytes();
            assert!(bytes.len() <= ExactSum::SERIALIZED_BYTES_MAX);
            for _ in 0..3 {
                rows.shuffle(&mut rng);
                let other = by_random_path(&mut rng, &rows);
                assert_eq!(other.to_bytes(), bytes, "kind {kind} round {round}");
                assert!(same(other.value(), want) && same(other.mean(3), sum.mean(3)));
                assert_eq!(ExactSum::deserialize(&bytes).unwrap().to_bytes(), bytes);
            }
        }
    }
}

#[test]
fn each_path_of_the_kernel_is_taken() {
    let mut rng = SmallRng::seed_from_u64(2);
    let mut levels = |kind: usize| {
        let rows = vector(&mut rng, kind, 1000);
        let plan = Plan::new(lanes::top_bits(&rows));
        let two = plan.and_then(|plan| plan.reduce(&rows)).is_some();
        let three = plan.and_then(Plan::deeper).and_then(|plan| plan.reduce(&rows)).is_some();
        (two, three)
    };
    assert_eq!(levels(1), (true, true));
    assert_eq!(levels(17), (false, true));
    assert_eq!(levels(5), (false, false));
}

#[test]
fn a_plan_refuses_values_above_its_bound() {
    let plan = Plan::new(1f64.to_bits()).unwrap();
    assert!(plan.reduce(&[1.0; 20]).is_some());
    for outsider in [4.0, -1e9, 1e308, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let mut rows = [1.0; 20];
        rows[13] = outsider;
        assert_eq!(plan.reduce(&rows), None, "{outsider}");
    }
}

#[test]
fn a_sum_rounds_only_at_the_end() {
    #[track_caller]
    fn check(rows: &[f64], want: f64) {
        let mut one_by_one = ExactSum::new();
        rows.iter().for_each(|x| one_by_one.add(*x));
        let mut slice = ExactSum::new();
        slice.add_slice(rows);
        assert!(same(one_by_one.value(), want), "{} is not {want}", one_by_one.value());
        assert!(same(slice.value(), want), "{} is not {want}", slice.value());
        assert_eq!(one_by_one.to_bytes(), slice.to_bytes());
    }
    check(&[], 0.0);
    check(&[0.1, 0.2], 0.30000000000000004);
    check(&[1e308, 1e308, -1e308, -1e308, 3.0], 3.0);
    check(&[f64::MAX; 9], f64::INFINITY);
    check(&[-f64::MAX; 9], f64::NEG_INFINITY);
    // Half a unit above the largest double is the first that rounds to infinity.
    check(&[f64::MAX, 2f64.powi(969)], f64::MAX);
    check(&[f64::MAX, 2f64.powi(970)], f64::INFINITY);
    check(&[f64::MAX, 2f64.powi(970), -5e-324], f64::MAX);
    // Halfway goes to even, and the smallest bit above half decides.
    check(&[9007199254740992.0, 1.0], 9007199254740992.0);
    check(&[9007199254740992.0, 3.0], 9007199254740996.0);
    check(&[9007199254740992.0, 1.0, 5e-324], 9007199254740994.0);
    let (big, half) = (2f64.powi(500), 2f64.powi(447));
    check(&[big, half], big);
    for bit in 0..1500 {
        let small = f64::from_bits(if bit < 52 { 1 << bit } else { (bit - 51) << 52 });
        check(&[big, half, small], big.next_up());
        check(&[big, half, -small], big);
    }
    check(&[5e-324; 3], 1.5e-323);
    check(&[f64::MIN_POSITIVE, -5e-324], f64::from_bits((1 << 52) - 1));
    check(&[-0.0, -0.0], -0.0);
    check(&[-0.0; 3000], -0.0);
    check(&[0.0, -0.0], 0.0);
    check(&[1.0, -1.0], 0.0);
    check(&[f64::NAN, 1.0], f64::NAN);
    check(&[f64::INFINITY, f64::NEG_INFINITY, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], f64::NAN);
    check(&[f64::INFINITY, 1.0, -1e308, 2.0, 3.0, 4.0, 5.0, 6.0], f64::INFINITY);
    check(&[f64::NEG_INFINITY, f64::MAX, f64::MAX], f64::NEG_INFINITY);
}

#[test]
fn a_mean_is_the_exact_quotient() {
    let mut sum = ExactSum::new();
    sum.add_slice(&[1e308, 1e308]);
    assert_eq!(sum.value(), f64::INFINITY);
    assert_eq!(sum.mean(2), 1e308);
    assert!(sum.mean(0).is_nan());
    let mut tiny = ExactSum::new();
    tiny.add_slice(&[5e-324, 0.0, 0.0]);
    assert_eq!(tiny.mean(3), 0.0);
    assert_eq!(tiny.mean(2), 0.0);
    tiny.add(5e-324);
    assert_eq!(tiny.mean(3), 5e-324);
}

#[test]
fn a_repeated_value_counts_as_often() {
    let mut rng = SmallRng::seed_from_u64(3);
    for kind in 0..KINDS {
        for x in vector(&mut rng, kind, 5) {
            let mut repeated = ExactSum::new();
            repeated.add_repeated(x, 1000);
            repeated.add_repeated(x, 0);
            let mut slice = ExactSum::new();
            slice.add_slice(&[x; 1000]);
            assert_eq!(repeated, slice, "{x}");
        }
    }
    let mut huge = ExactSum::new();
    for _ in 0..40 {
        huge.add_repeated(f64::MAX, u64::MAX);
    }
    assert_eq!(huge.mean(u64::MAX), f64::INFINITY);
    for _ in 0..39 {
        huge.add_repeated(-f64::MAX, u64::MAX);
    }
    assert_eq!(huge.mean(u64::MAX), f64::MAX);
}

/// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
#[test]
fn format_1_bytes_are_pinned() {
    #[track_caller]
    fn check(rows: &[f64], want: &[u8]) {
        let mut sum = ExactSum::new();
        sum.add_slice(rows);
        assert_eq!(sum.to_bytes(), want);
    }
    check(&[], &[0]);
    check(&[-0.0], &[1]);
    check(&[0.0], &[3]);
    check(&[1.0, -1.0], &[3]);
    check(&[1.0], &[3, 0, 0, 1]);
    check(&[-1.0], &[3, 0, 0, 0xff]);
    check(&[-3.0, -0.5], &[3, 0xff, 0xff, 0xf9]);
    check(&[255.0], &[3, 0, 0, 0xff, 0]);
    check(&[1e6], &[3, 6, 0, 0x09, 0x3d]);
    check(&[5e-324], &[3, 0xce, 0xfb, 1]);
    let mut wide = [[3, 0x9c, 0xff].as_slice(), &[0; 26]].concat();
    (wide[3], wide[28]) = (1, 1);
    check(&[2f64.powi(100), 2f64.powi(-100)], &wide);
    check(&[f64::NAN, 2.0], &[7, 1, 0, 1]);
    check(&[f64::INFINITY], &[11]);
    check(&[f64::NEG_INFINITY], &[19]);
    check(&[0.1; 10], &[3, 0xca, 0xff, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40]);
}

#[test]
fn bytes_that_no_sum_writes_are_refused() {
    let refused: &[&[u8]] = &[
        &[],
        &[2],             // significant without a value
        &[5],             // NaN that is not significant
        &[35, 0, 0, 1],   // unknown flag
        &[1, 0, 0, 1],    // a mantissa, and all values -0.0
        &[3, 0],          // half an exponent
        &[3, 0, 0],       // no mantissa
        &[3, 0, 0, 2],    // even
        &[3, 0, 0, 1, 0], // too long
        &[3, 0, 0, 0xff, 0xff],
        &[3, 0xcd, 0xfb, 1], // below the unit
        &[3, 0x4c, 0x04, 1, 1],
        &[3, 0xff, 0x7f, 1],
    ];
    for bytes in refused {
        assert!(ExactSum::deserialize(bytes).is_err(), "{bytes:?}");
    }
    assert!(ExactSum::deserialize(&[[3, 0, 0].as_slice(), &[1; 300]].concat()).is_err());
    let mut rng = SmallRng::seed_from_u64(4);
    for _ in 0..20_000 {
        let mut bytes = vec![0; rng.random_range(0..300)];
        rng.fill_bytes(&mut bytes);
        bytes.iter_mut().take(1).for_each(|flags| *flags = 3);
        if let Ok(sum) = ExactSum::deserialize(&bytes) {
            assert_eq!(sum.to_bytes(), bytes);
        }
    }
}

#[test]
fn grouped_sums_equal_single_ones() {
    let mut rng = SmallRng::seed_from_u64(6);
    for round in 0..10 {
        for kind in 0..KINDS {
            let count = [1, 3, 40][rng.random_range(0..3)];
            let mut grouped = GroupSums::new();
            let mut single = vec![ExactSum::new(); count];
            for _ in 0..4 {
                // The kind changes, so that plans fail.
                let kind = if rng.random_range(0..4) == 0 { rng.random_range(0..KINDS) } else { kind };
                let rows = rng.random_range(1..4000);
                let values = vector(&mut rng, kind, rows);
                let run = [1, 1, 100][rng.random_range(0..3)];
                let groups: Vec<usize> = (0..rows).map(|row| (row / run * 7 + row / 900) % count).collect();
                grouped.grow(count);
                grouped.add(&groups, &values);
                for (group, x) in groups.iter().zip(&values) {
                    single[*group].add(*x);
                }
                grouped.merge(0, &single[count - 1].clone());
                let last = single[count - 1].clone();
                single[0].merge(&last);
                if count == 40 {
                    let taken = grouped.take(7);
                    assert_eq!(taken, single[..7], "kind {kind} round {round}");
                    single = single.split_off(7);
                    single.resize(40, ExactSum::new());
                }
            }
            grouped.grow(count);
            let heap_bytes = grouped.heap_bytes();
            let taken = grouped.take(count);
            assert!(taken.iter().map(ExactSum::heap_bytes).sum::<usize>() <= heap_bytes);
            assert_eq!(taken, single, "kind {kind} round {round}");
            assert_eq!((grouped.len(), grouped.wide_bytes()), (0, 0));
        }
    }
}

#[test]
fn integer_sums_are_exact_and_refuse_to_wrap() {
    let mut sum = IntSum::new();
    assert_eq!(sum.to_i64(), Ok(0));
    sum.add_i64s(&[i64::MAX; 3]);
    assert_eq!(sum.to_i64(), Err(IntegerOutOfRange));
    assert_eq!(sum.mean(3), i64::MAX as f64);
    sum.add_i64s(&[i64::MIN; 3]);
    assert_eq!(sum.to_i64(), Ok(-3));
    assert_eq!(sum.to_u64(), Err(IntegerOutOfRange));
    sum.add_u64s(&[u64::MAX; 2]);
    assert_eq!(sum.0, 2 * i128::from(u64::MAX) - 3);
    sum.add_repeated(u64::MAX, u64::MAX);
    sum.add_repeated(-1i64, 7);
    let mut rng = SmallRng::seed_from_u64(5);
    let values: Vec<i64> = (0..200_000).map(|_| rng.random::<i64>() >> rng.random_range(0..64)).collect();
    let mut sum = IntSum::new();
    sum.add_i64s(&values);
    assert_eq!(sum.0, values.iter().map(|x| i128::from(*x)).sum());
    let mut even = IntSum(9007199254740993);
    assert_eq!(even.mean(1), 9007199254740992.0);
    even.add(2i64);
    assert_eq!(even.mean(1), 9007199254740996.0);
    assert!(even.mean(0).is_nan());
}

#[test]
fn integer_sums_have_one_byte_form() {
    #[track_caller]
    fn check(sum: i128, want: &[u8]) {
        let mut bytes = Vec::new();
        IntSum(sum).serialize(&mut bytes);
        assert_eq!(bytes, want, "{sum}");
        assert_eq!(IntSum::deserialize(&bytes), Ok(IntSum(sum)));
    }
    check(0, &[]);
    check(1, &[1]);
    check(-1, &[0xff]);
    check(127, &[127]);
    check(128, &[128, 0]);
    check(-128, &[128]);
    check(-129, &[0x7f, 0xff]);
    check(i128::MAX, &[[0xff; 15].as_slice(), &[0x7f]].concat());
    check(i128::MIN, &[[0; 15].as_slice(), &[0x80]].concat());
    for bytes in [&[0][..], &[1, 0], &[0xff, 0xff], &[1; 17]] {
        assert!(IntSum::deserialize(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn negative_zero_is_below_zero() {
    let mut bounds = MinMax::new();
    for x in [0.0, -0.0, 0.0] {
        bounds.add(x);
    }
    assert!(same(*bounds.min().unwrap(), -0.0) && same(*bounds.max().unwrap(), 0.0));
    let order = [f64::NEG_INFINITY, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
    assert!(order.is_sorted_by(|a, b| a.order(b) == Ordering::Less));
    assert_eq!((-f64::NAN).order(&f64::NAN), Ordering::Equal);
    for count in 1..=order.len() {
        assert!(same(float_extreme(&order[..count], Side::First).unwrap(), order[0]));
        assert!(same(float_extreme(&order[..count], Side::Last).unwrap(), order[count - 1]));
    }
    assert_eq!(float_extreme(&[-f64::NAN, 1.0], Side::First), Some(1.0));
    assert_eq!(float_extreme(&[], Side::Last), None);
    for x in order {
        assert!(same(float_value(float_key(x)), x));
    }
}

#[test]
fn ties_go_by_content_and_not_by_arrival() {
    let rows = [(5, "b"), (7, "a"), (7, "c"), (5, "a"), (7, "b")].map(|(time, value)| (time, value.to_owned()));
    for turn in 0..rows.len() {
        let mut first = FirstLast::new(Side::First);
        let mut last = FirstLast::new(Side::Last);
        for (time, value) in rows.iter().cycle().skip(turn).take(rows.len()) {
            first.add(*time, value);
            let mut part = FirstLast::new(Side::Last);
            part.add(*time, value);
            last.merge(&part);
        }
        assert_eq!(first.kept(), Some((5, &"a".to_owned())));
        assert_eq!(last.kept(), Some((7, &"c".to_owned())));
    }
    let mut zero = FirstLast::new(Side::Last);
    zero.add(1, &0.0);
    zero.add(1, &-0.0);
    assert!(same(*zero.kept().unwrap().1, 0.0));
}

#[test]
fn other_states_have_one_byte_form() {
    let mut bounds = MinMax::<i64>::new();
    let mut bytes = Vec::new();
    bounds.serialize(&mut bytes);
    assert_eq!(bytes, [0]);
    bounds.add(-1);
    bounds.add(2);
    bounds.serialize(&mut bytes);
    assert_eq!(bytes[1..], [[1].as_slice(), &[0xff; 8], &[2, 0, 0, 0, 0, 0, 0, 0]].concat());
    assert_eq!(MinMax::deserialize(&bytes[1..]), Ok(bounds));
    let mut last = FirstLast::new(Side::Last);
    last.add(256, &"é".to_owned());
    let mut bytes = Vec::new();
    last.serialize(&mut bytes);
    assert_eq!(bytes, [1, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0xc3, 0xa9]);
    assert_eq!(FirstLast::deserialize(Side::Last, &bytes), Ok(last));
    for cut in 0..bytes.len() {
        assert!(FirstLast::<String>::deserialize(Side::Last, &bytes[..cut]).is_err());
    }
    assert!(FirstLast::<String>::deserialize(Side::Last, &[bytes.as_slice(), &[0]].concat()).is_err());
    assert!(MinMax::<bool>::deserialize(&[1, 1, 0]).is_err());
    assert!(MinMax::<bool>::deserialize(&[1, 0, 2]).is_err());
}
