//! The bytes of one simulated file: what a reader sees, what is durable, and what lies between.
//!
//! A write is visible at once and becomes durable sector by sector. Until a sync, each write is remembered as a version
//! of its page, so that a crash can keep any of them: a sector's older version may be on the platter while its newer
//! one is not. A sync that fails forgets the versions: the bytes stay readable and will never be durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Survival;
use crate::clock::sim::SimRng;

/// What a disk writes atomically, in bytes.
pub const SECTOR_BYTES: u64 = 512;
const PAGE_BYTES: u64 = 4096;
const SECTORS: usize = (PAGE_BYTES / SECTOR_BYTES) as usize;
/// More versions of one page than this are merged, oldest first.
const VERSIONS_MAX: usize = 8;

type Page = [u8; PAGE_BYTES as usize];
static ZERO_PAGE: Page = [0; PAGE_BYTES as usize];

/// Pages that are absent are zeros, also behind the end of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Arc<Page>>,
    pub(super) bytes: u64,
}

/// A page right after one unsynced write, and which of its sectors that write touched.
#[derive(Clone, Debug)]
struct Version {
    stamp: u64,
    sectors: u8,
    page: Option<Arc<Page>>,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Image,
    durable: Image,
    dirty: BTreeMap<u64, Vec<Version>>,
    lengths: Vec<(u64, u64)>,
    /// Some visible sector can never become durable by itself.
    lost: bool,
    bad_sectors: BTreeSet<u64>,
    /// Visible names.
    pub(super) links: u32,
    /// Open files.
    pub(super) handles: u32,
    /// Bytes counted against the capacity.
    pub(super) charged: u64,
}

impl Image {
    fn page(&self, number: u64) -> &Page {
        self.pages.get(&number).map_or(&ZERO_PAGE, |page| page)
    }

    fn put(&mut self, number: u64, page: Option<Arc<Page>>) {
        match page {
            Some(page) => self.pages.insert(number, page),
            None => self.pages.remove(&number),
        };
    }

    fn put_sector(&mut self, number: u64, sector: usize, from: &Page) {
        let range = sector_range(sector);
        if self.page(number)[range.clone()] != from[range.clone()] {
            let page = self.pages.entry(number).or_insert_with(|| Arc::new(ZERO_PAGE));
            Arc::make_mut(page)[range.clone()].copy_from_slice(&from[range]);
        }
    }

    /// Copies what lies in the file into `buffer`.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = self.bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let start = (at % PAGE_BYTES) as usize;
            let step = (count - done).min(PAGE_BYTES as usize - start);
            buffer[done..done + step].copy_from_slice(&self.page(at / PAGE_BYTES)[start..start + step]);
            done += step;
        }
        count
    }

    /// Zeroes what lies behind the end.
    fn trim(&mut self) {
        let end = self.bytes;
        self.pages.split_off(&end.div_ceil(PAGE_BYTES));
        let tail = (end % PAGE_BYTES) as usize;
        if let Some(page) = self.pages.get_mut(&(end / PAGE_BYTES)).filter(|page| page[tail..].iter().any(|b| *b != 0))
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }

    fn edit(&mut self, offset: u64, change: impl Fn(&mut u8)) {
        if offset < self.bytes {
            let page = self.pages.entry(offset / PAGE_BYTES).or_insert_with(|| Arc::new(ZERO_PAGE));
            change(&mut Arc::make_mut(page)[(offset % PAGE_BYTES) as usize]);
        }
    }
}

impl Inode {
    /// A file whose bytes are durable.
    pub(super) fn durable(image: Image) -> Self {
        Self { live: image.clone(), charged: image.bytes, durable: image, ..Self::default() }
    }

    /// A file that holds `bytes`, durable.
    pub(super) fn holding(bytes: &[u8]) -> Self {
        let mut inode = Self::default();
        inode.write(0, bytes, 0);
        inode.sync();
        inode
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], stamp: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = (at % PAGE_BYTES) as usize;
            let step = (bytes.len() - done).min(PAGE_BYTES as usize - start);
            self.write_page(at / PAGE_BYTES, start, &bytes[done..done + step], stamp);
            done += step;
        }
        self.bad_sectors
            .retain(|sector| *sector * SECTOR_BYTES < offset || offset + bytes.len() as u64 <= *sector * SECTOR_BYTES);
        if self.live.bytes < offset + bytes.len() as u64 {
            self.live.bytes = offset + bytes.len() as u64;
            self.lengths.push((stamp, self.live.bytes));
        }
    }

    fn write_page(&mut self, number: u64, start: usize, bytes: &[u8], stamp: u64) {
        // Zeros over a page that holds none need no memory: a zero-filled slot stays small.
        if self.live.pages.contains_key(&number) || bytes.iter().any(|byte| *byte != 0) {
            let page = self.live.pages.entry(number).or_insert_with(|| Arc::new(ZERO_PAGE));
            Arc::make_mut(page)[start..start + bytes.len()].copy_from_slice(bytes);
        }
        let sectors = sector_mask(start, start + bytes.len());
        self.remember(number, sectors, stamp);
    }

    fn remember(&mut self, number: u64, sectors: u8, stamp: u64) {
        let page = self.live.pages.get(&number).cloned();
        let versions = self.dirty.entry(number).or_default();
        if versions.len() == VERSIONS_MAX {
            let oldest = versions.remove(0);
            versions[0].sectors |= oldest.sectors;
        }
        versions.push(Version { stamp, sectors, page });
    }

    /// Cuts or grows. What is cut away reads as zeros when the file grows again.
    pub(super) fn set_len(&mut self, bytes: u64, stamp: u64) {
        if bytes < self.live.bytes {
            let cut: BTreeSet<u64> = [&self.live, &self.durable]
                .into_iter()
                .flat_map(|image| image.pages.range(bytes / PAGE_BYTES..).map(|(number, _)| *number))
                .collect();
            self.live.bytes = bytes;
            self.live.trim();
            for number in cut {
                let start = bytes.saturating_sub(number * PAGE_BYTES).min(PAGE_BYTES) as usize;
                if start < PAGE_BYTES as usize {
                    self.remember(number, sector_mask(start, PAGE_BYTES as usize), stamp);
                }
            }
        }
        if bytes != self.live.bytes || self.lengths.last().is_none_or(|(_, last)| *last != bytes) {
            self.live.bytes = bytes;
            self.lengths.push((stamp, bytes));
        }
    }

    /// Everything visible becomes durable, except what an earlier sync lost.
    pub(super) fn sync(&mut self) {
        for (number, versions) in std::mem::take(&mut self.dirty) {
            let sectors = versions.iter().fold(0, |mask, version| mask | version.sectors);
            if sectors == u8::MAX || !self.lost {
                self.durable.put(number, self.live.pages.get(&number).cloned());
            } else {
                for sector in each_sector(sectors) {
                    self.durable.put_sector(number, sector, self.live.page(number));
                }
            }
        }
        self.lengths.clear();
        self.durable.bytes = self.live.bytes;
    }

    /// The sync failed: what was written since the last one stays readable until the power goes. With `partly`, some
    /// of it reached the disk.
    pub(super) fn fail_sync(&mut self, partly: bool, rng: &mut SimRng) {
        if partly {
            self.durable = self.after_crash(Survival::Random, rng);
        }
        self.lost = true;
        self.dirty.clear();
        self.lengths.clear();
    }

    /// What a power cut leaves.
    pub(super) fn after_crash(&self, survival: Survival, rng: &mut SimRng) -> Image {
        let mut image = self.durable.clone();
        if survival == Survival::None || (self.dirty.is_empty() && self.lengths.is_empty()) {
            return image;
        }
        // The density differs from crash to crash: nearly nothing, half, nearly everything.
        let eighths = [1, 4, 7][rng.below(3) as usize];
        let cut = self.draw_cut(rng);
        image.bytes = match survival {
            Survival::None => self.durable.bytes,
            Survival::All => self.lengths.last().map_or(self.durable.bytes, |(_, bytes)| *bytes),
            Survival::Prefix => {
                let until = |(stamp, _): &&(u64, u64)| *stamp < cut.0 || (*stamp == cut.0 && cut.1.is_multiple_of(2));
                self.lengths.iter().rev().find(until).map_or(self.durable.bytes, |(_, bytes)| *bytes)
            }
            Survival::Random | Survival::Pages | Survival::Stale => {
                let draw = rng.below(self.lengths.len() as u64 + 1) as usize;
                self.lengths.get(draw).map_or(self.durable.bytes, |(_, bytes)| *bytes)
            }
        };
        for (number, versions) in &self.dirty {
            let whole_page = rng.chance(eighths);
            for version in versions {
                for sector in each_sector(version.sectors) {
                    let keep = match survival {
                        Survival::None => false,
                        Survival::All => true,
                        Survival::Pages => whole_page,
                        Survival::Prefix => (version.stamp, *number * SECTORS as u64 + sector as u64) < cut,
                        Survival::Random | Survival::Stale => rng.chance(eighths),
                    };
                    if keep {
                        image.put_sector(*number, sector, version.page.as_deref().unwrap_or(&ZERO_PAGE));
                    } else if survival == Survival::Stale {
                        self.leave_stale(&mut image, *number, sector, rng);
                    }
                }
            }
        }
        image.trim();
        image
    }

    /// A point in the order of unsynced writes: (stamp, sector within that write).
    fn draw_cut(&self, rng: &mut SimRng) -> (u64, u64) {
        let mut stamps: Vec<u64> = self.dirty.values().flatten().map(|version| version.stamp).collect();
        stamps.extend(self.lengths.iter().map(|(stamp, _)| *stamp));
        let stamp = stamps.get(rng.below(stamps.len() as u64 + 1) as usize).copied().unwrap_or(u64::MAX);
        let first = self.dirty.keys().next().map_or(0, |number| number * SECTORS as u64);
        let last = self.dirty.keys().next_back().map_or(0, |number| (number + 1) * SECTORS as u64);
        (stamp, first + rng.below(last - first + 1))
    }

    /// Space that was given to the file and never written holds what another file left there.
    fn leave_stale(&self, image: &mut Image, number: u64, sector: usize, rng: &mut SimRng) {
        if number * PAGE_BYTES + sector as u64 * SECTOR_BYTES >= self.durable.bytes {
            let mut stale = ZERO_PAGE;
            stale[sector_range(sector)].fill_with(|| rng.next_u64() as u8);
            image.put_sector(number, sector, &stale);
        }
    }

    /// Every read of this sector fails until it is written again.
    pub(super) fn spoil_sector(&mut self, offset: u64) {
        self.bad_sectors.insert(offset / SECTOR_BYTES);
    }

    pub(super) fn inherit_bad_sectors(&mut self, from: &Self) {
        self.bad_sectors.clone_from(&from.bad_sectors);
    }

    pub(super) fn is_readable(&self, offset: u64, bytes: u64) -> bool {
        let end = (offset.saturating_add(bytes)).min(self.live.bytes);
        offset >= end || self.bad_sectors.range(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).next().is_none()
    }

    /// Changes one byte at rest.
    pub(super) fn edit_byte(&mut self, offset: u64, change: impl Fn(&mut u8)) {
        self.live.edit(offset, &change);
        self.durable.edit(offset, &change);
    }
}

fn sector_range(sector: usize) -> std::ops::Range<usize> {
    sector * SECTOR_BYTES as usize..(sector + 1) * SECTOR_BYTES as usize
}

/// The sectors of a page that the bytes from `start` to `end` touch.
fn sector_mask(start: usize, end: usize) -> u8 {
    let first = start / SECTOR_BYTES as usize;
    let last = end.div_ceil(SECTOR_BYTES as usize);
    (first..last).fold(0, |mask, sector| mask | (1 << sector))
}

fn each_sector(sectors: u8) -> impl Iterator<Item = usize> {
    (0..SECTORS).filter(move |sector| sectors & (1 << sector) != 0)
}
