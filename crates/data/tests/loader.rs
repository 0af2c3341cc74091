//! The loader's promises: every picture once in an epoch, the same bits whatever the number of workers,
//! a start at any batch, buffers used again, errors in their place.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use skinny_data::{Augment, Batch, DataRoots, Dataset, LoadOptions, Loader, LoaderOptions, load};
use skinny_network::{Gcn, Preprocess};

const SHAPE: [usize; 3] = [2, 5, 6];

/// Pictures that differ from each other; picture `n` has label `n % 3`.
fn set(count: usize) -> Arc<Dataset> {
    let length = SHAPE.iter().product::<usize>();
    let dataset = Dataset::in_memory(
        "set",
        SHAPE,
        ["a", "b", "c"].map(String::from).to_vec(),
        (0..count as u32).map(|n| n % 3).collect(),
        (0..count * length)
            .map(|i| (i as u32).wrapping_mul(2_654_435_761).rotate_left(11) as u8)
            .collect(),
    );
    Arc::new(dataset.unwrap())
}

fn preprocess() -> Preprocess {
    Preprocess {
        mean: vec![0.5, 0.4],
        std: vec![0.2, 0.3],
        ..Preprocess::default()
    }
}

fn augmented(batch: usize, epochs: usize, seed: u64) -> LoaderOptions {
    LoaderOptions {
        augment: ["shift:2", "affine:10,0.1,5", "mirror"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..LoaderOptions::training(batch, epochs, seed)
    }
}

/// What a batch is, to the bit.
type Bits = (usize, usize, Vec<u32>, Vec<u32>, Vec<u32>);

fn bits(batch: &Batch) -> Bits {
    (
        batch.epoch,
        batch.number,
        batch.indices.clone(),
        batch.labels.clone(),
        batch.images.iter().map(|value| value.to_bits()).collect(),
    )
}

fn run(dataset: &Arc<Dataset>, options: LoaderOptions) -> Vec<Bits> {
    Loader::new(Arc::clone(dataset), &preprocess(), options)
        .unwrap()
        .map(|batch| bits(&batch.unwrap()))
        .collect()
}

#[test]
fn the_number_of_workers_and_the_queue_do_not_show() {
    let dataset = set(50);
    let expected = run(&dataset, augmented(8, 3, 7));
    assert_eq!(expected.len(), 21);
    for workers in [1, 2, 4] {
        for queue in [1, 2, 9] {
            let options = LoaderOptions {
                workers,
                queue,
                ..augmented(8, 3, 7)
            };
            assert!(
                run(&dataset, options) == expected,
                "{workers} workers, queue {queue}"
            );
        }
    }
}

#[test]
fn seeds_and_epochs_have_orders_and_augmentation_of_their_own() {
    let dataset = set(30);
    let order = |seed, epoch: usize| {
        let batches = run(&dataset, LoaderOptions::training(30, epoch + 1, seed));
        batches[epoch].2.clone()
    };
    let orders: BTreeSet<_> = [
        order(0, 0),
        order(0, 1),
        order(0, 2),
        order(1, 0),
        order(1, 1),
    ]
    .into();
    assert_eq!(orders.len(), 5);

    let unshuffled = LoaderOptions {
        shuffle: false,
        ..augmented(30, 2, 0)
    };
    let batches = run(&dataset, unshuffled);
    assert_eq!(batches[0].2, batches[1].2);
    assert_ne!(batches[0].4, batches[1].4);
}

#[test]
fn a_stream_can_start_at_any_batch() {
    let dataset = set(23);
    let all = run(&dataset, augmented(5, 3, 1));
    assert_eq!(all.len(), 15);
    for first in 0..=15 {
        let options = LoaderOptions {
            first_epoch: first / 5,
            first_batch: first % 5,
            workers: 2,
            ..augmented(5, 3, 1)
        };
        assert!(run(&dataset, options) == all[first..], "from batch {first}");
    }
    let beyond = LoaderOptions {
        first_epoch: usize::MAX,
        ..augmented(5, 3, 1)
    };
    assert!(run(&dataset, beyond).is_empty());
}

#[test]
fn evaluation_gives_the_pictures_as_they_are_in_order() {
    let dataset = set(13);
    let mut loader = Loader::new(
        Arc::clone(&dataset),
        &preprocess(),
        LoaderOptions::evaluation(4),
    )
    .unwrap();
    assert_eq!(loader.batches_per_epoch(), 4);
    let mut seen = 0;
    let mut image = vec![0.0; dataset.picture_len()];
    for batch in &mut loader {
        let batch = batch.unwrap();
        assert_eq!(batch.len(), if batch.number == 3 { 1 } else { 4 });
        for (position, &index) in batch.indices.iter().enumerate() {
            assert_eq!(index, seen);
            assert_eq!(batch.labels[position], dataset.labels[index as usize]);
            dataset.read(index as usize, &mut image).unwrap();
            preprocess().normalize(&mut image, SHAPE);
            assert_eq!(batch.images[position * image.len()..][..image.len()], image);
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
    assert!(loader.next().is_none());
}

#[test]
fn a_stream_without_end_can_be_left() {
    let dataset = set(10);
    let mut loader = Loader::new(
        Arc::clone(&dataset),
        &preprocess(),
        LoaderOptions {
            workers: 3,
            ..LoaderOptions::training(4, usize::MAX, 0)
        },
    )
    .unwrap();
    for _ in 0..100 {
        loader.next().unwrap().unwrap();
    }
    let last = loader.next().unwrap().unwrap();
    drop(loader);
    // The workers are gone, and with them all but our hold on the set.
    assert_eq!(Arc::strong_count(&dataset), 1);
    assert_eq!((last.epoch, last.number), (33, 1));
    assert_eq!(last.images.len(), 4 * dataset.picture_len());
}

#[test]
fn buffers_are_used_again() {
    let dataset = set(64);
    let options = LoaderOptions {
        workers: 2,
        queue: 3,
        ..augmented(16, 50, 0)
    };
    let loader = Loader::new(Arc::clone(&dataset), &preprocess(), options).unwrap();
    let buffers: BTreeSet<usize> = loader
        .map(|batch| batch.unwrap().images.as_ptr().addr())
        .collect();
    // Three prepared or in preparation, and the one that is being used.
    assert!(
        buffers.len() <= 4,
        "{} buffers for 200 batches",
        buffers.len()
    );
}

#[test]
fn options_that_cannot_work_are_refused() {
    let refused = |options: LoaderOptions, word: &str| {
        let message = Loader::new(set(10), &preprocess(), options)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(word) && !message.contains('\n'),
            "\"{message}\" does not say \"{word}\""
        );
    };
    let base = || LoaderOptions::training(4, 1, 0);
    refused(LoaderOptions { batch: 0, ..base() }, "data.batch");
    refused(
        LoaderOptions {
            workers: 0,
            ..base()
        },
        "data.workers",
    );
    refused(LoaderOptions { queue: 0, ..base() }, "data.queue");
    refused(
        LoaderOptions {
            queue: usize::MAX,
            ..base()
        },
        "data.queue",
    );
    refused(
        LoaderOptions {
            batch: 11,
            drop_last: true,
            ..base()
        },
        "choose a smaller batch",
    );
    refused(
        LoaderOptions {
            augment: vec![Augment::Shift { pixels: u32::MAX }],
            ..base()
        },
        "data.augment",
    );
    refused(
        LoaderOptions {
            fill: f32::NAN,
            ..base()
        },
        "data.fill",
    );
    let preprocess = Preprocess {
        mean: vec![0.0; 5],
        ..Preprocess::default()
    };
    let message = Loader::new(set(10), &preprocess, base())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("mean") && message.contains("2 channels"),
        "{message}"
    );
}

#[test]
fn a_batch_larger_than_the_set_is_the_set() {
    let batches = run(&set(10), LoaderOptions::training(usize::MAX, 2, 0));
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].2.len(), 10);
}

/// A folder of gray pictures of which number `broken` is no picture.
fn folder(count: usize, broken: Option<usize>) -> (tempfile::TempDir, Arc<Dataset>) {
    let root = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        let class = root.path().join(part).join("class");
        fs::create_dir_all(&class).unwrap();
        for number in 0..count {
            let path: PathBuf = class.join(format!("{number:03}.png"));
            if Some(number) == broken {
                fs::write(path, "no picture").unwrap();
            } else {
                image::GrayImage::from_fn(8, 9, |x, y| {
                    image::Luma([(x * y + number as u32) as u8])
                })
                .save(path)
                .unwrap();
            }
        }
    }
    let options = LoadOptions {
        path: Some(root.path().to_owned()),
        shape: Some([1, 6, 6]),
        ..LoadOptions::default()
    };
    let split = load("folder", &DataRoots::from_places(vec![]), &options).unwrap();
    (root, Arc::new(split.train))
}

#[test]
fn an_error_comes_in_its_place_and_ends_the_stream() {
    let (_root, dataset) = folder(20, Some(9));
    for workers in [1, 2, 4] {
        let options = LoaderOptions {
            workers,
            ..LoaderOptions::evaluation(2)
        };
        let mut loader =
            Loader::new(Arc::clone(&dataset), &Preprocess::default(), options).unwrap();
        for _ in 0..4 {
            loader.next().unwrap().unwrap();
        }
        let message = loader.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("009.png"), "{message}");
        assert!(loader.next().is_none());
    }
}

#[test]
fn pictures_kept_from_the_first_epoch_are_the_same_in_the_next() {
    let (_root, dataset) = folder(12, None);
    let options = LoaderOptions {
        shuffle: false,
        workers: 3,
        ..LoaderOptions::training(5, 2, 0)
    };
    let loader = Loader::new(dataset, &Preprocess::default(), options).unwrap();
    let images: Vec<Vec<f32>> = loader.map(|batch| batch.unwrap().images.clone()).collect();
    assert_eq!(images[..3], images[3..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_picture_comes_once_in_an_epoch(
        count in 1_usize..60, batch in 1_usize..20, seed in any::<u64>(), workers in 1_usize..4, drop_last in any::<bool>(),
    ) {
        let dataset = set(count);
        let options = LoaderOptions { workers, drop_last, ..LoaderOptions::training(batch, 3, seed) };
        prop_assume!(options.batches(count) > 0);
        let batches = run(&dataset, options.clone());
        prop_assert_eq!(batches.len(), 3 * options.batches(count));
        for epoch in 0..3 {
            let mut indices: Vec<u32> = batches.iter().filter(|batch| batch.0 == epoch).flat_map(|batch| batch.2.clone()).collect();
            let expected = if drop_last { count / batch * batch } else { count };
            prop_assert_eq!(indices.len(), expected);
            indices.sort_unstable();
            indices.dedup();
            prop_assert_eq!(indices.len(), expected);
            prop_assert!(indices.iter().all(|&index| (index as usize) < count));
        }
        for (position, batch) in batches.iter().enumerate() {
            prop_assert_eq!(batch.0 * options.batches(count) + batch.1, position);
            prop_assert!(!drop_last || batch.2.len() == options.batch);
        }
    }
}

#[test]
fn a_prepared_set_is_augmented_as_it_is() {
    let mut prepared = (*set(7)).clone();
    let values: Vec<f32> = (0..prepared.len() * prepared.picture_len())
        .map(|value| value as f32 + 1000.0)
        .collect();
    prepared.prepared = Some(values.clone());
    let prepared = Arc::new(prepared);
    // Preprocessing that would show.
    let whole = Loader::new(
        Arc::clone(&prepared),
        &preprocess(),
        LoaderOptions::evaluation(7),
    );
    assert_eq!(whole.unwrap().next().unwrap().unwrap().images, values);
    let options = LoaderOptions {
        augment: vec!["cutout:3".parse().unwrap()],
        ..LoaderOptions::evaluation(7)
    };
    let mut covered = Loader::new(prepared, &preprocess(), options).unwrap();
    let images = covered.next().unwrap().unwrap().images.clone();
    let zeros = images.iter().filter(|value| **value == 0.0).count();
    assert!((7 * 2 * 4..=7 * 2 * 9).contains(&zeros), "{zeros}");
    assert!((images.iter().zip(&values)).all(|(found, value)| found == value || *found == 0.0));
}

#[test]
fn what_is_covered_becomes_zero_by_normalization() {
    let cutout = |side: usize| LoaderOptions {
        augment: vec![format!("cutout:{side}").parse().unwrap()],
        ..LoaderOptions::evaluation(7)
    };
    let mut covered = Loader::new(set(7), &preprocess(), cutout(100)).unwrap();
    let images = covered.next().unwrap().unwrap().images.clone();
    assert!(images.iter().all(|value| value.abs() < 1e-6), "{images:?}");
    // Contrast normalization subtracts the mean of each picture, which is what then covers: about 0, and the same all over the square.
    let by_contrast = Preprocess {
        mean: Vec::new(),
        std: Vec::new(),
        gcn: Some(Gcn::default()),
        ..preprocess()
    };
    let mut covered = Loader::new(set(7), &by_contrast, cutout(2)).unwrap();
    let images = covered.next().unwrap().unwrap().images.clone();
    for image in images.chunks(images.len() / 7) {
        let deviation = 55.0 / (image.len() as f32).sqrt();
        let times = |value: &f32| image.iter().filter(|other| *other == value).count();
        let covered = (image.iter()).max_by_key(|value| times(value)).unwrap();
        assert!(
            times(covered) >= 2 && covered.abs() < 0.3 * deviation,
            "{image:?}"
        );
    }
}
