//! Whole sets: what is fetched, what is left alone, and what is said when it fails.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::fixtures::{content, known, options, set};
use super::super::server::Server;
use super::super::{FileState, Member, find, verify};
use super::*;

fn single(served: (&'static str, &[u8]), plain: (&'static str, &[u8])) -> Single {
    Single {
        served: known(served.0, served.1),
        plain: known(plain.0, plain.1),
    }
}

/// A set of two files, "a.gz" and "b.gz".
fn two_files() -> KnownSet {
    let files = vec![
        single(("a.gz", &content(5000)), ("a", b"plain a")),
        single(("b.gz", &content(300)), ("b", b"plain b")),
    ];
    set(Files::Single(files.leak()))
}

fn server_of_two() -> Server {
    Server::of_files(&[("a.gz", &content(5000)), ("b.gz", &content(300))])
}

/// An archive with "set/a.bin" and "set/names.txt", and the set that it is.
fn archive_set() -> (KnownSet, Vec<u8>) {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let (data, names) = (content(20_000), b"cat\ndog\n");
    for (path, content) in [("set/a.bin", &data[..]), ("set/names.txt", names)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content).unwrap();
    }
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let members = vec![
        Member::Exact(known("a.bin", &data)),
        Member::Text {
            name: "names.txt",
            limit: 100,
        },
    ];
    (
        set(Files::Archive {
            archive: known("set.tar.gz", &archive),
            members: members.leak(),
        }),
        archive,
    )
}

/// Fetches and gives what happened, as one word and a file name each.
fn run(
    set: &KnownSet,
    dir: &Path,
    options: &FetchOptions,
) -> (Result<PathBuf, CatalogError>, Vec<String>) {
    let mut events = Vec::new();
    let result = fetch(set, dir, options, &mut |progress| match progress {
        Progress::Present { file } => events.push(format!("present {file}")),
        Progress::Start { file, from, .. } => events.push(format!("start {file} {from}")),
        Progress::Failed { file, .. } => events.push(format!("failed {file}")),
        Progress::Check { file } => events.push(format!("check {file}")),
        Progress::Unpack { file } => events.push(format!("unpack {file}")),
        Progress::Done { file } => events.push(format!("done {file}")),
        Progress::Bytes { .. } => {}
    });
    (result, events)
}

fn good(found: &[FileState]) -> bool {
    !found.is_empty() && found.iter().all(|file| file.state.is_good())
}

#[test]
fn a_set_is_fetched_once() {
    let (dir, server, set) = (tempfile::tempdir().unwrap(), server_of_two(), two_files());
    let root = dir.path().join("new/root");
    assert!(!good(&verify(&set, &root)));
    let (result, events) = run(&set, &root, &options(&[server.url()]));
    assert_eq!(result.unwrap(), root.join("set"));
    let each = [
        "start a.gz 0",
        "check a.gz",
        "done a.gz",
        "start b.gz 0",
        "check b.gz",
        "done b.gz",
    ];
    assert_eq!(events, each);
    assert!(good(&verify(&set, &root)));
    let (result, events) = run(&set, &root, &options(&[server.url()]));
    assert_eq!(result.unwrap(), root.join("set"));
    assert_eq!(events, ["present a.gz", "present b.gz"]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_wrong_file_is_replaced_and_a_decompressed_one_left() {
    let (dir, server, set) = (tempfile::tempdir().unwrap(), server_of_two(), two_files());
    fs::create_dir(dir.path().join("set")).unwrap();
    fs::write(dir.path().join("set/a"), b"plain a").unwrap();
    fs::write(dir.path().join("set/b.gz"), vec![7; 300]).unwrap();
    let (result, events) = run(&set, dir.path(), &options(&[server.url() + "/"]));
    result.unwrap();
    assert_eq!(
        events,
        ["present a", "start b.gz 0", "check b.gz", "done b.gz"]
    );
    assert!(good(&verify(&set, dir.path())));
    // What would be read instead of a good file is told, and left to its owner.
    fs::write(dir.path().join("set/a.gz"), content(5000)).unwrap();
    fs::write(dir.path().join("set/a"), b"changed").unwrap();
    let (result, _) = run(&set, dir.path(), &options(&[server.url() + "/"]));
    let message = result.unwrap_err().to_string();
    assert!(
        message.contains("set/a: is not as published") && message.contains("delete it"),
        "{message}"
    );
    assert_eq!(fs::read(dir.path().join("set/a")).unwrap(), b"changed");
}

#[test]
fn what_failed_is_said_on_one_line_with_the_cure() {
    let (dir, set) = (tempfile::tempdir().unwrap(), two_files());
    let (first, second) = (
        Server::of_files(&[("a.gz", &content(5000))]),
        Server::of_files(&[]),
    );
    let (result, _) = run(&set, dir.path(), &options(&[first.url(), second.url()]));
    let place = dir.path().join("set");
    assert_eq!(
        result.unwrap_err().to_string(),
        format!(
            "no mirror gave b.gz ({}/b.gz: HTTP status 404; {}/b.gz: HTTP status 404); put b.gz into {} by hand, \
             or name the folder that holds set/ with --data DIR",
            first.url(),
            second.url(),
            place.display()
        )
    );
    // An empty folder would look like a damaged set.
    let other = tempfile::tempdir().unwrap();
    run(&set, other.path(), &options(&[second.url()]))
        .0
        .unwrap_err();
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    // What was got is kept.
    let (_, events) = run(&set, dir.path(), &options(&[second.url()]));
    assert_eq!(events, ["present a.gz", "start b.gz 0", "failed b.gz"]);
}

#[test]
fn an_archive_is_fetched_unpacked_and_removed() {
    let (dir, (set, archive)) = (tempfile::tempdir().unwrap(), archive_set());
    let server = Server::of_files(&[("set.tar.gz", &archive)]);
    let (result, events) = run(&set, dir.path(), &options(&[server.url()]));
    result.unwrap();
    let first = [
        "start set.tar.gz 0",
        "check set.tar.gz",
        "done set.tar.gz",
        "unpack a.bin",
        "done a.bin",
        "unpack names.txt",
        "done names.txt",
    ];
    assert_eq!(events, first);
    assert!(good(&verify(&set, dir.path())));
    assert!(!dir.path().join("set.tar.gz").exists());
    let (_, events) = run(&set, dir.path(), &options(&[server.url()]));
    assert_eq!(events, ["present a.bin", "present names.txt"]);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_archive_that_is_there_is_unpacked_without_a_network() {
    let (dir, (set, archive)) = (tempfile::tempdir().unwrap(), archive_set());
    fs::write(dir.path().join("set.tar.gz"), &archive).unwrap();
    let options = FetchOptions {
        keep_archive: true,
        ..options(&["http://127.0.0.1:1".to_owned()])
    };
    run(&set, dir.path(), &options).0.unwrap();
    assert!(dir.path().join("set.tar.gz").exists());
    // A damaged member is taken out again.
    fs::write(dir.path().join("set/a.bin"), b"damaged").unwrap();
    run(&set, dir.path(), &options).0.unwrap();
    assert!(good(&verify(&set, dir.path())));
}

#[test]
fn a_whole_archive_set_is_left_alone_where_nothing_can_be_written() {
    let (dir, (set, archive)) = (tempfile::tempdir().unwrap(), archive_set());
    fs::write(dir.path().join("set.tar.gz"), &archive).unwrap();
    run(&set, dir.path(), &options(&[])).0.unwrap();
    // No lock can be made where a folder has its name.
    fs::create_dir(dir.path().join("set.tar.gz.lock")).unwrap();
    let (result, events) = run(&set, dir.path(), &options(&[]));
    result.unwrap();
    assert_eq!(events, ["present a.bin", "present names.txt"]);
}

#[test]
fn who_comes_second_leaves_the_folder_of_the_first() {
    let (dir, (set, _)) = (tempfile::tempdir().unwrap(), archive_set());
    fs::create_dir(dir.path().join("set")).unwrap();
    let first = File::create(dir.path().join("set.tar.gz.lock")).unwrap();
    first.lock().unwrap();
    let error = run(&set, dir.path(), &options(&[])).0.unwrap_err();
    assert!(matches!(error, CatalogError::Busy { .. }), "{error}");
    assert!(dir.path().join("set").is_dir());
}

#[test]
fn a_missing_archive_belongs_beside_the_folder() {
    let (dir, (set, _)) = (tempfile::tempdir().unwrap(), archive_set());
    let (result, _) = run(&set, dir.path(), &options(&[Server::of_files(&[]).url()]));
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "; put set.tar.gz into {} by hand",
            dir.path().display()
        )),
        "{error}"
    );
}

#[test]
fn sets_without_files_say_what_to_do_instead() {
    let dir = tempfile::tempdir().unwrap();
    let say = |name| {
        run(find(name).unwrap(), dir.path(), &options(&[]))
            .0
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        say("glyphs"),
        "data set \"glyphs\" has nothing to fetch: the program draws it; use it as it is"
    );
    assert!(say("folder").contains("name their folder with the key data.path"));
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let (result, events) = run(
        &two_files(),
        &file,
        &options(&["http://127.0.0.1:1".to_owned()]),
    );
    let error = result.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot write {}", file.join("set").display())),
        "{error}"
    );
    assert_eq!(events, [""; 0]);
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("set");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("probe"), b"").is_ok() {
        // The superuser may write everywhere.
        return;
    }
    let (result, _) = run(&two_files(), dir.path(), &options(&[server_of_two().url()]));
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("a.gz.part: Permission denied") && error.contains("--data DIR"),
        "{error}"
    );
}

const KILLED_URL: &str = "SKINNY_TEST_KILLED_URL";
const KILLED_DIR: &str = "SKINNY_TEST_KILLED_DIR";

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "run and killed by a_killed_process_is_gone_on_from"]
fn the_killed_process() {
    let (Ok(url), Some(dir)) = (std::env::var(KILLED_URL), std::env::var_os(KILLED_DIR)) else {
        return;
    };
    let options = FetchOptions {
        stall_timeout: Duration::from_secs(60),
        ..options(&[url])
    };
    fetch(&two_files(), Path::new(&dir), &options, &mut |_| {}).unwrap();
}

#[test]
fn a_killed_process_is_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let half = content(5000)[..2500].to_vec();
    let stalling = Server::start(move |request, connection| {
        connection.promise(request, &content(5000));
        connection.bytes(&half);
        connection.stall();
    });
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "the_killed_process"])
        .env(KILLED_URL, stalling.url())
        .env(KILLED_DIR, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part = dir.path().join("set/a.gz.part");
    let begun = Instant::now();
    while fs::metadata(&part).map_or(0, |found| found.len()) < 2500 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the child never got as far"
        );
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let server = server_of_two();
    let (result, events) = run(&two_files(), dir.path(), &options(&[server.url()]));
    result.unwrap();
    assert_eq!(events[0], "start a.gz 2500");
    assert_eq!(server.starts(), [Some(2500), None]);
    assert!(good(&verify(&two_files(), dir.path())));
}

#[test]
fn downloads_are_encrypted_where_the_address_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (url, authority) = encrypted(content(5000));
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, authority).unwrap();
    let set = set(Files::Single(
        vec![single(("a.gz", &content(5000)), ("a", b"plain"))].leak(),
    ));
    let strict = options(&[url]);
    let (result, _) = run(&set, dir.path(), &strict);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let (result, _) = run(
        &set,
        dir.path(),
        &FetchOptions {
            certificates: Some(roots),
            ..strict
        },
    );
    result.unwrap();
    assert!(good(&verify(&set, dir.path())));
}

/// A server that speaks TLS, with its address and the certificate (PEM) of its authority. It ends with
/// the test.
fn encrypted(content: Vec<u8>) -> (String, &'static str) {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        &include_bytes!("../fixtures/server-key.der")[..],
    ));
    let chain = vec![include_bytes!("../fixtures/server.der")[..].into()];
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            // One read completes the handshake and takes in the request, which fits into a record.
            if std::io::Read::read(&mut stream, &mut [0; 4096]).is_ok() {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                );
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&content));
                let _ = stream.flush();
            }
        }
    });
    (url, include_str!("../fixtures/authority.pem"))
}
