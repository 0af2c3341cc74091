//! The whole report: what is on the page, what is tolerated, what is refused.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::sample::{self, Sample};
use super::well_formed::{offline, well_formed};
use super::*;

/// The report of a sample whose folder `change` changes before.
fn report_of(sample: &Sample<'_>, change: impl Fn(&Path)) -> Result<Report, ReportError> {
    let folder = tempfile::tempdir().unwrap();
    sample::write(folder.path(), sample);
    change(folder.path());
    compose(&[folder.path().to_path_buf()])
}

#[test]
fn a_finished_run_has_every_section() {
    let folder = tempfile::tempdir().unwrap();
    sample::write(folder.path(), &Sample::default());
    let files = write_report(&[folder.path().to_path_buf()], folder.path()).unwrap();
    let page = fs::read_to_string(&files.page).unwrap();
    offline(&page);
    for heading in [
        "Training",
        "Sparsity",
        "Predictions on the test set",
        "Layers",
        "Flips",
        "Reproduce",
    ] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
    for text in [
        "10.0× fewer weights",
        "Settings (recipe.toml)",
        "Environment (env.json)",
        "Intel Xeon",
        "class=\"command\"",
        "20 × 1 × 5 × 5",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("class=\"notice\""), "nothing is missing");
    assert!(files.notes.is_empty());
    let expected = [
        "loss",
        "error",
        "flips",
        "learning-rate",
        "density",
        "overlap",
        "weights",
        "confusion",
        "mistakes",
    ];
    assert_eq!(files.plots.len(), 2 * expected.len());
    for name in expected {
        let svg = fs::read_to_string(folder.path().join(format!("plots/{name}.svg"))).unwrap();
        well_formed(&svg);
        let png = image::open(folder.path().join(format!("plots/{name}.png")))
            .unwrap()
            .to_rgb8();
        assert_eq!(png.width(), 1440, "{name}");
        assert!(
            png.pixels().any(|pixel| pixel.0 != png.get_pixel(0, 0).0),
            "{name} is empty"
        );
    }
    let left = fs::read_dir(folder.path())
        .unwrap()
        .chain(fs::read_dir(folder.path().join("plots")).unwrap());
    assert!(
        left.flatten()
            .all(|entry| !entry.file_name().to_string_lossy().ends_with(".tmp"))
    );
}

#[test]
fn the_same_run_gives_the_same_page() {
    let folder = tempfile::tempdir().unwrap();
    sample::write(folder.path(), &Sample::default());
    let drawn = || {
        let report = compose(&[folder.path().to_path_buf()]).unwrap();
        let svgs: Vec<_> = report
            .drawings
            .iter()
            .map(|(name, canvas)| (name.clone(), canvas.svg_file()))
            .collect();
        (report.page, svgs)
    };
    assert_eq!(drawn(), drawn());
}

#[test]
fn the_dense_twin_is_drawn_and_compared() {
    let runs = tempfile::tempdir().unwrap();
    sample::write(
        &runs.path().join("twin"),
        &Sample {
            density: 1.0,
            name: "dense",
            ..Sample::default()
        },
    );
    let folder = runs.path().join("skinny");
    sample::write(
        &folder,
        &Sample {
            twin: Some("runs/twin"),
            ..Sample::default()
        },
    );
    let page = compose(std::slice::from_ref(&folder)).unwrap().page;
    assert!(page.contains("against 0.74\u{a0}% dense"));
    assert!(
        page.contains("dense twin, held out"),
        "found beside the run"
    );
    fs::remove_dir_all(runs.path().join("twin")).unwrap();
    let page = compose(std::slice::from_ref(&folder)).unwrap().page;
    assert!(page.contains("against 0.74\u{a0}% dense") && !page.contains("dense twin, held out"));
}

#[test]
fn each_file_may_be_missing_and_is_named() {
    let all = [
        "results.csv",
        "flips.jsonl",
        "layers.csv",
        "summary.json",
        "confusion.csv",
        "mistakes.json",
        "recipe.toml",
        "env.json",
    ];
    for missing in all {
        let report = report_of(&Sample::default(), |folder| {
            fs::remove_file(folder.join(missing)).unwrap()
        });
        let report = report.unwrap();
        offline(&report.page);
        assert!(
            report.page.contains(&format!("({missing})")),
            "{missing} is named"
        );
        let notes = report.notes;
        assert!(
            notes[0].ends_with(&format!("without {missing}")),
            "{notes:?}"
        );
    }
    let report = report_of(&Sample::default(), |folder| {
        all[1..]
            .iter()
            .for_each(|file| fs::remove_file(folder.join(file)).unwrap());
    });
    let page = report.unwrap().page;
    assert!(page.contains("This run is not finished"));
    assert!(page.contains("15 epochs done, held-out error "));
}

#[test]
fn files_that_say_nothing_are_tolerated() {
    let header = "epoch,step,phase,density,lr,train_loss,train_error,validation_loss,validation_error,gradient_norm,nonzeros,images_per_second,seconds\n";
    let report = report_of(&Sample::default(), |folder| {
        fs::write(folder.join("results.csv"), header).unwrap();
        fs::write(folder.join("flips.jsonl"), "").unwrap();
        fs::write(
            folder.join("layers.csv"),
            "name,shape,weights,k,density,nonzeros\n",
        )
        .unwrap();
        fs::write(folder.join("mistakes.json"), "[]").unwrap();
        fs::write(folder.join("summary.json"), r#"{"schema":1,"name":"bare"}"#).unwrap();
        fs::write(folder.join("confusion.csv"), "label,only\nonly,3\n").unwrap();
    });
    offline(&report.unwrap().page);
    let report = report_of(&Sample::default(), |folder| {
        fs::write(
            folder.join("results.csv"),
            format!(
                "{header}1,10,dense,1,0.1,NaN,inf,,,nan,5,1,2\n2,20,sparse,0.5,0,0,0,,,0,5,1,2\n"
            ),
        )
        .unwrap();
    });
    offline(&report.unwrap().page);
}

#[test]
fn a_line_that_was_cut_while_it_was_written_is_left_out() {
    for file in ["results.csv", "flips.jsonl"] {
        let report = report_of(&Sample::default(), |folder| {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            fs::write(
                folder.join(file),
                &text[..text.trim_end().rfind('\n').unwrap() + 20],
            )
            .unwrap();
        });
        let report = report.unwrap();
        assert!(
            report.notes[0].contains(&format!("The last line of {file} was cut off")),
            "{:?}",
            report.notes
        );
        assert!(report.page.contains("was cut off"));
    }
}

#[test]
fn hostile_names_stay_text() {
    let labels = [
        "<script>alert(1)</script>",
        "a,b",
        "\"quoted\"",
        "$x^2$",
        "&amp;",
        "two\nlines",
        "日本",
        "'",
        "</svg>",
        "\u{202e}gnp",
    ];
    let sample = Sample {
        name: "</title><img src=x onerror=alert(1)>\u{1}",
        labels,
        ..Sample::default()
    };
    let report = report_of(&sample, |folder| {
        let flips = fs::read_to_string(folder.join("flips.jsonl")).unwrap();
        fs::write(
            folder.join("flips.jsonl"),
            flips.replace("\"conv1.weight\"", "\"<b onload=x>$\\u0007\""),
        )
        .unwrap();
        let layers = fs::read_to_string(folder.join("layers.csv")).unwrap();
        fs::write(
            folder.join("layers.csv"),
            layers.replace("conv1", "<b onload=x>$"),
        )
        .unwrap();
        fs::write(folder.join("recipe.toml"), "name = \"</pre><script>\"").unwrap();
        fs::write(folder.join("env.json"), r#"{"<i>":["</td>",{"a":"<u>"}]}"#).unwrap();
    });
    let report = report.unwrap();
    offline(&report.page);
    assert!(
        report
            .page
            .contains("&lt;script&gt;alert(1)&lt;/script&gt;")
    );
    for (_, canvas) in report.drawings {
        well_formed(&canvas.svg_file());
    }
}

#[test]
fn malformed_files_are_one_line_with_file_and_line() {
    let cases: [(&str, &str, usize, &str); 16] = [
        ("results.csv", "", 1, "empty"),
        ("results.csv", "epoch,step\n1,2\n", 1, "no column 'phase'"),
        (
            "results.csv",
            "epoch,step,phase\n1,5,dense\nx,10,dense\n",
            3,
            "'x' is no epoch",
        ),
        (
            "results.csv",
            "epoch,step,phase\n1,5,dense\n2,10\n",
            3,
            "2 fields where the header has 3",
        ),
        (
            "results.csv",
            "epoch,step,phase\n1,5,thick\n",
            2,
            "'thick' is no phase",
        ),
        (
            "results.csv",
            "epoch,step,phase\n1,5,dense\n2,5,dense\n",
            3,
            "does not grow",
        ),
        (
            "flips.jsonl",
            "{\"step\":1,\"epoch\":1.0,\"edge\":\"threshold\"}\n{\"step\":\n",
            2,
            "EOF",
        ),
        (
            "flips.jsonl",
            "{\"step\":1,\"epoch\":1.0,\"edge\":\"explode\"}\n",
            1,
            "unknown variant `explode`",
        ),
        (
            "flips.jsonl",
            "{\"step\":1,\"epoch\":1.0,\"edge\":\"threshold\",\"layers\":[{\"name\":\"c\",\"weights\":2,\"k\":1,\"histogram\":{\"low\":2,\"high\":1,\"before\":[1],\"after\":[1]}}]}\n",
            1,
            "histogram of layer c",
        ),
        (
            "layers.csv",
            "name,shape,weights,k,density,nonzeros\nconv1,1,5,9,1,5\n",
            2,
            "k = 9 is more than 5",
        ),
        (
            "summary.json",
            "{\n\"schema\": 1,\n\"name\": 3\n}\n",
            3,
            "invalid type",
        ),
        (
            "summary.json",
            "{\"schema\":2,\"name\":\"x\"}",
            1,
            "newer skinny",
        ),
        (
            "confusion.csv",
            "label,a,b\na,1,2\n",
            1,
            "1 rows for 2 classes",
        ),
        (
            "confusion.csv",
            "label,a,b\na,1,2\nb,-1,2\n",
            3,
            "'-1' is no count",
        ),
        (
            "mistakes.json",
            "[\n{\"index\":7,\"label\":0,\"predicted\":1,\"confidence\":1,\"channels\":1,\"height\":2,\"width\":2,\"pixels\":\"AAAA\"}\n]",
            2,
            "picture 7 has 3 bytes",
        ),
        (
            "mistakes.json",
            "[\n{\"index\":7,\"label\":0,\"predicted\":1,\"confidence\":1,\"channels\":2,\"height\":1,\"width\":1,\"pixels\":\"AAAA\"}\n]",
            2,
            "2 channels",
        ),
    ];
    for (file, text, line, what) in cases {
        let report = report_of(&Sample::default(), |folder| {
            fs::write(folder.join(file), text).unwrap()
        });
        let message = report.err().expect(what).to_string();
        assert!(!message.contains('\n'), "{message}");
        assert!(
            message.contains(&format!("{file}, line {line}: ")),
            "{message}"
        );
        assert!(message.contains(what), "{message}");
    }
    let report = report_of(&Sample::default(), |folder| {
        fs::write(folder.join("recipe.toml"), b"a\n\xff").unwrap()
    });
    assert!(
        report
            .err()
            .unwrap()
            .to_string()
            .contains("recipe.toml, line 2: not UTF-8 text")
    );
}

/// Every file cut at many places and with many bytes changed: a report or one line, never a panic.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    sample::write(folder.path(), &Sample::default());
    let runs = [folder.path().to_path_buf()];
    let (mut reports, mut refusals) = (0, 0);
    for file in [
        "results.csv",
        "flips.jsonl",
        "layers.csv",
        "summary.json",
        "confusion.csv",
        "mistakes.json",
        "env.json",
    ] {
        let path = folder.path().join(file);
        let whole = fs::read(&path).unwrap();
        for case in 0..24 {
            let place = (case * 7919 + case * case * 31) % whole.len();
            let mut damaged = whole.clone();
            match case % 4 {
                0 => damaged.truncate(place),
                1 => damaged[place] = b"9-,\"\n{x\xff"[case / 4],
                2 => damaged.splice(place..place, *b"99999999999").for_each(drop),
                _ => damaged
                    .drain(place..(place + 40).min(whole.len()))
                    .for_each(drop),
            }
            fs::write(&path, damaged).unwrap();
            match compose(&runs) {
                Ok(report) => {
                    offline(&report.page);
                    reports += 1;
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains(file) && !message.contains('\n'),
                        "{message}"
                    );
                    refusals += 1;
                }
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(
        reports > 10 && refusals > 50,
        "{reports} reports, {refusals} refusals"
    );
}

#[test]
fn numbers_beyond_all_bounds_are_drawn_or_refused() {
    let report = report_of(&Sample::default(), |folder| {
        let flips = fs::read_to_string(folder.join("flips.jsonl")).unwrap();
        let (first, rest) = flips.split_once('\n').unwrap();
        let first = first.replacen("\"loss_after\":", "\"loss_after\":1e308,\"was\":", 1);
        fs::write(folder.join("flips.jsonl"), format!("{first}\n{rest}")).unwrap();
        let results = fs::read_to_string(folder.join("results.csv")).unwrap();
        let mut lines: Vec<String> = results.lines().map(str::to_string).collect();
        lines[3] = "3,1290,dense,1e300,-1e300,1e308,-5,1e-320,1e200,0,0,0,0".into();
        fs::write(folder.join("results.csv"), lines.join("\n")).unwrap();
    });
    let report = report.unwrap();
    offline(&report.page);
    for (name, canvas) in &report.drawings {
        let svg = canvas.svg_file();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
    }
    let report = report_of(&Sample::default(), |folder| {
        let text = "name,shape,weights,k,density,nonzeros\na,1,18446744073709551615,1,1,1\n";
        fs::write(folder.join("layers.csv"), text).unwrap();
    });
    assert!(
        report
            .err()
            .unwrap()
            .to_string()
            .contains("layers.csv, line 2: the count")
    );
}

#[test]
fn what_is_no_run_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let refused = |runs: &[PathBuf]| write_report(runs, empty.path()).unwrap_err().to_string();
    assert!(refused(&[]).starts_with("no run to report"));
    assert!(refused(&[empty.path().to_path_buf()]).contains("is not a run folder"));
    assert!(refused(&[empty.path().join("nowhere")]).contains("is not a run folder"));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    sample::write(folder.path(), &Sample::default());
    let taken = folder.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    let message = write_report(&[folder.path().to_path_buf()], &taken)
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("cannot write ")
            && message.contains("taken")
            && message.contains("--out"),
        "{message}"
    );
}

#[test]
fn several_runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for (index, density) in [1.0, 0.1, 0.1, 0.05].into_iter().enumerate() {
        let name = if density == 1.0 {
            "lenet5-dense".to_string()
        } else {
            format!("lenet5-iht-{:.0}x", 1.0 / density)
        };
        let path = folder.path().join(format!("run{index}"));
        sample::write(
            &path,
            &Sample {
                name: &name,
                seed: index as u64,
                density,
                ..Sample::default()
            },
        );
        runs.push(path);
    }
    let report = compose(&runs).unwrap();
    let page = report.page;
    offline(&page);
    for text in [
        "4 runs compared",
        "lenet5-iht-10x, seed 1",
        "lenet5-iht-10x, seed 2",
        "mean ± standard deviation of 2",
        "Held-out error of every run",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("<details class=\"run\">").count(), 4);
    let names: Vec<&str> = report
        .drawings
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(
        names.contains(&"compare-error") && names.contains(&"4-confusion"),
        "{names:?}"
    );
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
}

#[test]
fn labels_of_runs_never_repeat() {
    let run = |folder: &str, seed| {
        let mut run = sample::run();
        run.folder = folder.into();
        run.summary.as_mut().unwrap().seed = seed;
        run
    };
    let runs = [run("a", Some(1)), run("b", Some(1)), run("c", Some(2))];
    let labels: Vec<String> = members(&runs)
        .into_iter()
        .map(|member| member.label)
        .collect();
    assert_eq!(
        labels,
        [
            "mnist-lenet5-iht-10x, seed 1 (a)",
            "mnist-lenet5-iht-10x, seed 1 (b)",
            "mnist-lenet5-iht-10x, seed 2"
        ]
    );
    assert_eq!(members(&runs[..1])[0].label, "mnist-lenet5-iht-10x");
}

/// Writes sample reports into the folder `SKINNY_REPORT_SAMPLES`, to be looked at.
#[test]
#[ignore = "writes pictures for people"]
fn samples_to_look_at() {
    let out = PathBuf::from(
        std::env::var_os("SKINNY_REPORT_SAMPLES").expect("SKINNY_REPORT_SAMPLES names a folder"),
    );
    let mut runs = Vec::new();
    for (name, density, seed, twin) in [
        ("mnist-lenet5-dense", 1.0, 0, None),
        ("mnist-lenet5-iht-10x", 0.1, 0, Some("mnist-lenet5-dense")),
        ("mnist-lenet5-iht-10x-1", 0.1, 1, None),
        ("mnist-lenet5-iht-20x", 0.05, 0, None),
    ] {
        let folder = out.join(name);
        sample::write(
            &folder,
            &Sample {
                name: name.trim_end_matches("-1"),
                density,
                seed,
                twin,
                ..Sample::default()
            },
        );
        runs.push(folder);
    }
    for run in &runs {
        write_report(std::slice::from_ref(run), run).unwrap();
    }
    write_report(&runs, &out.join("compared")).unwrap();
    let unfinished = out.join("unfinished");
    sample::write(&unfinished, &Sample::default());
    for file in [
        "summary.json",
        "confusion.csv",
        "mistakes.json",
        "layers.csv",
    ] {
        fs::remove_file(unfinished.join(file)).unwrap();
    }
    write_report(std::slice::from_ref(&unfinished), &unfinished).unwrap();
}

#[test]
fn no_two_runs_that_are_compared_have_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let runs = ["a/seed-0", "b/seed-0"].map(|run| folder.path().join(run));
    for run in &runs {
        fs::create_dir_all(run).unwrap();
        sample::write(run, &Sample::default());
    }
    let page = compose(&runs).unwrap().page;
    for run in &runs {
        assert!(page.contains(&format!("({})", run.display())), "{run:?}");
    }
}
