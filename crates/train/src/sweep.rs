//! A sweep: many runs written as one file, by a recipe, cases, a grid of keys and seeds.
//!
//! A run's recipe is the sweep's (or its case's), with the `sparsity` table of the case in place of its own if there is one,
//! then the keys of the sweep's `set`, the case's `set` and one point of the grid, in this order, and a seed.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use crate::recipe::{Recipe, edit};
use crate::{RecipeError, files};

/// The most runs of a sweep.
const MOST_RUNS: usize = 100_000;

/// The runs of a sweep, most wanted first: all of the first seed, then of the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Its name, which its folder is called after.
    pub name: String,
    /// Its runs.
    pub runs: Vec<SweepRun>,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRun {
    /// Its folder in that of the sweep: case, point of the grid, seed.
    pub id: String,
    /// What it does.
    pub recipe: Recipe,
}

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    recipe: Option<String>,
    seeds: Value,
    #[serde(default)]
    set: Table,
    #[serde(default)]
    grid: Table,
    #[serde(default)]
    cases: Vec<Case>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    recipe: Option<String>,
    #[serde(default)]
    set: Table,
    sparsity: Option<Table>,
    grid: Option<Table>,
}

impl Sweep {
    /// Reads a sweep file; recipes that it names by a path are looked for beside it.
    ///
    /// # Errors
    /// [`RecipeError`] for a file that is no sweep, or the first run whose recipe is refused.
    pub fn load(path: &Path) -> Result<Sweep, RecipeError> {
        let in_file = |error: RecipeError| RecipeError::InFile {
            path: path.to_path_buf(),
            error: Box::new(error),
        };
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::ReadSweep {
            path: path.to_path_buf(),
            source,
        })?;
        Sweep::from_toml(&text, path.parent()).map_err(in_file)
    }

    /// Reads a sweep from TOML; `folder` is where recipes named by a path are looked for first.
    ///
    /// # Errors
    /// As [`Sweep::load`].
    pub fn from_toml(text: &str, folder: Option<&Path>) -> Result<Sweep, RecipeError> {
        let table = edit::parse(text)?;
        let file = Description::deserialize(table).map_err(|error| edit::explain(&error))?;
        if !files::is_plain(&file.name) {
            return Err(value("name", "use letters, digits, `-`, `_` and `.`"));
        }
        let seeds = seeds(&file.seeds)?;
        refuse_own("set", &file.set)?;
        refuse_own("grid", &file.grid)?;
        let cases = match file.cases.is_empty() {
            true => vec![Case::default()],
            false => file.cases.clone(),
        };
        let mut points = Vec::new();
        for case in &cases {
            if !file.cases.is_empty() && !files::is_plain(&case.name) {
                return Err(value(
                    "cases.name",
                    "every case needs a name of letters, digits, `-`, `_` and `.`",
                ));
            }
            refuse_own("cases.set", &case.set)?;
            refuse_own("cases.grid", case.grid.as_ref().unwrap_or(&Table::new()))?;
            for point in grid(case.grid.as_ref().unwrap_or(&file.grid))? {
                points.push((case, point));
                if points.len().saturating_mul(seeds.len()) > MOST_RUNS {
                    return Err(value(
                        "grid",
                        &format!("it has more than {MOST_RUNS} runs; make it smaller"),
                    ));
                }
            }
        }
        let mut runs = Vec::new();
        let mut ids = BTreeSet::new();
        for &seed in &seeds {
            for (case, point) in &points {
                let id = format!("{}seed-{seed}", label(case, point));
                if !ids.insert(id.clone()) {
                    return Err(value(
                        "grid",
                        &format!(
                            "two runs would be called {id}; list every value once, and give the cases different names"
                        ),
                    ));
                }
                let recipe = recipe(&file, case, point, seed, folder)
                    .map_err(|error| value(&format!("run {id}"), &error.to_string()))?;
                runs.push(SweepRun { id, recipe });
            }
        }
        Ok(Sweep {
            name: file.name,
            runs,
        })
    }

    /// The runs of shard `index` of `count`: every `count`-th one, so that shards take about as long.
    pub fn shard(&self, index: usize, count: usize) -> Vec<&SweepRun> {
        self.runs.iter().skip(index).step_by(count.max(1)).collect()
    }
}

fn value(key: &str, reason: &str) -> RecipeError {
    RecipeError::Value {
        key: key.into(),
        reason: reason.into(),
    }
}

/// Refuses keys of a recipe that a sweep gives its runs itself.
fn refuse_own(place: &str, table: &Table) -> Result<(), RecipeError> {
    for (key, cure) in [
        ("seed", "list seeds under `seeds`"),
        ("name", "a run is called after its sweep, case and grid"),
    ] {
        if table.contains_key(key) {
            return Err(value(
                &format!("{place}.{key}"),
                &format!("is not for a sweep to set; {cure}"),
            ));
        }
    }
    Ok(())
}

/// A key of the grid with one of its values.
type Setting = (String, Value);

fn recipe(
    file: &Description,
    case: &Case,
    point: &[Setting],
    seed: u64,
    folder: Option<&Path>,
) -> Result<Recipe, RecipeError> {
    let Some(name) = case.recipe.as_ref().or(file.recipe.as_ref()) else {
        return Err(value(
            "recipe",
            "name a built-in recipe or a recipe's TOML file",
        ));
    };
    let beside = folder
        .map(|folder| folder.join(name))
        .filter(|path| path.is_file());
    let name = beside.map_or_else(|| name.clone(), |path| path.to_string_lossy().into_owned());
    Recipe::load_edited(&name, |table| {
        if let Some(sparsity) = &case.sparsity {
            table.insert("sparsity".into(), Value::Table(sparsity.clone()));
        }
        for (key, value) in file.set.iter().chain(&case.set) {
            edit::lay(table, key, value.clone())?;
        }
        for (key, value) in point {
            edit::lay(table, key, value.clone())?;
        }
        table.insert("seed".into(), Value::Integer(seed as i64));
        let own = label(case, point);
        let name = format!("{}-{own}", file.name);
        table.insert(
            "name".into(),
            Value::String(name.trim_end_matches('-').into()),
        );
        Ok(())
    })
}

/// All points of a grid; the last key changes fastest.
fn grid(table: &Table) -> Result<Vec<Vec<Setting>>, RecipeError> {
    let mut axes = Vec::new();
    flatten("", table, &mut axes)?;
    let mut points: Vec<Vec<Setting>> = vec![Vec::new()];
    for (key, values) in axes {
        if values.is_empty() {
            return Err(value(
                &format!("grid.{key}"),
                "is empty; list values, or leave it out",
            ));
        }
        if points.len().saturating_mul(values.len()) > MOST_RUNS {
            return Err(value(
                "grid",
                &format!("it has more than {MOST_RUNS} runs; make it smaller"),
            ));
        }
        points = (points.iter())
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    point.push((key.clone(), value.clone()));
                    point
                })
            })
            .collect();
    }
    Ok(points)
}

fn flatten(
    prefix: &str,
    table: &Table,
    axes: &mut Vec<(String, Vec<Value>)>,
) -> Result<(), RecipeError> {
    for (key, inner) in table {
        // At the top a key is a path; in a table it is a name, which may have dots itself, as those of weights do.
        let key = match prefix.is_empty() || !key.contains(['.', '"', '\'']) {
            true => format!("{prefix}{key}"),
            false => format!("{prefix}{}", Value::String(key.clone())),
        };
        match inner {
            Value::Array(values) => axes.push((key, values.clone())),
            Value::Table(inner) => flatten(&format!("{key}."), inner, axes)?,
            _ => {
                return Err(value(
                    &format!("grid.{key}"),
                    "must list its values, for example [0.25, 0.1]; one value belongs into `set`",
                ));
            }
        }
    }
    Ok(())
}

/// Case and point of the grid as the beginning of a file name, ended by a dash unless empty.
fn label(case: &Case, point: &[Setting]) -> String {
    let mut label = String::new();
    if !case.name.is_empty() {
        label.push_str(&case.name);
        label.push('-');
    }
    for (key, value) in point {
        let key = edit::last_part(key);
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        label.push_str(&format!("{key}-{text}-"));
    }
    let plain = |c: char| match c {
        '%' => 'p',
        c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c,
        _ => '_',
    };
    label.chars().map(plain).collect()
}

/// `"0..2"` is three seeds, and so is `[0, 1, 2]`.
fn seeds(value: &Value) -> Result<Vec<u64>, RecipeError> {
    let refuse = || {
        self::value(
            "seeds",
            "write \"0..2\" for three seeds, or list them: [0, 1, 2]",
        )
    };
    let seeds: Option<Vec<u64>> = match value {
        Value::String(text) => text.split_once("..").and_then(|(first, last)| {
            let first: u64 = first.trim().parse().ok()?;
            let last: u64 = last.trim().trim_start_matches('=').parse().ok()?;
            (first <= last && last - first < MOST_RUNS as u64 && i64::try_from(last).is_ok())
                .then(|| (first..=last).collect())
        }),
        Value::Array(values) => {
            let seed = |value: &Value| value.as_integer().and_then(|seed| u64::try_from(seed).ok());
            values.iter().map(seed).collect()
        }
        _ => None,
    };
    let seeds = seeds.filter(|seeds| !seeds.is_empty()).ok_or_else(refuse)?;
    let mut known = BTreeSet::new();
    match seeds.iter().find(|seed| !known.insert(**seed)) {
        None => Ok(seeds),
        Some(seed) => Err(self::value(
            "seeds",
            &format!("lists {seed} twice; list every seed once"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skinny_sparsity::Method;

    const METHODS: &str = r#"
        name = "methods"
        recipe = "mnist-lenet5-iht-10x"
        seeds = "0..1"
        set = { "train.epochs" = 3, data.batch = 64 }
        [grid]
        sparsity.density = [0.25, 0.1]
        [[cases]]
        name = "dense"
        sparsity = { method = "dense" }
        grid = {}
        [[cases]]
        name = "iht"
        [[cases]]
        name = "one-shot"
        sparsity = { method = "one_shot" }
        set = { "sparsity.warmup" = "40%" }
    "#;

    fn refused(text: &str) -> String {
        let error = Sweep::from_toml(text, None).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn cases_points_and_seeds_are_multiplied() {
        let sweep = Sweep::from_toml(METHODS, None).unwrap();
        let ids: Vec<&str> = sweep.runs.iter().map(|run| run.id.as_str()).collect();
        let of = |seed: u32| {
            [
                "dense-",
                "iht-density-0.25-",
                "iht-density-0.1-",
                "one-shot-density-0.25-",
                "one-shot-density-0.1-",
            ]
            .map(|label| format!("{label}seed-{seed}"))
        };
        assert_eq!(ids, [of(0), of(1)].concat());
        for run in &sweep.runs {
            assert_eq!((run.recipe.train.epochs, run.recipe.data.batch), (3, 64));
            assert_eq!(run.recipe.train.lr, 0.1, "the recipe's own");
        }
        let run = |index: usize| &sweep.runs[index].recipe;
        assert_eq!(run(0).sparsity.method, Method::Dense);
        assert_eq!(run(2).sparsity.density, Some(0.1));
        assert_eq!(run(2).sparsity.budget(), skinny_sparsity::Budget::Erk);
        assert_eq!(run(4).sparsity.method, Method::OneShot);
        assert_eq!(
            run(4).sparsity.ramp,
            None,
            "the case's table, not the recipe's"
        );
        assert_eq!(
            run(4).sparsity.warmup,
            Some(skinny_sparsity::Duration::Percent(40.0))
        );
        assert_eq!((run(4).seed, run(5).seed), (0, 1));
        assert_eq!(run(2).name, "methods-iht-density-0.1");
    }

    #[test]
    fn the_sweeps_of_the_studies_are_sound() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results");
        let mut count = 0;
        for folder in std::fs::read_dir(results).unwrap() {
            let path = folder.unwrap().path().join("sweep.toml");
            if !path.exists() {
                continue;
            }
            let sweep = Sweep::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(path.parent().unwrap().file_name().unwrap(), &*sweep.name);
            for run in sweep.runs {
                let recipe = run.recipe.clone();
                crate::Resolved::new(recipe, 45_000)
                    .unwrap_or_else(|error| panic!("{}: {}: {error}", sweep.name, run.id));
            }
            count += 1;
        }
        assert!(count >= 7, "{count}");
    }

    #[test]
    fn shards_divide_the_runs() {
        let sweep = Sweep::from_toml(METHODS, None).unwrap();
        for count in 1..=11 {
            let mut ids: Vec<&str> = (0..count)
                .flat_map(|index| sweep.shard(index, count))
                .map(|run| run.id.as_str())
                .collect();
            assert_eq!(ids.len(), 10);
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 10);
        }
    }

    #[test]
    fn without_cases_the_recipe_is_the_case() {
        let text = r#"
            name = "rates"
            recipe = "mnist-lenet5-dense"
            seeds = [3]
            grid = { "train.lr" = [0.1, 0.05], train.schedule = ["cosine", "constant"], "train.lr_warmup" = ["5%"] }
        "#;
        let sweep = Sweep::from_toml(text, None).unwrap();
        assert_eq!(sweep.runs.len(), 4);
        let ids: BTreeSet<&str> = sweep.runs.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(ids.len(), 4);
        assert!(
            ids.iter()
                .all(|id| id.ends_with("-seed-3") && id.contains("lr_warmup-5p")),
            "{ids:?}"
        );
    }

    #[test]
    fn a_quoted_part_of_a_key_keeps_its_dot() {
        let text = METHODS.replace(
            "data.batch = 64",
            r#"'train.factors."fc1.bias"' = { lr = 0.5 }, 'train.factors."fc2.bias".lr' = 0.25"#,
        );
        let sweep = Sweep::from_toml(&text, None).unwrap();
        let factors = &sweep.runs[0].recipe.train.factors;
        assert_eq!(
            (factors["fc1.bias"].lr, factors["fc2.bias"].lr),
            (0.5, 0.25)
        );
    }

    #[test]
    fn a_name_in_a_table_of_the_grid_keeps_its_dots() {
        let text = METHODS.replace(
            "sparsity.density = [0.25, 0.1]",
            r#"train.factors."conv1.weight".lr = [0.5, 0.25]
               sparsity.layers."fc1.weight" = [0.5]"#,
        );
        let text = text.replace("set = { \"sparsity.warmup\" = \"40%\" }", "grid = {}");
        let sweep = Sweep::from_toml(
            &text.replace(
                "name = \"iht\"",
                "name = \"iht\"\nset = { \"sparsity.budget\" = \"per_layer\" }",
            ),
            None,
        );
        let sweep = sweep.unwrap();
        let run = &sweep.runs[2];
        assert_eq!(run.id, "iht-fc1.weight-0.5-lr-0.25-seed-0");
        assert_eq!(run.recipe.train.factors["conv1.weight"].lr, 0.25);
        let layers = run.recipe.sparsity.layers.as_ref().unwrap();
        assert_eq!(layers["fc1.weight"], 0.5);
    }

    #[test]
    fn tables_are_laid_over_and_patterns_keep_their_dots() {
        let text = METHODS.replace(
            "data.batch = 64",
            r#"train = { factors = { "fc*.weight" = { lr = 0.5 } } }, "train.phase_lr" = { last = 0.1 }"#,
        );
        let sweep = Sweep::from_toml(&text, None).unwrap();
        let train = &sweep.runs[0].recipe.train;
        assert_eq!(train.factors["fc*.weight"].lr, 0.5);
        assert_eq!((train.phase_lr.last, train.lr, train.epochs), (0.1, 0.1, 3));
    }

    #[test]
    fn what_is_no_sweep_is_refused_with_the_reason() {
        for (from, to, words) in [
            ("seeds = \"0..1\"", "seeds = 3", "three seeds"),
            ("seeds = \"0..1\"", "seeds = \"2..1\"", "three seeds"),
            ("seeds = \"0..1\"", "seeds = [-1]", "three seeds"),
            ("seeds = \"0..1\"", "seeds = [4, 4]", "lists 4 twice"),
            (
                "data.batch = 64",
                "seed = 5",
                "`set.seed`: is not for a sweep",
            ),
            (
                "[grid]",
                "[grid]\nseed = [5, 6]",
                "`grid.seed`: is not for a sweep",
            ),
            (
                "\"sparsity.warmup\" =",
                "name = \"x\", \"sparsity.warmup\" =",
                "`cases.set.name`",
            ),
            ("grid = {}", "grid = { seed = [1] }", "`cases.grid.seed`"),
            ("[0.25, 0.1]", "0.25", "must list its values"),
            ("[0.25, 0.1]", "[]", "is empty"),
            (
                "[0.25, 0.1]",
                "[0.25, 0.25]",
                "two runs would be called iht-density-0.25-seed-0",
            ),
            ("[0.25, 0.1]", "[0.25, 1.5]", "run iht-density-1.5-seed-0"),
            ("sparsity.density", "sparsity.densty", "densty"),
            ("train.epochs", "train.epohs", "epohs"),
            (
                "name = \"one-shot\"",
                "name = \"one/shot\"",
                "every case needs a name",
            ),
            (
                "name = \"one-shot\"",
                "name = \"iht\"",
                "two runs would be called",
            ),
            ("name = \"methods\"", "name = \"../methods\"", "letters"),
            (
                "mnist-lenet5-iht-10x",
                "mnist-lenet-iht",
                "there is no recipe",
            ),
            (
                "recipe = \"mnist-lenet5-iht-10x\"",
                "",
                "name a built-in recipe",
            ),
            ("seeds =", "seed =", "did you mean `seeds`"),
            ("name = \"methods\"", "name = ", "line 2"),
        ] {
            let error = refused(&METHODS.replace(from, to));
            assert!(error.contains(words), "{error}, not {words}");
        }
        let many: Vec<String> = (0..400).map(|value| value.to_string()).collect();
        let many = many.join(", ");
        let error = refused(&METHODS.replace(
            "sparsity.density = [0.25, 0.1]",
            &format!("a = [{many}]\nb = [{many}]"),
        ));
        assert!(error.contains("more than 100000 runs"), "{error}");
    }
}
