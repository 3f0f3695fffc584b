//! The scrubber: reads every live segment again, at a pace, and says what has rotted before anybody asks for it.
//!
//! A segment is read in slices and its hash held against the manifest's, so every byte of it is covered: directories, keys,
//! tags and pages. Where only postings or padding are damaged, which readers do without, it says so, and the keeper writes the
//! segment anew ([`crate::flaws`]). Files are opened by name for each segment: one that is gone, cut short or exchanged is
//! found too. What is in the page cache is read from there; what is not, from the disk.
//!
//! One thread of the lowest priority steps ([`Scrubber::step`]); without threads whoever wants to. Damage is counted, listed
//! and logged once per segment; queries find it by themselves, each time. Not here: the log, which a start reads whole, and
//! the manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::Xxh3;

use crate::applier::Published;
use crate::disk::{File, read_exact_at};
use crate::error::{Error, Result};
use crate::manifest::SegmentId;
use crate::placement::Segment;
use crate::stats::Counters;
use crate::sync::{Pointer, lock};

/// So much is read in one go.
pub(crate) const STEP_BYTES: u64 = 256 << 10;

/// A live segment that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSegment {
    /// Its table's id.
    pub table: crate::schema::TableId,
    /// Relative to the data directory.
    pub path: PathBuf,
    /// First and last time of its rows, ns.
    pub times: (i64, i64),
    /// Place and broken rule.
    pub reason: String,
    /// Only postings of tags or padding are damaged: every row can be read, and the segment is written anew.
    pub rows_readable: bool,
}

/// What was found of a segment that was read.
enum Verdict {
    Sound,
    /// Only what no reader needs is damaged.
    Readable(Error),
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// The last segment of a round is done, or there is none.
    pub ended_round: bool,
}

#[derive(Default)]
pub(crate) struct Scrubber {
    round: Mutex<Round>,
}

/// A round over all segments, in the order of their addresses.
#[derive(Default)]
struct Round {
    under: Option<Under>,
    /// Everything up to this one is done.
    done: Option<SegmentId>,
    found: BTreeMap<SegmentId, DamagedSegment>,
}

/// The segment that is being read.
struct Under {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Bytes of it that were read.
    at: u64,
    hash: Box<Xxh3>,
}

impl Scrubber {
    /// Reads the next slice.
    pub(crate) fn step(&self, published: &Pointer<Published>, counters: &Counters) -> Scrubbed {
        let round = &mut *lock(&self.round);
        let mut scrubbed = Scrubbed::default();
        let under = match round.under.take() {
            Some(under) => under,
            None => {
                let snapshot = published.load();
                let live = || snapshot.placement.all();
                // Damage that was merged away, dropped or repaired is none any more.
                round.found.retain(|id, _| live().any(|segment| segment.entry.id() == *id));
                let rest = live().filter(|segment| round.done.is_none_or(|done| done < segment.entry.id()));
                let Some(segment) = rest.min_by_key(|segment| segment.entry.id()).cloned() else {
                    round.done = None;
                    counters.scrub_rounds.fetch_add(1, Ordering::Relaxed);
                    counters.damaged_segments.store(round.found.len() as u64, Ordering::Relaxed);
                    return Scrubbed { bytes: 0, ended_round: true };
                };
                match Under::open(&segment) {
                    Ok(under) => under,
                    Err(error) => {
                        round.finish(&segment, Err(error), published, counters);
                        return scrubbed;
                    }
                }
            }
        };
        let mut under = under;
        let segment = Arc::clone(&under.segment);
        match under.read() {
            Ok((bytes, whole)) => {
                scrubbed.bytes = bytes;
                counters.scrub_bytes.fetch_add(bytes, Ordering::Relaxed);
                if whole {
                    round.finish(&segment, under.verdict(), published, counters);
                } else {
                    round.under = Some(under);
                }
            }
            // It may be postings that the disk does not give back.
            Err(error @ Error::Io { .. }) if error.is_damage() => {
                round.finish(&segment, under.parts(error), published, counters);
            }
            Err(error) => round.finish(&segment, Err(error), published, counters),
        }
        scrubbed
    }

    /// What was found damaged and is still live.
    pub(crate) fn found(&self) -> Vec<DamagedSegment> {
        lock(&self.round).found.values().cloned().collect()
    }
}

impl Under {
    fn open(segment: &Arc<Segment>) -> Result<Self> {
        let file = segment.open_anew()?;
        Ok(Self { segment: Arc::clone(segment), file, at: 0, hash: Box::new(Xxh3::new()) })
    }

    /// Bytes read, and whether they were the last.
    fn read(&mut self) -> Result<(u64, bool)> {
        let entry = &self.segment.entry;
        let bytes = STEP_BYTES.min(entry.bytes - self.at);
        let mut buffer = vec![0; bytes as usize];
        let offset = entry.offset + self.at;
        read_exact_at(&*self.file, offset, &mut buffer).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::corrupt(&self.segment.path, offset, "the file ends before the segment")
            }
            _ => Error::io("read", &self.segment.path, source),
        })?;
        self.hash.update(&buffer);
        self.at += bytes;
        Ok((bytes, self.at == entry.bytes))
    }

    /// All of it was read: is it what was written?
    fn verdict(&self) -> Result<Verdict> {
        let entry = &self.segment.entry;
        if self.hash.digest128() == entry.hash {
            return Ok(Verdict::Sound);
        }
        let reason = "the hash of the segment did not match when it was read";
        self.parts(Error::corrupt(&self.segment.path, entry.offset, reason))
    }

    /// Something of it is damaged: where, its parts say. Where they say nothing, what was met.
    fn parts(&self, met: Error) -> Result<Verdict> {
        let damaged = self.segment.reader()?.verify_rows(Some(self.segment.entry.hash))?;
        damaged.map(Verdict::Readable).ok_or(met)
    }
}

impl Round {
    fn finish(
        &mut self,
        segment: &Arc<Segment>,
        verdict: Result<Verdict>,
        published: &Pointer<Published>,
        counters: &Counters,
    ) {
        let id = segment.entry.id();
        self.done = Some(id);
        let (verdict, rows_readable) = match verdict {
            Ok(Verdict::Sound) => (Ok(()), true),
            Ok(Verdict::Readable(error)) => (Err(error), true),
            Err(error) => (Err(error), false),
        };
        match &verdict {
            Err(_) if rows_readable => counters.flaws.note(id),
            _ => counters.flaws.forget(id),
        }
        match verdict {
            Ok(()) => drop(self.found.remove(&id)),
            // It was replaced while it was read, and its file may be in the trash by now.
            Err(_) if !published.load().placement.all().any(|live| live.entry.id() == id) => {}
            Err(error) if matches!(error, Error::Damaged { .. }) || error.is_damage() => {
                let reason = error.to_string();
                if !self.found.contains_key(&id) {
                    let table = segment.entry.table.0;
                    let what = if rows_readable {
                        "the scrubber found damage that no reader needs: every row can be read, the segment is written anew"
                    } else {
                        "the scrubber found damage"
                    };
                    tracing::error!(table, segment = %segment.path.display(), %reason, "{what}");
                }
                let entry = &segment.entry;
                let (table, path) = (entry.table, segment.path.clone());
                let times = (entry.time_min, entry.time_max);
                self.found.insert(id, DamagedSegment { table, path, times, reason, rows_readable });
            }
            Err(error) => tracing::warn!(%error, segment = %segment.path.display(), "the scrubber could not read"),
        }
        counters.damaged_segments.store(self.found.len() as u64, Ordering::Relaxed);
    }
}
