//! Settings read back as they are shown, and sizes follow the memory there is.

use super::*;

#[test]
fn every_setting_has_a_sentence_and_shows_what_it_was_set_to() {
    let config = Config::default();
    for setting in SETTINGS {
        assert!(setting.about.ends_with('.'), "{}", setting.key);
        let mut again = Config::default();
        setting.set(&mut again, &setting.get(&config)).unwrap();
        assert_eq!(setting.get(&again), setting.get(&config), "{}", setting.key);
    }
}

#[test]
fn derived_sizes_follow_the_memory_limit() {
    let mut config = Config::default();
    find("memory_limit").unwrap().set(&mut config, "4 GiB").unwrap();
    assert_eq!(config.memtable.bytes_max, 512 << 20);
    assert_eq!(config.query.memory_bytes_max, 1 << 30);
    assert_eq!(default_memtable(1 << 20), 12 << 20);
    assert_eq!(config.write.inflight_bytes_max, 256 << 20);
    for limit in ["128 MiB", "512 MiB", "1 GiB", "64 GiB"] {
        find("memory_limit").unwrap().set(&mut config, limit).unwrap();
        assert!(config.memtable.bytes_max <= config.memory_shares().admitted_bytes(), "{limit}");
    }
    assert_eq!(default_memtable(1 << 40), 1 << 30);
}

/// What cannot be kept is refused, not raised in silence.
#[test]
fn a_value_that_is_too_small_is_refused() {
    #[track_caller]
    fn check(key: &str, least: &str, below: &[&str]) {
        let mut config = Config::default();
        let setting = find(key).unwrap();
        for text in below {
            assert_eq!(setting.set(&mut config, text), Err(format!("it must be at least {least}")), "{key} {text}");
        }
        setting.set(&mut config, least).unwrap();
        assert_eq!(setting.get(&config), least);
    }
    check("delete.bound", "10 s", &["0s", "9999 ms"]);
    check("memory_limit", "128 MiB", &["0", "134217727"]);
}
