//! The binary `marigram`.

fn main() {}
