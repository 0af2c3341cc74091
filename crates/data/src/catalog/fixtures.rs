//! Small sets for tests, with the lengths and checksums of what they hold.

use std::time::Duration;

use super::{FetchOptions, Files, KnownFile, KnownSet, Published, Source, checksum, find};

/// `length` bytes without a pattern that a mistake could hit by chance.
pub(super) fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The entry of a file with this content.
pub(super) fn known(name: &'static str, content: &[u8]) -> KnownFile {
    let md5 = checksum::of_reader(&mut &content[..]).unwrap();
    KnownFile {
        name,
        bytes: content.len() as u64,
        md5: md5.leak(),
    }
}

/// A set with these files in the folder "set".
pub(super) fn set(files: Files) -> KnownSet {
    let source = Source::Published(Published {
        folder: "set",
        mirrors: &[],
        files,
    });
    KnownSet {
        source,
        ..find("mnist").unwrap().clone()
    }
}

/// Options for servers on this machine: no pauses, one round.
pub(super) fn options(mirrors: &[String]) -> FetchOptions {
    FetchOptions {
        mirrors: mirrors.to_vec(),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
        rounds: 1,
        pause: Duration::from_millis(1),
        keep_archive: false,
        certificates: None,
    }
}
