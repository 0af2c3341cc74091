//! One file from servers that behave in every way that chance thinks of.

use proptest::prelude::*;

use super::super::fixtures::content;
use super::super::server::{Request, Server};
use super::trial::Trial;
use super::*;

/// What a server may do to one request.
#[derive(Clone, Debug)]
enum Mood {
    Serve,
    Cut(usize),
    Garbage(usize),
    WrongRange(usize),
    Status(u16),
    TooLong,
    Rubbish(Vec<u8>),
}

fn moods() -> impl Strategy<Value = Vec<Mood>> {
    let mood = prop_oneof![
        Just(Mood::Serve),
        (0..3000_usize).prop_map(Mood::Cut),
        (0..3000_usize).prop_map(Mood::Garbage),
        (0..3000_usize).prop_map(Mood::WrongRange),
        prop_oneof![
            Just(204),
            Just(304),
            Just(404),
            Just(416),
            Just(429),
            Just(503),
            Just(999)
        ]
        .prop_map(Mood::Status),
        Just(Mood::TooLong),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(Mood::Rubbish),
    ];
    prop::collection::vec(mood, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_servers_do_there_is_the_right_file_or_none(
        moods in moods(),
        left in prop::option::of((0..4000_usize, any::<bool>())),
    ) {
        let content = content(3000);
        let served = content.clone();
        let server = Server::start(move |request, connection| {
            let from = request.from.unwrap_or(0);
            match &moods[request.earlier % moods.len()] {
                Mood::Serve => connection.serve(request, &served),
                Mood::Cut(at) => {
                    connection.promise(request, &served);
                    connection.bytes(&served[from..(*at).max(from)]);
                }
                Mood::Garbage(count) => {
                    connection.promise(request, &served);
                    connection.bytes(&vec![7; *count]);
                }
                Mood::WrongRange(start) => {
                    connection.serve(&Request { from: Some(*start), ..request.clone() }, &served);
                }
                Mood::Status(status) => connection.status(*status),
                Mood::TooLong => {
                    connection.head(200, &[("Content-Length", "9000".into())]);
                    connection.bytes(&served.repeat(3));
                }
                Mood::Rubbish(bytes) => connection.bytes(bytes),
            }
        });
        let mut trial = Trial::of(content.clone()).rounds(3).stall(1000);
        if let Some((count, right)) = left {
            let bytes: Vec<u8> = content.iter().cycle().take(count).map(|byte| byte ^ u8::from(!right)).collect();
            trial = trial.leave(&bytes);
        }
        match trial.run(&[&server]).unwrap() {
            Ending::Done => trial.expect_file(),
            Ending::Failed(failures) => {
                prop_assert_eq!(failures.len(), 1);
                prop_assert!(!failures[0].reason.contains(char::is_control));
                prop_assert!(!trial.dir.path().join("a.gz").exists());
                prop_assert!(trial.most <= 3000);
            }
        }
        prop_assert!(server.requests().len() < 40);
    }
}
