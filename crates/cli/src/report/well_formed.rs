//! Checks on pages and pictures for tests.

use std::collections::HashSet;

/// Checks that every tag is closed in order, every attribute quoted, every `&` an entity; returns all (tag, attributes).
pub fn well_formed(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut tags = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    while let Some(start) = rest.find('<') {
        let raw = open.last().is_some_and(|name| name == "style");
        if !raw {
            entities(&rest[..start]);
            assert!(
                !rest[..start].contains('>'),
                "a stray > in {:?}",
                &rest[..start]
            );
        }
        rest = &rest[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = &comment[comment.find("-->").expect("a comment ends") + 3..];
            continue;
        }
        let end = rest.find('>').expect("a tag ends");
        let (tag, after) = (&rest[1..end], &rest[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed in order");
            continue;
        }
        let (inner, alone) = tag
            .strip_suffix('/')
            .map_or((tag, false), |inner| (inner, true));
        let name = inner
            .split_whitespace()
            .next()
            .expect("a tag has a name")
            .to_string();
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric()),
            "tag {name:?}"
        );
        tags.push((name.clone(), attributes(inner[name.len()..].trim())));
        if !alone {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(
        !text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\t')),
        "control characters"
    );
    tags
}

fn entities(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#39;"];
        assert!(
            known.iter().any(|entity| text[at..].starts_with(entity)),
            "bare & in {:?}",
            &text[at..]
        );
    }
}

fn attributes(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let (name, value) = text
            .split_once("=\"")
            .unwrap_or_else(|| panic!("an attribute has a value: {text:?}"));
        let (value, after) = value.split_once('"').expect("a value ends");
        assert!(
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-:".contains(c)),
            "attribute {name:?}"
        );
        entities(value);
        assert!(found.iter().all(|(other, _)| other != name), "{name} twice");
        found.push((name.to_string(), value.to_string()));
        text = after.trim_start();
    }
    found
}

/// Checks that a page loads nothing from elsewhere, runs nothing and uses no id twice.
pub fn offline(page: &str) {
    let mut ids = HashSet::new();
    for (tag, attributes) in well_formed(page) {
        assert!(
            ![
                "script", "link", "iframe", "object", "embed", "base", "form"
            ]
            .contains(&tag.as_str()),
            "<{tag}>"
        );
        for (name, value) in attributes {
            assert!(!name.starts_with("on"), "{name}");
            if ["src", "href", "xlink:href", "action", "srcset", "poster"].contains(&name.as_str())
            {
                assert!(
                    value.starts_with("data:image/png;base64,"),
                    "<{tag} {name}={value:.60}>"
                );
            }
            if name == "id" {
                assert!(ids.insert(value.clone()), "id {value} twice");
            }
        }
    }
    let style = &page[page.find("<style>").unwrap()..page.find("</style>").unwrap()];
    assert!(!style.contains("url(") && !style.contains("@import"));
}
