//! Any body: refused whole, or every line stored or named.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marigram_ingest::line_protocol::{EmptySchema, ParseOptions, parse};

fuzz_target!(|body: &[u8]| {
    if let Ok(parsed) = parse(body, &ParseOptions::default(), &EmptySchema) {
        let rows: usize = parsed.draft.tables.iter().map(|table| table.times.len()).sum();
        assert_eq!(rows as u64, parsed.rows);
    }
});
