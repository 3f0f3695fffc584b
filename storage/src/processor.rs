//! What the processor can do, and hot loops compiled for it.
//!
//! A loop is written once, plainly. [`dispatched!`] compiles it for any machine of the target, for x86-64 with AVX2 and for
//! x86-64 with AVX-512, and each call takes the best that the processor has. All copies give the same bits: integers wrap,
//! doubles are only added, multiplied and fused where the source says so. Tests and benches ask for less with [`at_most`].
//! This is the only place that calls code which a processor may lack.

use std::cell::Cell;

/// Instructions that loops are compiled for; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has (x86-64: SSE2; aarch64: NEON).
    Portable,
    /// AVX2, FMA, BMI: x86-64-v3.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL: x86-64-v4.
    Avx512,
}

impl Level {
    /// All levels, the least first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];
}

thread_local! {
    /// What loops of this thread may use; unknown before the first one.
    static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
}

/// What the loops of this thread use.
#[inline(always)]
pub fn level() -> Level {
    LEVEL.get().unwrap_or_else(detect)
}

/// Runs something with loops of at most this level, on this thread. Its results are the same at each.
pub fn at_most<R>(level: Level, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LEVEL.set(self.0);
        }
    }
    let _restore = Restore(LEVEL.get());
    LEVEL.set(Some(level.min(detected())));
    run()
}

#[cold]
fn detect() -> Level {
    let level = detected();
    LEVEL.set(Some(level));
    level
}

/// The most that the processor has.
fn detected() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! has {
            ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
        }
        if has!("avx2" "fma" "bmi1" "bmi2" "lzcnt" "popcnt") {
            let most = has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
            return if most { Level::Avx512 } else { Level::Avx2 };
        }
    }
    Level::Portable
}

/// Defines a function that calls `wide` compiled for AVX-512 or AVX2, or else `plain`: both `#[inline(always)]`, and one and
/// the same unless fused multiplication needs a form of its own.
macro_rules! dispatched {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $([$T:ident: $($bound:tt)+])? ($($arg:ident: $kind:ty),* $(,)?) $(-> $result:ty)?
        { wide: $wide:path, plain: $plain:path $(,)? }
    ) => {
        $(#[$meta])*
        $vis fn $name$(<$T: $($bound)+>)?($($arg: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2$(<$T: $($bound)+>)?($($arg: $kind),*) $(-> $result)? {
                    $wide($($arg),*)
                }
                #[target_feature(
                    enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt"
                )]
                fn avx512$(<$T: $($bound)+>)?($($arg: $kind),*) $(-> $result)? {
                    $wide($($arg),*)
                }
                match $crate::processor::level() {
                    // SAFETY: a level is never above what was detected.
                    $crate::processor::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::processor::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::processor::Level::Portable => {}
                }
            }
            $plain($($arg),*)
        }
    };
}
pub(crate) use dispatched;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_holds_for_one_call() {
        let most = level();
        for level_max in Level::ALL {
            assert_eq!(at_most(level_max, level), level_max.min(most));
            assert_eq!(at_most(Level::Portable, || at_most(level_max, level)), level_max.min(most));
        }
        assert!(std::panic::catch_unwind(|| at_most(Level::Portable, || panic!())).is_err());
        assert_eq!(level(), most);
    }
}
