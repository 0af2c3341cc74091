//! MD5 of files, in the form in which it is published.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::{Digest, Md5};

/// A running checksum.
#[derive(Default)]
pub(super) struct Checksum(Md5);

impl Checksum {
    /// Takes in more bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The MD5 of all bytes, in lower-case hexadecimal.
    pub(super) fn hexadecimal(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The MD5 of everything that is left to read.
pub(super) fn of_reader(reader: &mut impl Read) -> io::Result<String> {
    let mut checksum = Checksum::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(checksum.hexadecimal()),
            Ok(count) => checksum.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The MD5 of a file.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    of_reader(&mut File::open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_values_of_the_standard() {
        assert_eq!(
            of_reader(&mut &b""[..]).unwrap(),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(
            of_reader(&mut &b"message digest"[..]).unwrap(),
            "f96b697d7cb7938d525a2f31aaf161d0"
        );
    }
}
