//! The files inside a zip file that holds each of them as it is, which is how PyTorch writes them.

use std::ops::Range;

/// A file in a zip file: its name and where its bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File<'a> {
    pub name: &'a str,
    pub bytes: Range<usize>,
}

/// The end of the central directory, without its comment.
const END: usize = 22;
/// The locator of the 64-bit end record.
const LOCATOR: usize = 20;
/// The 64-bit end record.
const END_64: usize = 56;
/// An entry of the central directory, without names.
const CENTRAL: usize = 46;
/// The header before a file's bytes, without names.
const LOCAL: usize = 30;
/// In a 16- or 32-bit field: the number is in the 64-bit extension.
const EXTENDED: u64 = 0xffff_ffff;

/// The files of a zip file, in the order of its directory.
///
/// # Errors
/// What is not a zip file, or is compressed or encrypted, or has files on top of each other.
pub(crate) fn files(zip: &[u8]) -> Result<Vec<File<'_>>, String> {
    let directory = directory(zip)?;
    let mut files = Vec::new();
    let mut rest = directory;
    while !rest.is_empty() {
        let entry = part(zip, rest.start, CENTRAL)?;
        if !entry.starts_with(b"PK\x01\x02") {
            return Err(damaged("an entry of its directory has no signature"));
        }
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(entry, at)));
        let names = part(zip, rest.start + CENTRAL, lengths.iter().sum())?;
        let (name, names) = names.split_at(lengths[0]);
        let name = str::from_utf8(name).map_err(|_| damaged("a name is no text"))?;
        rest.start += CENTRAL + lengths.iter().sum::<usize>();
        if rest.start > rest.end {
            return Err(damaged("its directory ends inside an entry"));
        }
        if name.ends_with('/') {
            continue;
        }
        // Sizes and place, from the extension where they do not fit.
        let mut fields = [24, 20, 42].map(|at| u64::from(u32_at(entry, at)));
        let mut extension = extension(&names[..lengths[1]]);
        for field in fields.iter_mut().filter(|field| **field == EXTENDED) {
            let (number, more) = (extension.split_first_chunk::<8>())
                .ok_or_else(|| damaged("a 64-bit size is missing"))?;
            (*field, extension) = (u64::from_le_bytes(*number), more);
        }
        let [size, stored, place] = fields;
        let quoted = || crate::error::quote(name);
        if u16_at(entry, 8) & 1 != 0 {
            return Err(format!(
                "its file {} is encrypted; save it without",
                quoted()
            ));
        }
        if u16_at(entry, 10) != 0 || size != stored {
            return Err(format!(
                "its file {} is compressed, which torch.save never does; save it with torch.save",
                quoted()
            ));
        }
        let place = usize::try_from(place).map_err(|_| beyond(name))?;
        let local = part(zip, place, LOCAL).map_err(|_| beyond(name))?;
        if !local.starts_with(b"PK\x03\x04") {
            return Err(damaged("a file has no header"));
        }
        let start = place + LOCAL + usize::from(u16_at(local, 26)) + usize::from(u16_at(local, 28));
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| start.checked_add(size))
            .filter(|end| *end <= zip.len())
            .ok_or_else(|| beyond(name))?;
        files.push(File {
            name,
            bytes: start..end,
        });
    }
    let mut ranges: Vec<&Range<usize>> = files.iter().map(|file| &file.bytes).collect();
    ranges.sort_by_key(|range| (range.start, range.end));
    if ranges.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(damaged("two of its files overlap"));
    }
    Ok(files)
}

/// Where the central directory is.
fn directory(zip: &[u8]) -> Result<Range<usize>, String> {
    // A comment of at most 65,535 bytes may follow.
    let last = zip.len().checked_sub(END);
    let end = last
        .and_then(|last| {
            (last.saturating_sub(0xffff)..=last)
                .rev()
                .find(|at| zip[*at..].starts_with(b"PK\x05\x06"))
        })
        .ok_or_else(|| damaged("it has no directory"))?;
    let record = &zip[end..end + END];
    let (mut size, mut start) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    let locator = end.checked_sub(LOCATOR).map(|at| &zip[at..end]);
    if let Some(locator) = locator.filter(|locator| locator.starts_with(b"PK\x06\x07")) {
        let at =
            usize::try_from(u64_at(locator, 8)).map_err(|_| damaged("its end is beyond it"))?;
        let record = part(zip, at, END_64)?;
        if !record.starts_with(b"PK\x06\x06") {
            return Err(damaged("its 64-bit directory has no signature"));
        }
        (size, start) = (u64_at(record, 40), u64_at(record, 48));
    }
    let range = || {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        (end <= zip.len()).then_some(start..end)
    };
    range().ok_or_else(|| damaged("its directory lies beyond its end"))
}

/// The 64-bit numbers among the extra fields of a directory entry.
fn extension(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(field) = extra.get(4..4 + length) else {
            break;
        };
        if kind == 1 {
            return field;
        }
        extra = &extra[4 + length..];
    }
    &[]
}

fn part(zip: &[u8], start: usize, length: usize) -> Result<&[u8], String> {
    zip.get(start..)
        .and_then(|rest| rest.get(..length))
        .ok_or_else(|| damaged("it ends too early"))
}

fn damaged(reason: &str) -> String {
    format!("as a zip file it is damaged, {reason}; fetch or save it again")
}

fn beyond(name: &str) -> String {
    format!(
        "its file {} lies beyond its end; fetch or save it again",
        crate::error::quote(name)
    )
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A zip file of these files as they are; for tests.
#[cfg(test)]
pub(crate) fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in files {
        let place = zip.len() as u32;
        let size = (bytes.len() as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        // Version, flags, method, time, date, checksum; sizes; lengths of the names.
        let common = [&[0; 14], size.as_slice(), &size, &length, &[0; 2]].concat();
        zip.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), bytes].concat());
        let entry = [
            b"PK\x01\x02\0\0",
            common.as_slice(),
            &[0; 10],
            &place.to_le_bytes(),
        ]
        .concat();
        directory.extend([entry.as_slice(), name.as_bytes()].concat());
    }
    let (start, size) = (zip.len() as u32, directory.len() as u32);
    let count = (files.len() as u16).to_le_bytes();
    zip.extend(directory);
    zip.extend([b"PK\x05\x06", [0; 4].as_slice(), &count, &count].concat());
    zip.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    zip.extend([0; 2]);
    zip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_files_are_found() {
        let zip = stored(&[("a/data.pkl", b"xyz"), ("folder/", b""), ("a/data/0", b"")]);
        let found = files(&zip).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "a/data.pkl");
        assert_eq!(&zip[found[0].bytes.clone()], b"xyz");
        assert!(found[1].bytes.is_empty());
        // A comment may follow the end.
        let mut commented = zip.clone();
        let at = commented.len() - 2;
        commented[at] = 3;
        commented.extend(b"PK!");
        assert_eq!(files(&commented).unwrap(), found);
    }

    #[test]
    fn damage_anywhere_is_an_error_or_gives_ranges_inside() {
        let zip = stored(&[("a", b"12345678"), ("b", b"87654321")]);
        for at in 0..zip.len() {
            assert!(files(&zip[..at]).is_err(), "cut at {at}");
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = zip.clone();
                damaged[at] = value;
                if let Ok(found) = files(&damaged) {
                    assert!(found.iter().all(|file| file.bytes.end <= damaged.len()));
                }
            }
        }
    }

    #[test]
    fn compressed_encrypted_and_overlapping_files_are_refused() {
        let zip = stored(&[("a", b"1234"), ("b", b"5678")]);
        let central = zip.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let refusal = |at: usize, value: u8| {
            let mut wrong = zip.clone();
            wrong[central + at] = value;
            files(&wrong).unwrap_err()
        };
        assert!(refusal(10, 8).contains("compressed"));
        assert!(refusal(8, 1).contains("encrypted"));
        // The second file where the first one is.
        assert!(refusal(CENTRAL + 1 + 42, 0).contains("overlap"));
    }
}
