//! The real sets, where `$SKINNY_DATA` says they are; without it, each test says that it was skipped.

use std::path::PathBuf;
use std::sync::Arc;

use skinny_data::{DataRoots, Dataset, LoadOptions, Loader, LoaderOptions, Split, load};

/// The folder `name` of the data, if there is any.
fn data(name: &str) -> Option<(DataRoots, PathBuf)> {
    let root = std::env::var_os("SKINNY_DATA").map(PathBuf::from);
    let found = root.filter(|root| root.join(name).is_dir());
    if found.is_none() {
        eprintln!(
            "SKIPPED: no {name}/ in $SKINNY_DATA; set it to the folder that holds the data sets"
        );
    }
    found.map(|root| (DataRoots::from_places(vec![root.clone()]), root.join(name)))
}

fn check_statistics(dataset: &Dataset, mean: f64, std: f64) {
    let info = dataset.info(usize::MAX).unwrap();
    assert_eq!(info.measured, dataset.len());
    assert!((info.mean[0] - mean).abs() < 5e-5, "{:?}", info.mean);
    assert!((info.std[0] - std).abs() < 5e-5, "{:?}", info.std);
    let preprocess = dataset.preprocess().unwrap();
    assert_eq!(
        (preprocess.mean, preprocess.std),
        (vec![mean as f32], vec![std as f32])
    );
}

fn like_mnist(name: &str) -> Option<Split> {
    let (roots, _) = data(name)?;
    let split = load(name, &roots, &LoadOptions::default()).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (60_000, 10_000));
    assert_eq!(split.train.shape, [1, 28, 28]);
    Some(split)
}

#[test]
fn mnist_is_what_is_published() {
    let Some(split) = like_mnist("mnist") else {
        return;
    };
    assert_eq!(split.train.labels[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(split.test.labels[..5], [7, 2, 1, 0, 4]);
    check_statistics(&split.train, 0.1307, 0.3081);
    let info = split.train.info(1).unwrap();
    let counts: Vec<usize> = info.classes.iter().map(|(_, count)| *count).collect();
    assert_eq!(
        counts,
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    );
}

#[test]
fn fashion_mnist_is_what_is_published() {
    let Some(split) = like_mnist("fashion-mnist") else {
        return;
    };
    assert_eq!(split.train.labels[..5], [9, 0, 0, 3, 0]);
    assert_eq!(split.train.label_names[9], "Ankle boot");
    check_statistics(&split.train, 0.2860, 0.3530);
    let info = split.train.info(1).unwrap();
    assert!(info.classes.iter().all(|(_, count)| *count == 6000));
}

#[test]
fn cifar_is_what_is_published() {
    for (name, folder, first, each, mean, std) in [
        (
            "cifar10",
            "cifar-10-batches-bin",
            [6, 9, 9, 4, 1],
            5000,
            [0.4914, 0.4822, 0.4465],
            [0.2470, 0.2435, 0.2616],
        ),
        (
            "cifar100",
            "cifar-100-binary",
            [19, 29, 0, 11, 1],
            500,
            [0.5071, 0.4865, 0.4409],
            [0.2673, 0.2564, 0.2762],
        ),
        (
            "cifar100-coarse",
            "cifar-100-binary",
            [11, 15, 4, 14, 1],
            2500,
            [0.5071, 0.4865, 0.4409],
            [0.2673, 0.2564, 0.2762],
        ),
    ] {
        let Some((roots, _)) = data(folder) else {
            continue;
        };
        let split = load(name, &roots, &LoadOptions::default()).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (50_000, 10_000));
        assert_eq!(split.train.labels[..5], first);
        let info = split.train.info(usize::MAX).unwrap();
        assert!(info.classes.iter().all(|(_, count)| *count == each));
        for channel in 0..3 {
            assert!((info.mean[channel] - mean[channel]).abs() < 6e-5);
            assert!((info.std[channel] - std[channel]).abs() < 6e-5);
        }
        let preprocess = split.train.preprocess().unwrap();
        assert_eq!(preprocess.mean, mean.map(|mean| mean as f32));
        assert_eq!(preprocess.std, std.map(|std| std as f32));
    }
}

#[test]
fn photographs_in_class_folders_are_decoded() {
    let Some((roots, path)) = data("imagenette-mini") else {
        return;
    };
    let options = LoadOptions {
        path: Some(path),
        shape: Some([3, 64, 64]),
        resize: Some(73),
        ..LoadOptions::default()
    };
    let split = load("folder", &roots, &options).unwrap();
    assert_eq!(split.train.classes, 10);
    assert!(split.train.label_names.is_sorted() && split.train.label_names[0] == "n01440764");
    assert_eq!(split.train.len() + split.test.len(), 1800);
    let preprocess = split
        .test
        .subset(&(0..100).map(|n| n * 2).collect::<Vec<_>>())
        .preprocess()
        .unwrap();
    // Photographs have about ImageNet's statistics: 0.485 0.456 0.406 and 0.229 0.224 0.225.
    for (found, expected) in preprocess.mean.iter().zip([0.485, 0.456, 0.406]) {
        assert!((found - expected).abs() < 0.06, "{:?}", preprocess.mean);
    }
    assert!(
        preprocess.std.iter().all(|std| (0.2..0.35).contains(std)),
        "{:?}",
        preprocess.std
    );

    let some = Arc::new(
        split
            .train
            .subset(&(0..24).map(|n| n * 30).collect::<Vec<_>>()),
    );
    let run = |workers| {
        let options = LoaderOptions {
            workers,
            augment: vec!["mirror".parse().unwrap(), "shift:4".parse().unwrap()],
            ..LoaderOptions::training(7, 2, 0)
        };
        Loader::new(Arc::clone(&some), &preprocess, options)
            .unwrap()
            .map(|batch| batch.unwrap().images.clone())
            .collect::<Vec<_>>()
    };
    let one = run(1);
    assert_eq!(
        one.iter().map(Vec::len).sum::<usize>(),
        2 * 24 * 3 * 64 * 64
    );
    assert!(one == run(3));
}
