//! Commit latency of the log: one small batch at a time on a real directory, from the call to the return of the sync.
//!
//! ```text
//! cargo bench -p marigram-benches --bench wal_commit -- [directory] [batches]
//! ```
//!
//! The directory (default: `target/wal_commit` of the workspace) must be on a file system that is neither tmpfs nor overlay, or a sync
//! means nothing. The log goes through its slots several times: what a change of slots costs is in the figures.
//! The first line is the floor: a sector of a file full of zeros written again and synced, without any log.
//! Nearly all of the time is the disk's, so `--profile dev` gives the same figures as a release build.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::{Path, PathBuf};

use marigram_storage::disk::write_all_at;
use marigram_storage::wal::{BatchKind, EncodedBatch, WalIdentity, WalOptions, WalWriter};
use marigram_storage::{Error, Result, World};

const PAYLOADS_BYTES: [usize; 3] = [100, 4 << 10, 64 << 10];
const SLOT_BYTES: u64 = 64 << 20;

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let directory = arguments.next().map_or_else(|| PathBuf::from("../target/wal_commit"), PathBuf::from);
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(5000).max(1);
    let world = World::real(&directory)?;
    println!("directory {}, {count} batches each, one after the other", directory.display());
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  {:>10} {:>8}",
        "bytes", "min us", "p50 us", "p99 us", "p99.9 us", "max us", "fdatasyncs", "slots"
    );
    floor(&world, count)?;
    for (epoch, payload_bytes) in (1..).zip(PAYLOADS_BYTES) {
        run(&world, epoch, payload_bytes, count)?;
    }
    Ok(())
}

fn run(world: &World, epoch: u32, payload_bytes: usize, count: usize) -> Result<()> {
    // A directory that an earlier run left has logs of these epochs.
    let epoch = epoch + (world.clock.wall_ns() / 1_000_000_000) as u32;
    let identity = WalIdentity { database_id: 1, epoch, shard: 0 };
    let options = WalOptions { slot_bytes: SLOT_BYTES, slots_max: 4 };
    let mut writer = WalWriter::start(world, identity, options, 1, 1)?;
    let mut edit = 1;
    let before = writer.fdatasyncs();
    let mut latencies_ns = Vec::with_capacity(count);
    for number in 0..count {
        let payload = (0..payload_bytes).map(|at| (at ^ number) as u8).collect();
        let batch = EncodedBatch::new(BatchKind::Rows, Vec::new(), payload)?;
        if writer.bytes_max() / 4 < writer.used_bytes() {
            // As if a cut had passed all of it: the ring goes round.
            edit += 1;
            writer.release_through(writer.next_sequence() - 1, edit);
        }
        let start_ns = world.clock.monotonic_ns();
        writer.append(std::slice::from_ref(&batch), edit)?;
        latencies_ns.push(world.clock.monotonic_ns() - start_ns);
    }
    let fdatasyncs = writer.fdatasyncs() - before;
    print(&payload_bytes.to_string(), latencies_ns, fdatasyncs, writer.slots());
    Ok(())
}

/// What the disk itself takes.
fn floor(world: &World, count: usize) -> Result<()> {
    let path = Path::new("floor");
    let failed = |error| Error::io("write", path, error);
    let _ = world.disk.remove(path);
    let file = world.disk.create_new(path).map_err(failed)?;
    let sector = [0; 512];
    write_all_at(&*file, 0, &vec![0; 512 * count]).and_then(|()| file.sync_data()).map_err(failed)?;
    let mut latencies_ns = Vec::with_capacity(count);
    for number in 0..count {
        let start_ns = world.clock.monotonic_ns();
        write_all_at(&*file, 512 * number as u64, &sector).and_then(|()| file.sync_data()).map_err(failed)?;
        latencies_ns.push(world.clock.monotonic_ns() - start_ns);
    }
    print("floor", latencies_ns, count as u64, 0);
    world.disk.remove(path).map_err(failed)
}

fn print(what: &str, mut latencies_ns: Vec<u64>, fdatasyncs: u64, slots: usize) {
    latencies_ns.sort_unstable();
    let last = (latencies_ns.len() - 1) as f64;
    let us = |share: f64| latencies_ns.get((share * last) as usize).map_or(0.0, |ns| *ns as f64 / 1000.0);
    let (min, p50, p99, p999, max) = (us(0.0), us(0.5), us(0.99), us(0.999), us(1.0));
    println!("{what:>8} {min:>8.0} {p50:>8.0} {p99:>8.0} {p999:>8.0} {max:>8.0}  {fdatasyncs:>10} {slots:>8}");
}
