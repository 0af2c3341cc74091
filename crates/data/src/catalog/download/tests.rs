//! One file from servers that behave in every way that was thought of.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::super::fixtures::content;
use super::super::server::{Connection, Request, Server};
use super::trial::Trial;
use super::*;

/// Length of the file in most tests.
const LENGTH: usize = 50_000;

fn new() -> Trial {
    Trial::of(content(LENGTH))
}

fn good() -> Server {
    Server::of_files(&[("a.gz", &content(LENGTH))])
}

fn server(answer: impl Fn(&Request, &mut Connection, &[u8]) + Send + Sync + 'static) -> Server {
    let content = content(LENGTH);
    Server::start(move |request, connection| answer(request, connection, &content))
}

#[test]
fn a_file_is_downloaded_with_one_request() {
    let server = good();
    let mut trial = new();
    trial.succeed(&[&server]);
    let asked = Request {
        path: "/a.gz".into(),
        from: None,
        earlier: 0,
    };
    assert_eq!(server.requests(), [asked]);
    assert_eq!(trial.most, LENGTH as u64);
}

#[test]
fn what_an_earlier_run_left_is_gone_on_with() {
    let server = good();
    new().leave(&content(LENGTH)[..1234]).succeed(&[&server]);
    assert_eq!(server.starts(), [Some(1234)]);
}

#[test]
fn a_complete_part_needs_no_request() {
    let server = good();
    new().leave(&content(LENGTH)).succeed(&[&server]);
    assert_eq!(server.starts(), []);
}

#[test]
fn a_part_that_is_too_long_is_started_again() {
    let server = good();
    new().leave(&content(LENGTH + 1)).succeed(&[&server]);
    assert_eq!(server.starts(), [None]);
}

#[test]
fn a_part_with_foreign_bytes_is_started_again() {
    let server = good();
    new().leave(&[7; 1000]).succeed(&[&server]);
    assert_eq!(server.starts(), [Some(1000), None]);
}

#[test]
fn a_cut_connection_is_taken_up_where_it_ended() {
    let server = server(|request, connection, content| {
        if request.earlier == 0 {
            connection.promise(request, content);
            connection.bytes(&content[..LENGTH / 2]);
        } else {
            connection.serve(request, content);
        }
    });
    let mut trial = new().rounds(2);
    trial.succeed(&[&server]);
    assert_eq!(server.starts(), [None, Some(LENGTH / 2)]);
    assert_eq!(
        trial.failures,
        ["the connection ended early (25000 of 50000 bytes)"]
    );
}

#[test]
fn a_connection_that_brought_much_is_taken_up_in_the_same_round() {
    let length = 3 * WORTH as usize;
    let content = content(length);
    let served = content.clone();
    let server = Server::start(move |request, connection| {
        connection.promise(request, &served);
        let from = request.from.unwrap_or(0);
        connection.bytes(&served[from..length.min(from + WORTH as usize + 1)]);
    });
    let mut trial = Trial::of(content);
    trial.succeed(&[&server]);
    assert_eq!(server.requests().len(), 3);
    assert_eq!(trial.failures, [""; 0]);
}

#[test]
fn a_server_that_always_starts_again_and_is_always_cut_does_not_go_on_for_ever() {
    let content = content(3 * WORTH as usize);
    let served = content.clone();
    let server = Server::start(move |_, connection| {
        connection.head(200, &[("Content-Length", served.len().to_string())]);
        connection.bytes(&served[..2 * WORTH as usize]);
    });
    Trial::of(content).fail(&[&server]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn after_a_stall_the_next_mirror_goes_on() {
    let stalling = server(|request, connection, content| {
        connection.promise(request, content);
        connection.bytes(&content[..1000]);
        connection.stall();
    });
    let good = good();
    let mut trial = new().stall(400);
    trial.succeed(&[&stalling, &good]);
    assert_eq!(good.starts(), [Some(1000)]);
    assert_eq!(trial.failures, ["it stopped sending (1000 of 50000 bytes)"]);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let silent = server(|_, connection, _| connection.stall());
    let begun = Instant::now();
    assert_eq!(new().stall(100).fail(&[&silent]), ["no answer in time"]);
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_server_that_creeps_is_given_up() {
    let creeping = server(|request, connection, content| {
        connection.promise(request, content);
        for byte in &content[..400] {
            connection.bytes(&[*byte]);
            thread::sleep(Duration::from_millis(5));
        }
        connection.stall();
    });
    let [reason] = &new().stall(400).fail(&[&creeping])[..] else {
        panic!("one mirror")
    };
    assert!(
        reason.starts_with("only ") && reason.contains(" bytes in 0.4 s ("),
        "{reason}"
    );
}

#[test]
fn a_server_that_ignores_ranges_begins_again() {
    let server = server(|_, connection, content| {
        connection.head(200, &[("Content-Length", content.len().to_string())]);
        connection.bytes(content);
    });
    new().leave(&content(LENGTH)[..1234]).succeed(&[&server]);
    assert_eq!(server.starts(), [Some(1234)]);
}

#[test]
fn a_server_without_such_a_range_is_asked_for_everything() {
    let server = server(|request, connection, content| match request.from {
        Some(_) => connection.status(416),
        None => connection.serve(request, content),
    });
    new().leave(&content(LENGTH)[..1234]).succeed(&[&server]);
    assert_eq!(server.starts(), [Some(1234), None]);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_written() {
    let server = server(|request, connection, content| match request.from {
        Some(_) => connection.serve(
            &Request {
                from: Some(5),
                ..request.clone()
            },
            content,
        ),
        None => connection.serve(request, content),
    });
    new().leave(&content(LENGTH)[..1234]).succeed(&[&server]);
    assert_eq!(server.starts(), [Some(1234), None]);

    let unasked = self::server(|request, connection, content| {
        connection.serve(
            &Request {
                from: Some(5),
                ..request.clone()
            },
            content,
        );
    });
    assert_eq!(
        new().fail(&[&unasked]),
        ["it gives a part of the file that was not asked for"]
    );
}

#[test]
fn a_file_of_another_length_is_recognized_by_the_range() {
    let server =
        server(|request, connection, content| connection.serve(request, &content[..LENGTH - 1]));
    let reasons = new()
        .leave(&content(LENGTH)[..1234])
        .rounds(3)
        .fail(&[&server]);
    assert_eq!(
        reasons,
        ["its file has 49999 bytes where 50000 are published"]
    );
    assert_eq!(server.starts(), [Some(1234)]);
}

#[test]
fn a_promise_of_too_many_bytes_is_not_believed() {
    let server = server(|_, connection, content| {
        connection.head(200, &[("Content-Length", (1_u64 << 50).to_string())]);
        connection.bytes(content);
        connection.bytes(&[7; 1000]);
        connection.stall();
    });
    new().succeed(&[&server]);
}

#[test]
fn a_promise_of_too_few_bytes_is_made_up_for() {
    let server = server(|request, connection, content| {
        if request.earlier == 0 {
            connection.head(200, &[("Content-Length", "20000".into())]);
            connection.bytes(content);
        } else {
            connection.serve(request, content);
        }
    });
    new().rounds(2).succeed(&[&server]);
    assert_eq!(server.starts(), [None, Some(20_000)]);
}

#[test]
fn a_body_without_end_is_cut_at_the_length_of_the_file() {
    let endless = server(|_, connection, _| {
        connection.head(200, &[]);
        // Sixty megabytes stand for no end; the client goes after fifty thousand bytes.
        (0..1000).for_each(|_| connection.bytes(&[7; 60_000]));
    });
    let mut trial = new().rounds(3);
    let [reason] = &trial.fail(&[&endless])[..] else {
        panic!("one mirror")
    };
    assert!(reason.starts_with("wrong content (md5 "), "{reason}");
    assert_eq!(trial.most, LENGTH as u64);
    assert_eq!(endless.starts(), [None]);
}

#[test]
fn a_body_in_chunks_is_read() {
    let server = server(|_, connection, content| {
        connection.head(200, &[("Transfer-Encoding", "chunked".into())]);
        for chunk in content.chunks(7777) {
            connection.bytes(format!("{:x}\r\n", chunk.len()).as_bytes());
            connection.bytes(chunk);
            connection.bytes(b"\r\n");
        }
        connection.bytes(b"0\r\n\r\n");
    });
    new().succeed(&[&server]);
}

#[test]
fn wrong_content_is_deleted_and_never_asked_for_again() {
    let wrong = Server::of_files(&[("a.gz", &[7; LENGTH])]);
    let mut trial = new().rounds(3);
    let [reason] = &trial.fail(&[&wrong])[..] else {
        panic!("one mirror")
    };
    assert!(reason.starts_with("wrong content (md5 "), "{reason}");
    assert_eq!(wrong.starts(), [None]);
    assert!(!trial.part().exists());

    let (wrong, good) = (Server::of_files(&[("a.gz", &[7; LENGTH])]), good());
    new().succeed(&[&wrong, &good]);
    assert_eq!((wrong.starts(), good.starts()), (vec![None], vec![None]));
}

#[test]
fn a_good_mirror_is_not_blamed_for_what_a_bad_one_began() {
    let bad = server(|request, connection, content| {
        connection.promise(request, content);
        connection.bytes(&[7; 1000]);
    });
    let good = good();
    new().succeed(&[&bad, &good]);
    assert_eq!(good.starts(), [Some(1000), None]);
}

#[test]
fn every_mirror_has_its_reason_and_only_hopeful_ones_are_asked_again() {
    let missing = server(|_, connection, _| connection.status(404));
    let broken = server(|_, connection, _| connection.status(500));
    let page = server(|_, connection, _| {
        connection.head(200, &[("Content-Type", "text/html; charset=utf-8".into())]);
        connection.bytes(b"<html>please log in</html>");
    });
    let babbling = server(|_, connection, _| connection.bytes(b"good morning\r\n\r\n"));
    let reasons = new().rounds(3).fail(&[&missing, &broken, &page, &babbling]);
    assert_eq!(
        reasons[..3],
        [
            "HTTP status 404",
            "HTTP status 500",
            "it answers with a web page, not with the file"
        ]
    );
    assert!(
        !reasons[3].is_empty() && !reasons[3].contains(char::is_control),
        "{}",
        reasons[3]
    );
    let asked: Vec<_> = [&missing, &broken, &page]
        .iter()
        .map(|server| server.requests().len())
        .collect();
    assert_eq!(asked, [1, 3, 1]);
}

#[test]
fn addresses_where_nobody_is_are_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut urls = [
        closed,
        "http://nobody.invalid".to_owned(),
        "no address".to_owned(),
    ];
    let mut trial = new();
    let Ending::Failed(failures) = trial.run_urls(&mut urls).unwrap() else {
        panic!("there is no such file")
    };
    assert_eq!(failures[0].url, format!("{}/a.gz", urls[0]));
    assert!(failures[0].reason.contains("refused"), "{failures:?}");
    assert!(failures.iter().all(|failure| !failure.reason.is_empty()));
    assert!(!trial.part().exists());
}

#[test]
fn redirections_are_followed_but_not_for_ever() {
    let server = server(|request, connection, content| match request.path.as_str() {
        "/elsewhere" => connection.serve(request, content),
        _ => connection.head(
            302,
            &[
                ("Location", "/elsewhere".into()),
                ("Content-Length", "0".into()),
            ],
        ),
    });
    new().leave(&content(LENGTH)[..1234]).succeed(&[&server]);
    assert_eq!(server.starts(), [Some(1234), Some(1234)]);

    let circle = self::server(|_, connection, _| {
        connection.head(
            302,
            &[("Location", "/a.gz".into()), ("Content-Length", "0".into())],
        );
    });
    let [reason] = &new().rounds(3).fail(&[&circle])[..] else {
        panic!("one mirror")
    };
    assert!(reason.contains("redirect"), "{reason}");
    assert!(circle.requests().len() < 20);
}

#[test]
fn a_mirror_that_gave_a_file_comes_first_afterwards() {
    let (missing, good) = (Server::of_files(&[]), good());
    let mut urls = [
        "http://127.0.0.1:1".to_owned(),
        missing.url(),
        good.url(),
        "http://c".to_owned(),
    ];
    let mut trial = new();
    assert!(matches!(trial.run_urls(&mut urls).unwrap(), Ending::Done));
    trial.expect_file();
    assert_eq!(
        urls,
        [
            good.url(),
            "http://127.0.0.1:1".into(),
            missing.url(),
            "http://c".into()
        ]
    );
}

#[test]
fn two_at_once_do_not_mix() {
    let server = good();
    let mut trial = new().leave(b"");
    let other = File::open(trial.part()).unwrap();
    other.lock().unwrap();
    let Err(error) = trial.run(&[&server]) else {
        panic!("the other one holds the lock")
    };
    assert!(
        error
            .to_string()
            .contains("a.gz.part is being written by another process"),
        "{error}"
    );
    drop(other);
    trial.succeed(&[&server]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let server = good();
    let mut trial = new();
    std::os::unix::fs::symlink("/dev/full", trial.part()).unwrap();
    let Err(error) = trial.run(&[&server]) else {
        panic!("a full disk takes nothing")
    };
    assert!(
        matches!(error, CatalogError::Full { bytes: 50_000, .. }),
        "{error}"
    );
}
