//! Any bytes as a segment, alone and as the tail of nothing sound.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use marigram_storage::clock::sim::SimClock;
use marigram_storage::codec::PageBuf;
use marigram_storage::disk::File;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::schema::ColumnId;
use marigram_storage::segment::SegmentReader;
use marigram_storage::{World, segments_of};

fuzz_target!(|bytes: &[u8]| {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let world = World::of(&disk, &clock);
    disk.put_file("data", bytes).expect("a sound disk takes a file");
    let file: Arc<dyn File> = Arc::from(world.disk.open_read(Path::new("data")).expect("it was written"));
    let _ = segments_of(&file, Path::new("data"));
    let Ok(reader) = SegmentReader::open(file, Path::new("data"), 0, bytes.len() as u64) else { return };
    let mut page = PageBuf::new();
    let mut scratch = Vec::new();
    for at in 0..reader.pages().len().min(4) {
        let _ = reader.read_page(ColumnId::TIME, at, &mut scratch, &mut page);
    }
    for series in 0..reader.series_count().min(4) {
        let _ = reader.key(series);
    }
    for column in reader.columns().iter().take(4) {
        let _ = reader.series_matching(column.id, &[Some("a"), Some("host_1")]);
    }
    let _ = reader.verify_all(None);
});
