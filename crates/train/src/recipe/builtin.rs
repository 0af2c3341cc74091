//! The recipes that come with the program.

/// A recipe in the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub toml: &'static str,
}

impl BuiltIn {
    /// The first line of its comment.
    pub fn description(&self) -> &'static str {
        self.toml
            .lines()
            .next()
            .map_or("", |line| line.trim_start_matches(['#', ' ']))
    }
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(BuiltIn { name: $name, toml: include_str!(concat!("../../recipes/", $name, ".toml")) }),*]
    };
}

/// All built-in recipes; the first is the default.
pub const BUILT_IN: &[BuiltIn] = built_in![
    "glyphs-lenet5-iht-10x",
    "mnist-lenet5-dense",
    "mnist-lenet5-iht-2x",
    "mnist-lenet5-iht-4x",
    "mnist-lenet5-iht-10x",
    "mnist-lenet5-iht-20x",
    "mnist-lenet300-iht-10x",
    "fashion-lenet5-iht-10x",
    "mnist-nin-dense",
    "mnist-nin-iht-2x",
    "mnist-nin-iht-4x",
];
