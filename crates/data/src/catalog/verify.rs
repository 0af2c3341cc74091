//! Whether the files of a set are there and whole.

use std::fs;
use std::io;
use std::path::Path;

use super::{Files, KnownFile, KnownSet, Member, checksum};

/// What was found of one file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Name of the file below the folder that was asked about, e.g. "mnist/train-images-idx3-ubyte.gz".
    pub name: String,
    /// What was found.
    pub state: State,
}

/// What was found of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is the published file.
    Ok,
    /// It is there; no checksum is published for it.
    Unchecked,
    /// It is not there.
    Missing,
    /// It has another length than the published file.
    WrongLength {
        /// Its length in bytes.
        bytes: u64,
        /// The length of the published file.
        expected: u64,
    },
    /// It has another checksum than the published file.
    Wrong {
        /// Its MD5.
        md5: String,
        /// The MD5 of the published file.
        expected: &'static str,
    },
    /// It is there, but cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

impl State {
    /// Whether nothing is known against the file.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Ok | Self::Unchecked)
    }
}

/// Looks at every file of `set` below `dir`, the folder where sets lie side by side; in the order of the
/// catalogue. A file that is served compressed may as well lie there decompressed. For a set without
/// published files the list is empty.
pub fn verify(set: &KnownSet, dir: &Path) -> Vec<FileState> {
    let Some(published) = set.published() else {
        return Vec::new();
    };
    let folder = dir.join(published.folder);
    let found = |name: &str, state| FileState {
        name: format!("{}/{name}", published.folder),
        state,
    };
    match published.files {
        Files::Single(files) => files
            .iter()
            // As when it is loaded, the plain file comes first.
            .map(|file| match exact(&file.plain, &folder) {
                State::Missing => found(file.served.name, exact(&file.served, &folder)),
                state => found(file.plain.name, state),
            })
            .collect(),
        Files::Archive { members, .. } => members
            .iter()
            .map(|file| found(file.name(), member(file, &folder)))
            .collect(),
    }
}

/// What is found of a file that must be there to the byte.
pub(super) fn exact(file: &KnownFile, folder: &Path) -> State {
    let path = folder.join(file.name);
    match length(&path) {
        Err(state) => return state,
        Ok(bytes) if bytes != file.bytes => {
            return State::WrongLength {
                bytes,
                expected: file.bytes,
            };
        }
        Ok(_) => {}
    }
    match checksum::of_file(&path) {
        Ok(md5) if md5 == file.md5 => State::Ok,
        Ok(md5) => State::Wrong {
            md5,
            expected: file.md5,
        },
        Err(error) => State::Unreadable {
            reason: error.to_string(),
        },
    }
}

/// What is found of a member of an archive in the set's folder.
pub(super) fn member(member: &Member, folder: &Path) -> State {
    match member {
        Member::Exact(file) => exact(file, folder),
        Member::Text { name, limit } => match length(&folder.join(name)) {
            Err(state) => state,
            Ok(bytes) if bytes > *limit => State::WrongLength {
                bytes,
                expected: *limit,
            },
            Ok(_) => State::Unchecked,
        },
    }
}

fn length(path: &Path) -> Result<u64, State> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(found.len()),
        Ok(_) => Err(State::Unreadable {
            reason: "it is no file".to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(State::Missing),
        Err(error) => Err(State::Unreadable {
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{known, set};
    use super::super::{Single, find};
    use super::*;

    const CONTENT: &[u8] = b"message digest";
    const MD5: &str = "f96b697d7cb7938d525a2f31aaf161d0";

    fn single(served: &'static str, plain: &'static str) -> Single {
        Single {
            served: known(served, CONTENT),
            plain: known(plain, CONTENT),
        }
    }

    #[test]
    fn tells_good_missing_short_damaged_and_unreadable_files_apart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("set");
        fs::create_dir(&folder).unwrap();
        let state = |state| FileState {
            name: "set/a.gz".into(),
            state,
        };
        let set = set(Files::Single(vec![single("a.gz", "a")].leak()));
        assert_eq!(verify(&set, dir.path()), [state(State::Missing)]);
        fs::write(folder.join("a.gz"), CONTENT).unwrap();
        assert_eq!(verify(&set, dir.path()), [state(State::Ok)]);
        fs::write(folder.join("a.gz"), &CONTENT[..5]).unwrap();
        assert_eq!(
            verify(&set, dir.path()),
            [state(State::WrongLength {
                bytes: 5,
                expected: 14
            })]
        );
        fs::write(folder.join("a.gz"), b"massage digest").unwrap();
        let [found] = &verify(&set, dir.path())[..] else {
            panic!("one file")
        };
        assert!(
            matches!(&found.state, State::Wrong { md5, expected: MD5 } if md5 != MD5),
            "{found:?}"
        );
        fs::remove_file(folder.join("a.gz")).unwrap();
        fs::create_dir(folder.join("a.gz")).unwrap();
        assert_eq!(
            verify(&set, dir.path()),
            [state(State::Unreadable {
                reason: "it is no file".into()
            })]
        );
    }

    #[test]
    fn a_decompressed_file_does_as_well() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("set")).unwrap();
        fs::write(dir.path().join("set/a"), CONTENT).unwrap();
        fs::write(dir.path().join("set/b.gz"), CONTENT).unwrap();
        let files = vec![single("a.gz", "a"), single("b.gz", "b")].leak();
        let found = verify(&set(Files::Single(files)), dir.path());
        assert_eq!(
            found,
            [
                FileState {
                    name: "set/a".into(),
                    state: State::Ok
                },
                FileState {
                    name: "set/b.gz".into(),
                    state: State::Ok
                }
            ]
        );
    }

    #[test]
    fn members_without_checksum_are_told_from_checked_ones() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("set");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a"), CONTENT).unwrap();
        fs::write(folder.join("names.txt"), b"cat\ndog\n").unwrap();
        let members = vec![
            Member::Exact(known("a", CONTENT)),
            Member::Text {
                name: "names.txt",
                limit: 10,
            },
        ];
        let archive = Files::Archive {
            archive: known("set.tar.gz", b""),
            members: members.leak(),
        };
        let states =
            |found: Vec<FileState>| found.into_iter().map(|file| file.state).collect::<Vec<_>>();
        assert_eq!(
            states(verify(&set(archive), dir.path())),
            [State::Ok, State::Unchecked]
        );
        fs::write(folder.join("names.txt"), b"cat\ndog\nbird\n").unwrap();
        let long = State::WrongLength {
            bytes: 13,
            expected: 10,
        };
        assert_eq!(states(verify(&set(archive), dir.path())), [State::Ok, long]);
    }

    #[test]
    fn a_set_without_files_has_no_file_to_look_at() {
        assert_eq!(verify(find("glyphs").unwrap(), Path::new("/nowhere")), []);
    }
}
