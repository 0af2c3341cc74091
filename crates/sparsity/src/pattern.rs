//! Names of layers, written with `*`.

/// Whether a pattern, in which `*` stands for any text, fits the whole name of a layer, with or without its ending `.weight`: `conv*`
/// and `conv1` both fit `conv1.weight`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let layer = name.strip_suffix(".weight");
    fits(pattern, name) || layer.is_some_and(|layer| fits(pattern, layer))
}

fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    // Taking each middle part where it first occurs leaves the most for those that follow.
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        for (pattern, name) in [
            ("conv1", "conv1.weight"),
            ("conv1.weight", "conv1.weight"),
            ("conv*", "conv1.weight"),
            ("*", "anything"),
            ("*1", "conv1.weight"),
            ("*.weight", "conv1.weight"),
            ("block*.conv*", "block12.conv3.weight"),
            ("a*b*a", "aba"),
            ("*ab", "aab"),
            ("", ""),
            ("**", ""),
        ] {
            assert!(matches(pattern, name), "{pattern} should fit {name}");
        }
        for (pattern, name) in [
            ("conv", "conv1.weight"),
            ("conv1", "conv10.weight"),
            ("conv1.bias", "conv1.weight"),
            ("a*a", "a"),
            ("ab*ba", "aba"),
            ("*b*", "aaa"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} should not fit {name}");
        }
    }
}
