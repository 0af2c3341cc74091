//! What must hold for any bytes; the fuzz targets and the replay of their corpus share it.

use skinny_interchange::{InterchangeError, Matching, Numbers, Options, Source, import};
use skinny_network::Network;

/// A file is an error of one short line, or its tensors are what they say and small beside it.
pub fn source(bytes: &[u8]) {
    let source = match Source::from_bytes(bytes.to_vec()) {
        Ok(source) => source,
        Err(error) => return one_short_line(&error),
    };
    let mut values = 0;
    for entry in source.entries() {
        match source.tensor(entry) {
            Ok(tensor) => {
                assert!(tensor.is_consistent());
                assert_eq!(tensor.shape, entry.shape());
                values += tensor.data.len();
            }
            Err(error) => {
                assert!(matches!(entry.numbers(), Numbers::Other(_)));
                one_short_line(&error);
            }
        }
    }
    assert!(
        4 * values <= 8 * bytes.len(),
        "tensors are far larger than the file"
    );
    let graph = Network::load("lenet5").and_then(|network| network.graph());
    let graph = graph.expect("a network of the zoo");
    for matching in [Matching::Name, Matching::Order] {
        let options = Options {
            matching,
            strict: false,
            ..Options::default()
        };
        match import(&source, &graph, &options) {
            Ok(imported) => {
                let checked = imported.tensors.check_against(&graph, false);
                assert!(checked.is_ok_and(|found| found.unexpected.is_empty()));
            }
            Err(error) => one_short_line(&error),
        }
    }
}

fn one_short_line(error: &InterchangeError) {
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 10_000, "{text}");
}
