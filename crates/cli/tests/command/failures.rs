//! Input that cannot work is refused in one line that names the thing and the cure, with the exit code of its kind, before
//! anything is written: 2 usage or recipe, 3 data or files, 4 diverged.

use std::fs;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use crate::support::{Place, Told};

/// Trains the small recipe with `--set` and makes sure that no trace is left where it is refused.
#[track_caller]
fn with(place: &Place, settings: &[&str]) -> Told {
    let mut more = Vec::new();
    for setting in settings {
        more.extend(["--set", setting]);
    }
    let told = place.train("out", &more);
    assert!(
        told.code == 0 || !place.path("out").exists(),
        "{settings:?}"
    );
    told
}

#[test]
fn recipes_that_are_not_there_are_refused_with_the_nearest_one() {
    let place = Place::new();
    for (recipe, words) in [
        (
            "mnist-lenet5-iht-10",
            ["`mnist-lenet5-iht-10`", "`mnist-lenet5-iht-10x`"],
        ),
        ("nonsense", ["`nonsense`", "`skinny recipes`"]),
        ("nowhere.toml", ["nowhere.toml", "`skinny recipes`"]),
        ("data", ["data", "`skinny recipes`"]),
    ] {
        for verb in ["train", "plan"] {
            place.run(&[verb, recipe]).refused(2, &words);
        }
        place.run(&["recipes", recipe]).refused(2, &words);
        let told = place.run(&["eval", "weights.safetensors", "--recipe", recipe]);
        told.refused(2, &words);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let place = Place::new();
    for (setting, words) in [
        ("train.epoch=3", &["`epoch`", "train", "`epochs`"][..]),
        ("trian.epochs=3", &["`trian`", "`train`"]),
        (
            "sparsity.densty=0.1",
            &["`densty`", "sparsity", "`density`"],
        ),
        ("zzz=1", &["`zzz`", "train", "sparsity"]),
        ("epochs", &["`epochs`", "key=value"]),
        ("name.x=1", &["`name.x=1`"]),
        ("train.epochs=many", &["train.epochs", "\"many\""]),
        ("train.epochs=-1", &["train.epochs", "-1"]),
        ("train.epochs=0", &["`train.epochs`", "at least 1"]),
        ("train.lr=0", &["`train.lr`", "not above 0", "at most 1000"]),
        ("train.lr=nan", &["`train.lr`", "not above 0"]),
        (
            "train.clip_norm=-1",
            &[
                "`train.clip_norm`",
                "-1 is not a finite number of 0 or more",
            ],
        ),
        ("train.momentum=1", &["`train.momentum`", "between"]),
        (
            "train.schedule=often",
            &["train.schedule", "often", "one-cycle"],
        ),
        ("train.optimizer=sdg", &["train.optimizer", "sdg", "sgd"]),
        ("train.lr_warmup='200%'", &["train.lr_warmup", "200%"]),
        (
            "train={epochs=5, lr_warmup='5ep'}",
            &["`train.lr_warmup`", "40 of 40 steps"],
        ),
        (
            "train.factors.'nothing*'.lr=0.1",
            &["nothing*", "skinny summary"],
        ),
        ("train.factors.'fc*'.lr=nan", &["fc*", "lr", "between"]),
        (
            "train.init={kind='gaussian', std=nan}",
            &["train.init.std", "between"],
        ),
        ("train.lr_at=['50%']", &["`train.lr_at`", "multi-step"]),
        ("train.lr_every='50%'", &["`train.lr_every`", "step"]),
        (
            "train.schedule=multi-step",
            &["`train.lr_at`", "never fall"],
        ),
        ("train.schedule=step", &["`train.lr_every`", "never fall"]),
        ("train.optimizer=adamw", &["`train.nesterov`", "SGD"]),
        ("train.beta2=0.9", &["`train.beta2`", "adamw"]),
        ("train.epsilon=1e-3", &["`train.epsilon`", "adamw"]),
        (
            "train.epsilon=1e-50",
            &["`train.epsilon`", "single precision"],
        ),
        (
            "train.clip_norm=1e-60",
            &["`train.clip_norm`", "single precision"],
        ),
        ("train.lr_final=0.1", &["`train.lr_final`", "cosine"]),
        ("train.lr_factor=0.5", &["`train.lr_factor`", "multi-step"]),
        (
            "train={epochs=5, schedule='one-cycle', lr_warmup='1ep'}",
            &["`train.lr_warmup`", "one-cycle"],
        ),
        (
            "train={epochs=5, schedule='step', lr_every='0it'}",
            &["`train.lr_every`", "0 of 40 steps"],
        ),
        (
            "train={epochs=5, schedule='multi-step', lr_at=['2ep', '6ep']}",
            &["`train.lr_at`", "48 of 40 steps"],
        ),
        (
            "sparsity={method='rigl', density=0.5, score='magnitude_times_gradient'}",
            &["magnitude_times_gradient", "rigl"],
        ),
        (
            "sparsity={method='l1', density=0.5, warmup='0%'}",
            &["warmup", "no step"],
        ),
        (
            "sparsity={method='iht', density=0.5, structure='block:512x512'}",
            &["block:512x512", "every weight", "smaller blocks"],
        ),
        (
            "network={file='small.net.toml', import={match='order', rename={a='b'}}}",
            &["`network.import`", "order"],
        ),
        ("name=''", &["`name`", "letters"]),
        ("name='../up'", &["`name`", "letters"]),
        ("data.batch=0", &["`data.batch`", "between 1 and"]),
        (
            "data.batch=1000000000000",
            &["`data.batch`", "between 1 and"],
        ),
        ("data.batch='big'", &["data.batch", "\"big\""]),
        ("data.train=0", &["`data.train`", "at least 1"]),
        ("data.test=0", &["`data.test`", "at least 1"]),
        (
            "data.augment=['shift:much']",
            &["`data.augment`", "shift:much", "mirror"],
        ),
        (
            "data.path='elsewhere'",
            &["`data.path`", "folder", "--data DIR"],
        ),
        ("network.name=lenet5", &["`network`", "either"]),
        ("network.classes=0", &["fc2", "`out`"]),
        ("network.file=nowhere.toml", &["nowhere.toml"]),
    ] {
        with(&place, &[setting]).refused(2, words);
    }
    let held_out = with(&place, &["data.validation=480"]);
    held_out.refused(3, &["data.validation", "choose 1 to 479"]);
}

#[test]
fn flags_and_variables_that_would_do_nothing_are_refused() {
    let place = Place::new();
    let mut command = place.command(&["env"]);
    command.env("SKINNY_INSTRUCTION_SET", "AVX2");
    let words = ["SKINNY_INSTRUCTION_SET=AVX2", "baseline or avx2"];
    place.finish(command).refused(2, &words);
    let mut command = place.command(&["env"]);
    command.env("SKINNY_INSTRUCTION_SET", "baseline");
    assert!(place.finish(command).good().out.contains("baseline"));
    // The folder that is given is the only place.
    let there = place.run(&["data", "info", "mnist"]).good();
    assert!(there.out.contains("480 pictures"), "{}", there.out);
    let elsewhere = ["data", "info", "mnist", "--data", "elsewhere"];
    place.run(&elsewhere).refused(3, &["elsewhere/mnist"]);
    let verify = ["data", "verify", "mnist", "--data", "elsewhere"];
    place.run(&verify).refused(3, &["elsewhere"]);
    fs::create_dir(place.path("pictures")).unwrap();
    let shape = ["data", "info", "pictures", "--shape", "3x99999x99999"];
    let words = ["3x99999x99999", "values a picture"];
    place.run(&shape).refused(2, &words);
    let shape = ["data", "info", "pictures", "--shape", "2x8x8"];
    place.run(&shape).refused(2, &["2x8x8", "1 or 3"]);
    let shape = ["data", "info", "mnist", "--shape", "1x8x8"];
    place.run(&shape).refused(2, &["--shape", "mnist"]);
    let folder = ["data", "info", "folder"];
    place.run(&folder).refused(2, &["skinny data info PATH"]);
}

#[test]
fn densities_and_phases_that_cannot_be_are_refused() {
    let place = Place::new();
    for (setting, words) in [
        (
            "sparsity.density=0",
            &["[sparsity]", "density 0 ", "(0, 1]"][..],
        ),
        (
            "sparsity.density=1.5",
            &["[sparsity]", "density 1.5 ", "(0, 1]"],
        ),
        (
            "sparsity.density=-0.1",
            &["[sparsity]", "density -0.1 ", "(0, 1]"],
        ),
        (
            "sparsity.density=nan",
            &["[sparsity]", "density NaN ", "(0, 1]"],
        ),
        ("sparsity.density=ten", &["sparsity.density", "\"ten\""]),
        (
            "sparsity.method=magic",
            &["sparsity.method", "magic", "iht"],
        ),
        ("sparsity.structure=4:2", &["sparsity.structure", "4:2"]),
        ("sparsity.warmup='3 weeks'", &["sparsity.warmup", "3 weeks"]),
        ("sparsity.warmup='90%'", &["[sparsity]", "warmup", "40"]),
        ("sparsity.floor=0.1", &["[sparsity]", "floor", "erk"]),
        ("sparsity.keep_dense=['fc9*']", &["[sparsity]", "fc9*"]),
        (
            "sparsity={method='small_dense', density=0.5, keep_dense=['fc9*']}",
            &["[sparsity]", "fc9*"],
        ),
    ] {
        with(&place, &[setting]).refused(2, words);
        let plan = place.run(&["plan", "small.toml", "--set", setting]);
        plan.refused(2, words);
    }
    // conv1 has 54 weights: a hundredth of them is half of one, which rounds to 1; a thousandth to none.
    let uniform = "sparsity.budget='uniform'";
    let told = with(&place, &[uniform, "sparsity.density=0.001"]);
    told.refused(2, &["[sparsity]", "conv1.weight"]);
    with(&place, &[uniform, "sparsity.density=0.02"]).good();
}

#[test]
fn the_dense_twin_is_not_trained_for_a_run_that_will_be_refused() {
    let place = Place::new();
    for setting in ["sparsity.density=1.5", "sparsity.warmup='90%'"] {
        let told = place.run(&["train", "small.toml", "--with-dense", "--set", setting]);
        told.refused(2, &["[sparsity]"]);
    }
    place.write("taken/notes.txt", "mine");
    let told = place.run(&["train", "small.toml", "--with-dense", "--out", "taken"]);
    told.refused(2, &["taken", "not empty"]);
    assert!(!place.path("runs").exists() && !place.path("taken-dense").exists());
}

#[test]
fn recipe_files_are_refused_with_the_file_and_the_line() {
    let place = Place::new();
    let recipe = fs::read_to_string(place.path("small.toml")).unwrap();
    for (content, words) in [
        (
            recipe.replace("epochs = 5,", "epochs = ,"),
            &["broken.toml", "line 5"][..],
        ),
        (
            recipe.replace("epochs = 5,", "epoch = 5,"),
            &["broken.toml", "`epoch`", "`epochs`"],
        ),
        (
            recipe.replace("name = \"small\"", ""),
            &["broken.toml", "name"],
        ),
        (
            recipe.replace("train = ", "# train = "),
            &["broken.toml", "train"],
        ),
        (String::new(), &["broken.toml", "name"]),
        ("\u{0}\u{1}".into(), &["broken.toml", "line 1"]),
    ] {
        place.write("broken.toml", content);
        place.run(&["train", "broken.toml"]).refused(2, words);
    }
    place.write("broken.toml", [0xff, 0xfe, 0x00]);
    place
        .run(&["train", "broken.toml"])
        .refused(2, &["broken.toml", "UTF-8"]);
}

#[test]
fn networks_are_refused_with_the_layer() {
    let place = Place::new();
    let told = place.run(&["summary", "lenet6"]);
    told.refused(2, &["lenet6", "lenet5"]);
    let network = fs::read_to_string(place.path("small.net.toml")).unwrap();
    for (from, to, words) in [
        (
            "kernel = 3 }",
            "kernel = 13 }",
            &["conv1", "13", "12x12"][..],
        ),
        (
            "kernel = 3 }",
            "kernel = 3, strid = 2 }",
            &["conv1", "`strid`", "`stride`"],
        ),
        (
            "type = \"relu\"",
            "type = \"rely\"",
            &["relu1", "rely", "relu"],
        ),
        ("\"flatten\" }", "\"relu\" }", &["fc1", "flatten"]),
        ("out = 10", "out = 0", &["fc2", "`out`"]),
        ("out = 10", "out = 11", &["10 classes", "gives 11"]),
        (
            "input = [1, 12, 12]",
            "input = [3, 12, 12]",
            &["1x12x12", "3x12x12"],
        ),
        ("input = [1, 12, 12]", "", &["input"]),
        // Ten channels are not yet ten classes.
        (
            "    { name = \"flatten\", type = \"flatten\" },\n    { name = \"drop1\", type = \"dropout\", p = 0.2 },\n    { name = \"fc1\", type = \"linear\", out = 24 },\n    { name = \"relu2\", type = \"relu\" },\n    { name = \"fc2\", type = \"linear\", out = 10 },",
            "    { name = \"last\", type = \"conv\", out = 10, kernel = 3 },",
            &["10x3x3", "globalpool"],
        ),
    ] {
        let changed = network.replacen(from, to, 1);
        assert_ne!(changed, network, "{from}");
        place.write("small.net.toml", changed);
        with(&place, &[]).refused(2, words);
    }
}

#[test]
fn a_layer_may_have_a_comma_in_its_name() {
    let place = Place::new();
    let network = fs::read_to_string(place.path("small.net.toml")).unwrap();
    place.write("small.net.toml", network.replace("conv1", "conv1,3x3"));
    place.train("run", &["--set", "train.epochs=3"]).good();
    place.run(&["report", "run"]).good();
    let sensitivity = ["sensitivity", "run", "--densities", "0.5,0.1"];
    place.run(&sensitivity).good();
    let csv = fs::read_to_string(place.path("run/sensitivity.csv")).unwrap();
    assert!(csv.contains("\"conv1,3x3.weight\","), "{csv}");
}

#[cfg(unix)]
#[test]
fn paths_that_are_not_unicode_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let mut command = place.command(&["--json", "predict", "run"]);
    command.arg(std::ffi::OsStr::from_bytes(b"caf\xe9.png"));
    let told = place.finish(command);
    assert_eq!(told.objects()[0]["code"], 2);
    told.refused(2, &["caf", "UTF-8"]);
}

const IMAGES: &str = "data/mnist/train-images-idx3-ubyte";
const LABELS: &str = "data/mnist/train-labels-idx1-ubyte";

#[test]
fn data_that_is_not_there_is_refused_with_the_way_to_get_it() {
    let place = Place::new();
    fs::remove_file(place.path(LABELS)).unwrap();
    with(&place, &[]).refused(
        3,
        &[
            "mnist",
            "train-labels-idx1-ubyte",
            "skinny data fetch mnist",
        ],
    );
    fs::remove_dir_all(place.path("data")).unwrap();
    with(&place, &[]).refused(3, &["mnist", "skinny data fetch mnist", "--data DIR"]);
    // With all the steps that there may be these are too many flips, but not with those that there are.
    let often = "sparsity={method='rigl', density=0.2, regrow_every='1it'}";
    with(&place, &[often]).refused(3, &["mnist", "skinny data fetch mnist"]);
    // Nor are there so many of so many layers.
    let layers = [
        "data.name=cifar10",
        "network={name='resnet20'}",
        "data.batch=128",
        "train.epochs=100",
        "sparsity={method='rigl', density=0.2, regrow_every='100it'}",
    ];
    with(&place, &layers).refused(3, &["cifar10", "skinny data fetch cifar10"]);
    let all = ["plan", "small.toml", "--set", "data.validation=60000"];
    place
        .run(&all)
        .refused(3, &["data.validation", "choose 1 to 59999"]);
    with(&place, &["data.name=imagenet"]).refused(3, &["imagenet", "glyphs, mnist"]);
    let told = place.run(&["data", "verify", "mnist"]);
    told.refused(3, &["mnist", "skinny data fetch mnist"]);
    let told = place.run(&["data", "info", "nothing"]);
    told.refused(3, &["nothing", "glyphs", "no folder of pictures"]);
    let told = place.run(&["data", "fetch", "nothing"]);
    told.refused(3, &["nothing", "mnist"]);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn damaged_files_are_refused_by_name() {
    let place = Place::new();
    let images = fs::read(place.path(IMAGES)).unwrap();
    let labels = fs::read(place.path(LABELS)).unwrap();
    let changed = |bytes: &[u8], at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        bytes
    };
    let none = |bytes: &[u8], header: usize| {
        let mut bytes = bytes[..header].to_vec();
        bytes[4..8].fill(0);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (IMAGES, Vec::new(), &["images-idx3"]),
        (IMAGES, images[..10].to_vec(), &["images-idx3"]),
        (
            IMAGES,
            images[..images.len() - 1].to_vec(),
            &["images-idx3"],
        ),
        (IMAGES, [&images[..], &[0]].concat(), &["images-idx3"]),
        (
            IMAGES,
            changed(&images, 2, 9),
            &["images-idx3", "is expected"],
        ),
        (IMAGES, changed(&images, 4, 255), &["images-idx3"]),
        (IMAGES, labels.clone(), &["images-idx3", "is expected"]),
        (LABELS, images.clone(), &["labels-idx1", "is expected"]),
        (LABELS, changed(&labels, 8, 10), &["labels-idx1", "10"]),
        (
            LABELS,
            changed(&labels[..labels.len() - 1], 7, 223),
            &["labels-idx1", "480", "479"],
        ),
    ];
    for (file, content, words) in cases {
        // Damaged as it is, and damaged inside a gzip file that is whole.
        place.write(file, &content);
        let words = [words, &["skinny data fetch mnist"]].concat();
        with(&place, &[]).refused(3, &words);
        fs::remove_file(place.path(file)).unwrap();
        place.write(&format!("{file}.gz"), gzip(&content));
        with(&place, &[]).refused(3, &words);
        fs::remove_file(place.path(&format!("{file}.gz"))).unwrap();
        place.write_set();
    }
    place.write(IMAGES, none(&images, 16));
    place.write(LABELS, none(&labels, 8));
    with(&place, &[]).refused(3, &["images-idx3"]);
    place.write_set();

    fs::remove_file(place.path(IMAGES)).unwrap();
    let whole = gzip(&images);
    let packed = format!("{IMAGES}.gz");
    for content in [
        whole[..whole.len() / 2].to_vec(),
        whole[..whole.len() - 4].to_vec(),
        changed(&whole, whole.len() / 2, whole[whole.len() / 2] ^ 0x55),
        changed(&whole, 0, 0),
        whole[..5].to_vec(),
        Vec::new(),
    ] {
        place.write(&packed, content);
        let words = ["images-idx3-ubyte.gz", "skinny data fetch mnist"];
        with(&place, &[]).refused(3, &words);
    }
    place.write(&packed, whole);
    with(&place, &[]).good();
}

#[test]
fn classes_that_are_not_those_of_the_training_are_refused() {
    let place = Place::new();
    for class in 0..10u8 {
        fs::create_dir_all(place.path(&format!("mine/c{class}"))).unwrap();
        for number in 0..5u8 {
            image::GrayImage::from_pixel(12, 12, image::Luma([20 * class + number]))
                .save(place.path(&format!("mine/c{class}/{number}.png")))
                .unwrap();
        }
    }
    let settings = [
        "data.name=folder",
        "data.path='mine'",
        "data.validation=0",
        "data.batch=8",
    ];
    let settings = settings.map(|setting| ["--set", setting]).concat();
    place.train("run", &settings).good();
    place.run(&["eval", "run"]).good();
    // All others move up by one.
    fs::rename(place.path("mine/c1"), place.path("mine/other")).unwrap();
    let told = place.run(&["eval", "run"]);
    told.refused(2, &["class 1", "\"c2\"", "\"c1\""]);
    fs::remove_file(place.path("run/summary.json")).unwrap();
    let told = place.run(&["train", "--resume", "run"]);
    told.refused(3, &["run/checkpoint", "pictures"]);
}

#[test]
fn folders_without_pictures_are_refused() {
    let place = Place::new();
    let folder = |path: &str| {
        let path = format!("data.path='{path}'");
        with(&place, &["data.name=folder", &path, "data.validation=0"])
    };
    with(&place, &["data.name=folder"]).refused(3, &["data.path"]);
    folder("nowhere").refused(3, &["nowhere"]);
    folder("small.toml").refused(3, &["small.toml"]);
    fs::create_dir(place.path("empty")).unwrap();
    folder("empty").refused(3, &["empty"]);
    for class in 0..10 {
        place.write(&format!("none/{class}/a.txt"), "no picture");
    }
    folder("none").refused(3, &["none"]);
    for class in 0..10 {
        for picture in ["a", "b", "c"] {
            place.write(&format!("lies/{class}/{picture}.png"), "no picture");
        }
    }
    folder("lies").refused(3, &["lies/", ".png"]);
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let place = Place::new();
    let told = place.run(&["train", "small.toml", "--threads", "0"]);
    told.refused(2, &["--threads 0", "between 1 and"]);
    let told = place.run(&["train", "small.toml", "--device", "gpu"]);
    told.refused(2, &["GPU", "--device cpu"]);
    for (arguments, word) in [
        (&["train", "--seeds", "4..0"][..], "0..4"),
        (&["train", "--seeds", "4"], "0..4"),
        (&["train", "--seed", "one"], "--seed"),
        (&["train", "--threads", "two"], "--threads"),
        (
            &["train", "--seed", "1", "--seeds", "0..1"],
            "cannot be used with",
        ),
        (
            &["train", "small.toml", "--resume", "run"],
            "cannot be used with",
        ),
        (&["train", "--epochs", "3"], "--epochs"),
        (&["trian"], "'train'"),
        (&["predict", "run"], "<PICTURES>"),
        (&["report"], "<RUNS>"),
    ] {
        let told = place.run(arguments);
        assert_eq!(told.code, 2, "{}", told.err);
        assert!(told.err.starts_with("error: "), "{}", told.err);
        assert!(told.err.contains(word), "no {word:?} in: {}", told.err);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let place = Place::new();
    place.train("run", &[]).good();
    let weights = place.path("run/weights/last.safetensors");
    let init = |file: &str| {
        let told = place.train("out", &["--init", file]);
        assert!(told.code == 0 || !place.path("out").exists());
        told
    };
    init("nowhere.safetensors").refused(3, &["nowhere.safetensors"]);
    init("small.toml").refused(3, &["small.toml", "safetensors"]);
    let bytes = fs::read(&weights).unwrap();
    place.write("half.safetensors", &bytes[..bytes.len() / 2]);
    init("half.safetensors").refused(3, &["half.safetensors", "safetensors"]);
    let mut infinite = bytes.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    place.write("infinite.safetensors", infinite);
    init("infinite.safetensors").refused(3, &["infinite.safetensors", "inf"]);
    let path = weights.to_string_lossy().into_owned();
    let network = fs::read_to_string(place.path("small.net.toml")).unwrap();
    place.write("small.net.toml", network.replace("out = 24", "out = 25"));
    init(&path).refused(3, &["last.safetensors", "fc1", "24", "25", "[network]"]);
    place.write("small.net.toml", network.replace("\"conv1\"", "\"first\""));
    init(&path).refused(3, &["last.safetensors", "first.weight", "conv1.weight"]);
    place.write("small.net.toml", network);
    init(&path).good();
    // The run keeps what it started from.
    let copy = place.path("out/weights/init.safetensors");
    assert_eq!(fs::read(copy).unwrap(), bytes);
}

#[test]
fn runs_that_have_not_come_so_far_are_refused() {
    let place = Place::new();
    for verb in ["eval", "report", "predict"] {
        let mut arguments = vec![verb, "nowhere"];
        arguments.extend((verb == "predict").then_some("picture.png"));
        let told = place.run(&arguments);
        assert!([2, 3].contains(&told.code), "{verb}: {}", told.code);
        let code = told.code;
        told.refused(code, &["nowhere"]);
    }
    place.train("run", &["--set", "data.validation=0"]).good();
    let told = place.run(&["eval", "run", "--weights", "best"]);
    told.refused(3, &["best.safetensors", "--weights last"]);
    fs::remove_file(place.path("run/weights/last.safetensors")).unwrap();
    let told = place.run(&["eval", "run"]);
    told.refused(
        3,
        &[
            "last.safetensors",
            "not kept",
            "skinny train run/recipe.toml",
        ],
    );
    fs::remove_file(place.path("run/summary.json")).unwrap();
    let told = place.run(&["eval", "run"]);
    told.refused(3, &["last.safetensors", "skinny train --resume run"]);
    let told = place.run(&["predict", "run", "picture.png"]);
    told.refused(3, &["last.safetensors", "skinny train --resume run"]);
}

#[test]
fn divergence_keeps_the_last_good_state() {
    let place = Place::new();
    let wild = [
        "train.lr=1000",
        "train.clip_norm=0",
        "train.schedule='constant'",
    ];
    let more: Vec<&str> = wild.iter().flat_map(|setting| ["--set", setting]).collect();
    let told = place.train("wild", &more);
    let state = place.path("wild/checkpoint/state.safetensors");
    let words = [
        "diverged at step",
        "wild/checkpoint/state.safetensors",
        "lower train.lr",
    ];
    let first = told.refused(4, &words);
    let kept = fs::read(&state).unwrap();
    assert!(!place.path("wild/summary.json").exists());
    // The state can be gone on from, and leads to the same end.
    let again = place.run(&["train", "--resume", "wild"]).refused(4, &words);
    assert_eq!(first.err.lines().last(), again.err.lines().last());
    let values = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (words, _) = bytes[8 + header..].as_chunks::<4>();
        words
            .iter()
            .map(|word| f32::from_le_bytes(*word))
            .collect::<Vec<f32>>()
    };
    assert!(values(&kept).iter().all(|value| value.is_finite()));
    assert!(
        values(&fs::read(&state).unwrap())
            .iter()
            .all(|value| value.is_finite())
    );
}
