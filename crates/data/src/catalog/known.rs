//! The table of known sets.

use super::{Files, KnownFile, KnownSet, Member, Published, Single, Source};

/// The known sets: the embedded one first, one's own last.
pub fn sets() -> &'static [KnownSet] {
    &SETS
}

static SETS: [KnownSet; 7] = [
    KnownSet {
        name: "glyphs",
        title: "digits and letters drawn by the program",
        shape: Some([1, crate::glyphs::SIDE, crate::glyphs::SIDE]),
        classes: Some(crate::glyphs::CLASSES),
        train: None,
        test: None,
        terms: "part of skinny (MIT or Apache-2.0)",
        homepage: "",
        source: Source::Embedded,
    },
    KnownSet {
        name: "mnist",
        title: "handwritten digits",
        shape: Some([1, 28, 28]),
        classes: Some(10),
        train: Some(60_000),
        test: Some(10_000),
        terms: "none stated by the publisher",
        homepage: "http://yann.lecun.com/exdb/mnist/",
        source: Source::Published(Published {
            folder: "mnist",
            mirrors: &[
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                "https://storage.googleapis.com/cvdf-datasets/mnist",
            ],
            files: Files::Single(&[
                train_images(
                    9_912_422,
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "6bbc9ace898e44ae57da46a324031adb",
                ),
                train_labels(
                    28_881,
                    "d53e105ee54ea40749a09fcbcd1e9432",
                    "a25bea736e30d166cdddb491f175f624",
                ),
                test_images(
                    1_648_877,
                    "9fb629c4189551a2d022fa330f9573f3",
                    "2646ac647ad5339dbf082846283269ea",
                ),
                test_labels(
                    4_542,
                    "ec29112dd5afa0611ce80d1b7f02629c",
                    "27ae3e4e09519cfbb04c329615203637",
                ),
            ]),
        }),
    },
    KnownSet {
        name: "fashion-mnist",
        title: "pictures of clothes, in the form of MNIST",
        shape: Some([1, 28, 28]),
        classes: Some(10),
        train: Some(60_000),
        test: Some(10_000),
        terms: "MIT (Zalando)",
        homepage: "https://github.com/zalandoresearch/fashion-mnist",
        source: Source::Published(Published {
            folder: "fashion-mnist",
            mirrors: &[
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            ],
            files: Files::Single(&[
                train_images(
                    26_421_880,
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                ),
                train_labels(
                    29_515,
                    "25c81989df183df01b3e8a0aad5dffbe",
                    "9018921c3c673c538a1fc5bad174d6f9",
                ),
                test_images(
                    4_422_102,
                    "bef4ecab320f06d8554ea6380940ec79",
                    "8181f5470baa50b63fa0f6fddb340f0a",
                ),
                test_labels(
                    5_148,
                    "bb300cfdad3c16e7a12a480ee83cd310",
                    "15d484375f8d13e6eb1aabb0c3f46965",
                ),
            ]),
        }),
    },
    KnownSet {
        name: "cifar10",
        title: "small photographs of animals and vehicles",
        shape: Some([3, 32, 32]),
        classes: Some(10),
        train: Some(50_000),
        test: Some(10_000),
        terms: "none stated by the publisher",
        homepage: "https://www.cs.toronto.edu/~kriz/cifar.html",
        source: Source::Published(Published {
            folder: "cifar-10-batches-bin",
            mirrors: &CIFAR_MIRRORS,
            files: Files::Archive {
                archive: KnownFile {
                    name: "cifar-10-binary.tar.gz",
                    bytes: 170_052_171,
                    md5: "c32a1d4ab5d03f1284b67883e8d87530",
                },
                members: &[
                    batch("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
                    batch("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
                    batch("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
                    batch("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
                    batch("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
                    batch("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
                    Member::Text {
                        name: "batches.meta.txt",
                        limit: TEXT_LIMIT,
                    },
                ],
            },
        }),
    },
    KnownSet {
        name: "cifar100",
        title: "small photographs of a hundred kinds",
        shape: Some([3, 32, 32]),
        classes: Some(100),
        train: Some(50_000),
        test: Some(10_000),
        terms: "none stated by the publisher",
        homepage: "https://www.cs.toronto.edu/~kriz/cifar.html",
        source: CIFAR_100,
    },
    KnownSet {
        name: "cifar100-coarse",
        title: "the photographs of cifar100 in 20 kinds",
        shape: Some([3, 32, 32]),
        classes: Some(20),
        train: Some(50_000),
        test: Some(10_000),
        terms: "none stated by the publisher",
        homepage: "https://www.cs.toronto.edu/~kriz/cifar.html",
        source: CIFAR_100,
    },
    KnownSet {
        name: "folder",
        title: "your own pictures (PNG, JPEG), one folder per class",
        shape: None,
        classes: None,
        train: None,
        test: None,
        terms: "yours",
        homepage: "",
        source: Source::Own,
    },
];

/// One archive for both ways to sort it.
const CIFAR_100: Source = Source::Published(Published {
    folder: "cifar-100-binary",
    mirrors: &CIFAR_MIRRORS,
    files: Files::Archive {
        archive: KnownFile {
            name: "cifar-100-binary.tar.gz",
            bytes: 168_513_733,
            md5: "03b5dce01913d631647c71ecec9e9cb8",
        },
        members: &[
            Member::Exact(KnownFile {
                name: "train.bin",
                bytes: 50_000 * (2 + 3072),
                md5: "6172c7755cfe09b2fe270c85cebc1b15",
            }),
            Member::Exact(KnownFile {
                name: "test.bin",
                bytes: 10_000 * (2 + 3072),
                md5: "4499cfba6c016c1be1438163640a0898",
            }),
            Member::Text {
                name: "fine_label_names.txt",
                limit: TEXT_LIMIT,
            },
            Member::Text {
                name: "coarse_label_names.txt",
                limit: TEXT_LIMIT,
            },
        ],
    },
});

const CIFAR_MIRRORS: [&str; 2] = [
    "https://www.cs.toronto.edu/~kriz",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets",
];

/// Longest label list that is accepted, in bytes; the longest published one has 725.
const TEXT_LIMIT: u64 = 16 * 1024;

/// 60,000 pictures of 28 × 28 after an IDX header of 16 bytes.
const fn train_images(bytes: u64, md5: &'static str, plain_md5: &'static str) -> Single {
    Single {
        served: KnownFile {
            name: "train-images-idx3-ubyte.gz",
            bytes,
            md5,
        },
        plain: KnownFile {
            name: "train-images-idx3-ubyte",
            bytes: 16 + 60_000 * 784,
            md5: plain_md5,
        },
    }
}

/// 60,000 labels after an IDX header of 8 bytes.
const fn train_labels(bytes: u64, md5: &'static str, plain_md5: &'static str) -> Single {
    Single {
        served: KnownFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes,
            md5,
        },
        plain: KnownFile {
            name: "train-labels-idx1-ubyte",
            bytes: 8 + 60_000,
            md5: plain_md5,
        },
    }
}

/// 10,000 pictures of 28 × 28 after an IDX header of 16 bytes.
const fn test_images(bytes: u64, md5: &'static str, plain_md5: &'static str) -> Single {
    Single {
        served: KnownFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes,
            md5,
        },
        plain: KnownFile {
            name: "t10k-images-idx3-ubyte",
            bytes: 16 + 10_000 * 784,
            md5: plain_md5,
        },
    }
}

/// 10,000 labels after an IDX header of 8 bytes.
const fn test_labels(bytes: u64, md5: &'static str, plain_md5: &'static str) -> Single {
    Single {
        served: KnownFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes,
            md5,
        },
        plain: KnownFile {
            name: "t10k-labels-idx1-ubyte",
            bytes: 8 + 10_000,
            md5: plain_md5,
        },
    }
}

/// 10,000 pictures of CIFAR-10, each a label and 3 × 32 × 32 values.
const fn batch(name: &'static str, md5: &'static str) -> Member {
    Member::Exact(KnownFile {
        name,
        bytes: 10_000 * (1 + 3072),
        md5,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(published: &Published) -> Vec<KnownFile> {
        match published.files {
            Files::Single(files) => files
                .iter()
                .flat_map(|file| [file.served, file.plain])
                .collect(),
            Files::Archive { archive, members } => std::iter::once(archive)
                .chain(members.iter().filter_map(|member| match member {
                    Member::Exact(file) => Some(*file),
                    Member::Text { .. } => None,
                }))
                .collect(),
        }
    }

    #[test]
    fn names_folders_and_checksums_are_distinct_and_well_formed() {
        let mut published: Vec<_> = sets().iter().filter_map(KnownSet::published).collect();
        // The two ways to sort CIFAR-100 share their files.
        published.dedup();
        let mut checksums: Vec<_> = published
            .iter()
            .flat_map(|set| files(set))
            .map(|file| file.md5)
            .collect();
        assert!(checksums.iter().all(|md5| {
            md5.len() == 32
                && md5
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }));
        let count = checksums.len();
        checksums.sort_unstable();
        checksums.dedup();
        assert_eq!(checksums.len(), count);
        for set in &published {
            assert!(!set.folder.contains(['/', '\\', '.']));
            assert!(
                files(set)
                    .iter()
                    .all(|file| !file.name.contains(['/', '\\']) && file.bytes > 0)
            );
        }
    }

    #[test]
    fn every_file_has_two_mirrors_at_least() {
        for set in sets().iter().filter_map(KnownSet::published) {
            assert!(set.mirrors.len() >= 2);
            for mirror in set.mirrors {
                assert!(mirror.starts_with("https://") || mirror.starts_with("http://"));
                assert!(!mirror.ends_with('/'));
            }
        }
    }
}
