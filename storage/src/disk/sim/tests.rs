//! What the simulated disk promises, call by call. `tests/sim_disk.rs` shows that it finds the classic bugs.

use super::fault::no_space;
use super::*;
use crate::disk::{Disk, File, read_exact_at, write_all_at};

fn create(disk: &SimDisk, path: &str) -> Box<dyn File> {
    disk.create_new(path.as_ref()).unwrap()
}

/// A file whose name and first bytes are durable.
fn durable(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = create(disk, path);
    write_all_at(&*file, 0, bytes).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("".as_ref()).unwrap();
    file
}

/// Every disk that `draws` power cuts of each kind leave.
fn crashes(disk: &SimDisk, draws: u64) -> impl Iterator<Item = SimDisk> {
    let kinds = Survival::ALL.into_iter();
    kinds.flat_map(move |survival| (0..draws).map(move |seed| disk.crash(survival, seed)))
}

#[test]
fn synced_bytes_and_names_survive_every_crash() {
    let disk = SimDisk::new(1);
    disk.create_dir("d".as_ref()).unwrap();
    disk.sync_dir("".as_ref()).unwrap();
    let file = create(&disk, "d/a");
    let bytes: Vec<u8> = (0..9000).map(|at| at as u8).collect();
    write_all_at(&*file, 10, &bytes).unwrap();
    file.sync_data().unwrap();
    disk.rename("d/a".as_ref(), "d/b".as_ref()).unwrap();
    disk.sync_dir("d".as_ref()).unwrap();
    for after in crashes(&disk, 50) {
        assert_eq!(after.files(), ["d/b"]);
        assert_eq!(after.file_bytes("d/b").unwrap()[10..], bytes);
        assert!(!after.is_dead());
    }
    assert!(disk.is_dead());
}

#[test]
fn any_subset_of_unsynced_sectors_survives() {
    let disk = SimDisk::new(2);
    let file = durable(&disk, "f", &[b'a'; 1536]);
    write_all_at(&*file, 0, &[b'b'; 1536]).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for after in crashes(&disk, 100) {
        let bytes = after.file_bytes("f").unwrap();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is torn");
        seen.insert([bytes[0], bytes[512], bytes[1024]]);
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn an_older_version_of_a_sector_may_be_what_survives() {
    let disk = SimDisk::new(3);
    let file = durable(&disk, "f", b"0");
    write_all_at(&*file, 0, b"1").unwrap();
    write_all_at(&*file, 0, b"2").unwrap();
    let seen: std::collections::BTreeSet<_> = crashes(&disk, 100).map(|after| after.file_bytes("f").unwrap()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [b"0", b"1", b"2"]);
}

#[test]
fn length_and_data_survive_independently() {
    let disk = SimDisk::new(4);
    let file = durable(&disk, "f", &[1; 512]);
    write_all_at(&*file, 512, &[2; 512]).unwrap();
    let afters: Vec<Vec<u8>> = crashes(&disk, 100).map(|after| after.file_bytes("f").unwrap()).collect();
    assert!(afters.contains(&vec![1; 512]));
    assert!(afters.contains(&[[1; 512], [0; 512]].concat()));
    assert!(afters.contains(&[[1; 512], [2; 512]].concat()));
    let is_stale = |bytes: &Vec<u8>| bytes.len() == 1024 && !matches!(bytes[512..], [0, 0, ..] | [2, 2, ..]);
    assert!(afters.iter().any(is_stale));
}

#[test]
fn names_survive_as_any_subset_and_a_rename_as_one() {
    let disk = SimDisk::new(5);
    drop(durable(&disk, "x", b"x"));
    drop(create(&disk, "y"));
    disk.rename("x".as_ref(), "z".as_ref()).unwrap();
    let seen: std::collections::BTreeSet<_> = crashes(&disk, 100).map(|after| after.files().join(" ")).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["x", "x y", "y z", "z"]);
}

#[test]
fn a_directory_that_was_not_synced_takes_its_files_with_it() {
    let disk = SimDisk::new(6);
    disk.create_dir("d".as_ref()).unwrap();
    drop(create(&disk, "d/f"));
    disk.sync_dir("d".as_ref()).unwrap();
    assert!(disk.crash(Survival::None, 0).list("d".as_ref()).is_err());
    disk.restart().sync_dir("".as_ref()).unwrap();
}

#[test]
fn a_failed_sync_is_readable_now_and_gone_after_power_loss() {
    let disk = SimDisk::new(7);
    let file = durable(&disk, "f", b"old");
    write_all_at(&*file, 0, b"new").unwrap();
    disk.fail_next(Op::Sync, "f", Fault::Eio);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap(); // the second one says yes and changes nothing
    let mut buffer = [0; 3];
    read_exact_at(&*file, 0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"new");
    assert_eq!(disk.restart().file_bytes("f").unwrap(), b"new");
    for after in crashes(&disk, 20) {
        assert_eq!(after.file_bytes("f").unwrap(), b"old");
    }
    for after in crashes(&disk.restart(), 20) {
        assert_eq!(after.file_bytes("f").unwrap(), b"old");
    }
}

#[test]
fn a_failed_directory_sync_loses_its_names() {
    let disk = SimDisk::new(8);
    drop(create(&disk, "f"));
    disk.fail_next(Op::SyncDir, "", Fault::Eio);
    assert!(disk.sync_dir("".as_ref()).is_err());
    disk.sync_dir("".as_ref()).unwrap();
    assert_eq!(disk.files(), ["f"]);
    assert!(crashes(&disk, 20).all(|after| after.files().is_empty()));
}

#[test]
fn the_call_of_the_crash_may_take_effect_and_later_ones_do_not() {
    let disk = SimDisk::new(9);
    let file = durable(&disk, "f", b"a"); // four calls
    disk.crash_at(6);
    write_all_at(&*file, 0, b"b").unwrap();
    assert!(write_all_at(&*file, 1, b"c").is_err());
    assert!(write_all_at(&*file, 2, b"d").is_err());
    assert!(disk.is_dead() && disk.list("".as_ref()).is_err() && disk.calls() == 6);
    let seen: std::collections::BTreeSet<_> = crashes(&disk, 100).map(|after| after.file_bytes("f").unwrap()).collect();
    assert!(seen.contains(&b"bc"[..]) && seen.contains(&b"a"[..]));
    assert!(seen.iter().all(|bytes| bytes.len() <= 2));
}

#[test]
fn each_fault_strikes_once() {
    #[track_caller]
    fn check(fault: Fault, want: io::Result<usize>, want_bytes: &[u8]) {
        let disk = SimDisk::new(10);
        let file = create(&disk, "f");
        disk.fail_at(2, fault);
        let got = file.write_at(0, b"abcd");
        assert_eq!(got.map_err(|e| e.to_string()), want.map_err(|e| e.to_string()));
        assert_eq!(disk.file_bytes("f").unwrap(), want_bytes);
        assert_eq!(file.write_at(0, b"abcd").unwrap(), 4);
    }
    check(Fault::Eio, Err(Fault::Eio.error()), b"");
    check(Fault::EioPartly, Err(Fault::Eio.error()), b"ab");
    check(Fault::EioDone, Err(Fault::Eio.error()), b"abcd");
    check(Fault::Enospc, Err(no_space()), b"");
    check(Fault::Short, Ok(2), b"ab");
    check(Fault::Interrupted, Err(io::ErrorKind::Interrupted.into()), b"");
    check(Fault::EnospcAtSync, Ok(4), b"abcd");
}

#[test]
fn delayed_allocation_fails_at_the_sync() {
    let disk = SimDisk::new(11);
    let file = create(&disk, "f");
    disk.fail_at(1, Fault::EnospcAtSync);
    write_all_at(&*file, 0, b"abcd").unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.sync_dir("".as_ref()).unwrap();
    assert!(crashes(&disk, 20).all(|after| after.file_bytes("f").unwrap().is_empty()));
}

#[test]
fn a_full_disk_gives_what_is_left_and_takes_back_what_is_freed() {
    let disk = SimDisk::new(12);
    disk.set_capacity(Some(1000));
    let file = create(&disk, "f");
    file.allocate(600).unwrap();
    let other = create(&disk, "g");
    assert_eq!(other.write_at(0, &[1; 500]).unwrap(), 400);
    assert_eq!(other.write_at(400, &[1; 100]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(other.allocate(401).is_err());
    assert_eq!(disk.free_bytes().unwrap(), 0);
    disk.remove("f".as_ref()).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 0); // still open
    drop(file);
    assert_eq!(disk.free_bytes().unwrap(), 600);
    other.set_len(0).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 1000);
    disk.sync_dir("".as_ref()).unwrap();
    assert_eq!(disk.lock_state().inodes.len(), 1);
}

#[test]
fn cut_bytes_read_as_zeros_when_the_file_grows_again() {
    let disk = SimDisk::new(13);
    let file = durable(&disk, "f", &[7; 5000]);
    file.set_len(100).unwrap();
    file.set_len(5000).unwrap();
    let want = [vec![7; 100], vec![0; 4900]].concat();
    assert_eq!(disk.file_bytes("f").unwrap(), want);
    file.sync_data().unwrap();
    assert!(crashes(&disk, 20).all(|after| after.file_bytes("f").unwrap() == want));
}

#[test]
fn damage_at_rest_survives_a_crash_and_a_bad_sector_until_it_is_written() {
    let disk = SimDisk::new(14);
    let file = durable(&disk, "f", &[0; 1024]);
    disk.flip_bit("f", 600, 3).unwrap();
    disk.spoil_sector("f", 100).unwrap();
    let after = disk.crash(Survival::None, 0);
    assert_eq!(after.file_bytes("f").unwrap()[600], 8);
    drop(file);
    let file = after.open_write("f".as_ref()).unwrap();
    assert!(file.read_at(0, &mut [0; 1]).is_err() && file.read_at(500, &mut [0; 100]).is_err());
    assert_eq!(file.read_at(512, &mut [0; 512]).unwrap(), 512);
    write_all_at(&*file, 0, &[1; 512]).unwrap();
    assert_eq!(file.read_at(0, &mut [0; 1]).unwrap(), 1);
}

#[test]
fn files_can_be_cut_copied_swapped_and_deleted_at_rest() {
    let disk = SimDisk::new(15);
    disk.put_file("a", b"aaaa").unwrap();
    disk.copy_file("a", "b").unwrap();
    disk.cut_file("a", 2).unwrap();
    disk.swap_files("a", "b").unwrap();
    let after = disk.crash(Survival::None, 0);
    assert_eq!((after.file_bytes("a").unwrap(), after.file_bytes("b").unwrap()), (b"aaaa".to_vec(), b"aa".to_vec()));
    after.delete_file("a").unwrap();
    assert_eq!(after.crash(Survival::All, 0).files(), ["b"]);
}

#[test]
fn one_process_holds_the_lock_and_a_crash_gives_it_free() {
    let disk = SimDisk::new(16);
    let held = disk.lock().unwrap();
    assert_eq!(disk.lock().map(drop).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(disk.reboot().lock().unwrap());
    drop(held);
    drop(disk.restart().lock().unwrap());
}

#[test]
fn names_and_calls_behave_as_on_a_real_disk() {
    let real_dir = tempfile::tempdir().unwrap();
    let real = crate::disk::real::RealDisk::open(real_dir.path()).unwrap();
    let sim = SimDisk::new(17);
    let run = |disk: &dyn Disk| {
        let mut said: Vec<String> = Vec::new();
        let mut say = |result: io::Result<String>| said.push(result.unwrap_or_else(|error| error.kind().to_string()));
        say(disk.create_new("no/f".as_ref()).map(|_| "made".into()));
        say(disk.create_dir("d".as_ref()).map(|()| "made".into()));
        say(disk.create_new("d/f".as_ref()).and_then(|f| f.write_at(3, b"x")).map(|n| n.to_string()));
        say(disk.create_new("d/f".as_ref()).map(|_| "made".into()));
        say(disk.create_dir("d/f".as_ref()).map(|()| "made".into()));
        say(disk
            .open_read("d/f".as_ref())
            .and_then(|f| f.write_at(0, b"x"))
            .map_err(|_| io::ErrorKind::Other.into())
            .map(|n| n.to_string()));
        say(disk.open_read("d/f".as_ref()).and_then(|f| f.read_at(2, &mut [0; 9])).map(|n| n.to_string()));
        say(disk.open_read("d/f".as_ref()).and_then(|f| f.read_at(7, &mut [0; 9])).map(|n| n.to_string()));
        say(disk.link_new("d/f".as_ref(), "g".as_ref()).map(|()| "linked".into()));
        say(disk.link_new("d/f".as_ref(), "g".as_ref()).map(|()| "linked".into()));
        say(disk.link_new("d/h".as_ref(), "h".as_ref()).map(|()| "linked".into()));
        say(disk.rename("g".as_ref(), "d/f".as_ref()).map(|()| "same file: nothing moves".into()));
        say(disk.rename("h".as_ref(), "d/f".as_ref()).map(|()| "moved".into()));
        say(disk.open_write("g".as_ref()).and_then(|f| f.set_len(2)).map(|()| "cut".into()));
        say(disk.open_write("g".as_ref()).and_then(|f| f.allocate(1)).map(|()| "no change".into()));
        say(disk.rename("g".as_ref(), "e".as_ref()).map(|()| "moved".into()));
        say(disk.remove("g".as_ref()).map(|()| "removed".into()));
        say(disk.list("".as_ref()).map(|entries| format!("{entries:?}")));
        say(disk.list("d".as_ref()).map(|entries| format!("{entries:?}")));
        say(disk.list("e".as_ref()).map(|_| "listed".into()).map_err(|_| io::ErrorKind::Other.into()));
        say(disk.sync_dir("x".as_ref()).map(|()| "synced".into()));
        said
    };
    assert_eq!(run(&sim), run(&real));
}
