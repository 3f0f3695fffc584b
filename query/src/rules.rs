//! What we add to DataFusion's rules.

mod checked_arithmetic;

pub(crate) use checked_arithmetic::CheckedArithmetic;
