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
    "cifar10-nin-dense",
    "cifar10-nin-iht-2x",
    "cifar10-nin-iht-4x",
    "cifar10-nin-augmented-dense",
    "cifar10-nin-augmented-iht-2x",
    "cifar10-nin-augmented-iht-4x",
    "cifar100-nin-dense",
    "cifar100-nin-iht-2x",
    "cifar100-nin-augmented-dense",
    "cifar100-nin-augmented-iht-2x",
    "cifar10-nin-bn-dense",
    "cifar10-nin-bn-iht-2x",
    "cifar10-nin-bn-iht-4x",
    "cifar10-vgg11-dense",
    "cifar10-vgg11-iht-10x",
    "cifar10-wrn-22-2-dense",
    "cifar10-wrn-22-2-iht-5x",
    "cifar10-resnet20-dense",
    "cifar10-resnet20-iht-10x",
    "cifar10-resnet20-one-shot-10x",
    "cifar10-resnet20-gradual-10x",
    "cifar10-resnet20-ac-dc-10x",
    "cifar10-resnet20-rigl-10x",
];
