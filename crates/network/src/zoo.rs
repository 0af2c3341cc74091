//! The networks that come with the crate, as the TOML files of `zoo/`.

use std::path::Path;

use crate::description::Network;
use crate::error::{NetworkError, nearest, quote};

macro_rules! zoo {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../zoo/", $name, ".toml")))),*]
    };
}

/// Name and text of every network, smallest first.
const ZOO: &[(&str, &str)] = zoo![
    "lenet-300-100",
    "lenet5",
    "nin-mnist",
    "nin-cifar10",
    "nin-cifar10-bn",
    "nin-cifar100",
    "resnet20",
    "wrn-22-2",
    "vgg11-cifar",
    "nin-imagenet",
    "alexnet",
    "caffenet",
];

/// The names that [`crate::Network::load`] knows, smallest network first.
pub fn zoo_names() -> impl Iterator<Item = &'static str> {
    ZOO.iter().map(|(name, _)| *name)
}

/// The TOML text of a network of the zoo.
pub fn zoo_text(name: &str) -> Option<&'static str> {
    ZOO.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

impl Network {
    /// A network of the zoo by name, or the network in a TOML file by path; checked with
    /// [`Network::graph`].
    ///
    /// # Errors
    /// A name that is neither (with the nearest name), an unreadable file, or a wrong description.
    pub fn load(name_or_path: &str) -> Result<Self, NetworkError> {
        if let Some(text) = zoo_text(name_or_path) {
            return read(text);
        }
        let path = Path::new(name_or_path);
        if path.exists() {
            return Self::load_file(path);
        }
        let known = zoo_names().collect::<Vec<_>>().join(", ");
        Err(NetworkError::UnknownNetwork {
            name: quote(name_or_path),
            hint: match nearest(name_or_path, zoo_names()) {
                Some(near) => format!("did you mean `{near}`? The zoo has {known}"),
                None => format!("the zoo has {known}; or give the path of a .toml file"),
            },
        })
    }

    /// The network in a TOML file; checked with [`Network::graph`].
    ///
    /// # Errors
    /// An unreadable file or a wrong description; both name the file.
    pub fn load_file(path: &Path) -> Result<Self, NetworkError> {
        let text = std::fs::read_to_string(path).map_err(|source| NetworkError::Read {
            path: path.to_owned(),
            source,
        })?;
        read(&text).map_err(|source| NetworkError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

fn read(text: &str) -> Result<Network, NetworkError> {
    let network = Network::from_toml(text)?;
    network.graph()?;
    Ok(network)
}
