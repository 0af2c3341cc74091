//! Which names networks and layers may have.

use crate::error::{NetworkError, quote};

/// The longest name in bytes.
const LONGEST: usize = 100;

/// Checks a name: it becomes a part of weight names, file names and table columns.
pub(crate) fn check_name(owner: &str, name: &str) -> Result<(), NetworkError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST {
        "it is longer than 100 bytes"
    } else if name == "input" {
        "it stands for the network's input"
    } else if name.contains('.') {
        "a dot separates a layer from its weights"
    } else if name.contains(['/', '\\']) {
        "it has a slash"
    } else if name
        .chars()
        .any(|character| character.is_whitespace() || character.is_control())
    {
        "it has a space or a control character"
    } else {
        return Ok(());
    };
    Err(NetworkError::BadName {
        owner: owner.to_owned(),
        name: quote(name),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass_and_others_say_why() {
        for name in ["conv1", "block-2_3", "größe", "x".repeat(100).as_str()] {
            check_name("layer 1", name).unwrap();
        }
        for (name, reason) in [
            ("", "empty"),
            ("input", "network's input"),
            ("a.b", "dot"),
            ("a/b", "slash"),
            ("a b", "space"),
            ("a\u{7}", "control"),
            (&"x".repeat(101), "longer"),
        ] {
            let message = check_name("layer 1", name).unwrap_err().to_string();
            assert!(
                message.contains(reason) && message.starts_with("layer 1: "),
                "{message}"
            );
            assert!(!message.contains('\u{7}'));
        }
    }
}
