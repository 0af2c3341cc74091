//! Runs that differ only in their seed make a group; each group is set against the baseline, seed by seed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::runs::Run;
use super::statistics::{Difference, Sample, median};
use crate::failure::Failure;
use crate::output::percent;

/// Which of a run's errors is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// On the test set.
    Test,
    /// On the held-out part of the training set, as choices must be made.
    Validation,
}

impl Metric {
    /// Of one run; none if it held nothing out.
    pub fn of(self, run: &Run) -> Option<f64> {
        match self {
            Metric::Test => Some(run.summary.test_error),
            Metric::Validation => run.summary.validation_error,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Test => "test error",
            Metric::Validation => "held-out error",
        }
    }
}

/// Which runs are the baseline: those with these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline(pub Vec<(String, String)>);

impl Baseline {
    /// Reads `method=dense` or `case=default,epochs=12`.
    pub fn parse(text: &str) -> Result<Baseline, String> {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            (!key.is_empty() && !value.is_empty()).then(|| (key.to_string(), value.to_string()))
        };
        (text.split(',').map(pair).collect::<Option<Vec<_>>>())
            .map(Baseline)
            .ok_or_else(|| "write key=value, for example method=dense or case=default".to_string())
    }

    fn has(&self, run: &Run) -> bool {
        (self.0.iter()).all(|(key, value)| run.value(key).is_some_and(|own| same(&own, value)))
    }

    /// In words: the values alone.
    pub fn name(&self) -> String {
        let values: Vec<&str> = self.0.iter().map(|(_, value)| value.as_str()).collect();
        values.join(", ")
    }
}

/// Runs that differ only in their seed.
#[derive(Clone, Debug)]
pub struct Group {
    /// A value for each key; a dash for a key that the runs do not have.
    pub values: Vec<String>,
    /// Positions of its runs.
    pub runs: Vec<usize>,
    /// Different seeds among them.
    pub seeds: usize,
    /// Their errors.
    pub error: Sample,
    /// Whether it is the baseline, or a part of it.
    pub is_baseline: bool,
    /// Against the baseline; none of the baseline itself, and where no seed has a partner or several runs have the same one.
    pub difference: Option<Difference>,
    /// Kept share of the weights of the dense network.
    pub density: f64,
    /// Kept parameters, mean.
    pub nonzeros: f64,
    /// Bytes of the packed file, mean.
    pub bytes: f64,
    /// Seconds of training, mean.
    pub seconds: f64,
    /// Milliseconds of one picture on one thread, if measured.
    pub milliseconds: Option<f64>,
}

/// What [`group`] finds.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// Baseline first, then by value.
    pub groups: Vec<Group>,
    /// What the reader should know, a line each.
    pub notes: Vec<String>,
}

/// What a missing value is shown as.
pub const NONE: &str = "–";

/// Groups runs by keys and compares each group with the baseline.
///
/// # Errors
/// A key that no run has.
pub fn group(
    runs: &[Run],
    keys: &[String],
    baseline: &Baseline,
    metric: Metric,
) -> Result<Grouped, Failure> {
    for key in keys.iter().chain(baseline.0.iter().map(|(key, _)| key)) {
        if !runs.is_empty() && runs.iter().all(|run| run.value(key).is_none()) {
            return Err(Failure::usage(format!(
                "no run has a key `{key}`; use method, density, name, case, network, data, epochs or a key of the recipe, as sparsity.budget"
            )));
        }
    }
    let mut notes = Vec::new();
    let mut members: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        if metric.of(run).is_none() {
            notes.push(format!(
                "{}: held no pictures out, it is left aside",
                run.folder.display()
            ));
            continue;
        }
        let value = |key: &String| run.value(key).unwrap_or_else(|| NONE.into());
        let values = keys.iter().map(value).collect();
        members.entry(values).or_default().push(index);
    }
    let partners = Partners::new(runs, keys, baseline);
    let mut groups = Vec::new();
    let mut alone = Vec::new();
    for (values, runs_of) in members {
        let (group, own_notes, own_alone) = one(runs, values, runs_of, &partners, metric);
        notes.extend(own_notes);
        alone.extend(own_alone);
        groups.push(group);
    }
    let ambiguous = || (0..runs.len()).any(|index| matches!(partners.of(index), Partner::Several));
    groups.sort_by(|a, b| {
        (b.is_baseline.cmp(&a.is_baseline)).then_with(|| by_values(&a.values, &b.values))
    });
    let differences = || groups.iter().filter_map(|group| group.difference.as_ref());
    let compared = differences().count();
    let tested = differences().filter(|difference| difference.p.is_some());
    let tested = tested.count();
    if tested >= 10 {
        notes.push(format!(
            "of {tested} comparisons at 95 %, about {} would come out better or worse by chance alone",
            (tested as f64 * 0.05).round().max(1.0)
        ));
    }
    let is_there = runs.iter().any(|run| baseline.has(run));
    if compared > 0 {
        notes.extend(alone);
    } else if !is_there && !alone.is_empty() {
        notes.push(format!(
            "no run is {}, so there is nothing to compare with; choose a baseline with --baseline",
            baseline.name()
        ));
    } else if ambiguous() {
        notes.push(format!(
            "every seed has several partners with {}; add to --by or to --baseline what tells them apart",
            baseline.name()
        ));
    } else if !alone.is_empty() {
        notes.push(format!(
            "no run has a partner of the same seed, data, network and training with {}; choose a baseline with --baseline",
            baseline.name()
        ));
    }
    Ok(Grouped { groups, notes })
}

/// A group, what the reader should know of it, and whose runs have no partner.
fn one(
    runs: &[Run],
    values: Vec<String>,
    members: Vec<usize>,
    partners: &Partners<'_>,
    metric: Metric,
) -> (Group, Vec<String>, Option<String>) {
    let mut notes = Vec::new();
    let of = |index: &usize| &runs[*index];
    let name = values.join(", ");
    let differing = differing(&members.iter().map(of).collect::<Vec<_>>());
    if !differing.is_empty() {
        notes.push(format!(
            "{name}: its runs differ in more than their seed ({}); add that to --by",
            differing.join(", ")
        ));
    }
    notes.extend(
        outliers(&members.iter().map(of).collect::<Vec<_>>(), metric)
            .map(|note| format!("{name}: {note}")),
    );
    let is_baseline = members
        .iter()
        .all(|&index| partners.baseline.has(of(&index)));
    let mut pairs = Vec::new();
    let mut alone = 0;
    let mut taken = BTreeSet::new();
    let mut shared = false;
    for &index in &members {
        let other = match partners.of(index) {
            Partner::One(other) => other,
            Partner::None if !partners.baseline.has(of(&index)) => {
                alone += 1;
                continue;
            }
            Partner::None | Partner::Several => continue,
        };
        shared |= !taken.insert(other);
        match metric.of(&runs[other]) {
            Some(error) => pairs.push((metric.of(of(&index)).unwrap_or(f64::NAN), error)),
            None => alone += 1,
        }
    }
    let alone = (alone > 0).then(|| {
        format!(
            "{name}: {alone} of {} runs have no partner in the baseline, of the same seed, data, network and training",
            alone + pairs.len()
        )
    });
    // Runs that share a partner do not differ from it independently of each other.
    if shared {
        pairs.clear();
        notes.push(format!(
            "{name}: several of its runs have the same partner in the baseline, so no difference is told"
        ));
    }
    let mean = |value: &dyn Fn(&Run) -> f64| -> f64 {
        members.iter().map(|index| value(of(index))).sum::<f64>() / members.len() as f64
    };
    let errors: Vec<f64> = (members.iter())
        .filter_map(|index| metric.of(of(index)))
        .collect();
    let group = Group {
        error: Sample::of(&errors).expect("a group has a run"),
        difference: (!is_baseline).then(|| Difference::of(&pairs)).flatten(),
        density: mean(&density),
        nonzeros: mean(&|run| run.summary.nonzeros as f64),
        bytes: mean(&|run| run.summary.packed_bytes as f64),
        seconds: mean(&|run| run.summary.seconds),
        milliseconds: None,
        is_baseline,
        values,
        seeds: (members.iter().map(|index| of(index).summary.seed))
            .collect::<BTreeSet<_>>()
            .len(),
        runs: members,
    };
    (group, notes, alone)
}

/// Kept share of the weights of the dense network; a thinner network has as many parameters as its density says.
fn density(run: &Run) -> f64 {
    match run.summary.method.as_str() {
        "small_dense" => run.recipe.sparsity.density.unwrap_or(1.0),
        _ => run.summary.density,
    }
}

/// Says which runs of a group are so far off that its mean says little: they have collapsed.
fn outliers(runs: &[&Run], metric: Metric) -> Option<String> {
    let mut errors: Vec<f64> = runs.iter().filter_map(|run| metric.of(run)).collect();
    errors.sort_by(f64::total_cmp);
    let median = median(&errors)?;
    let far: Vec<String> = (errors.iter())
        .filter(|error| **error > (3.0 * median).max(median + 0.1))
        .map(|error| percent(*error))
        .collect();
    (!far.is_empty()).then(|| {
        format!(
            "{} of its {} runs came to nothing ({}; median {}), so the mean says little",
            far.len(),
            runs.len(),
            far.join(", "),
            percent(median)
        )
    })
}

/// Settings other than the seed in which the runs of a group differ.
fn differing(runs: &[&Run]) -> Vec<String> {
    let mut hashes = runs.iter().map(|run| &run.summary.settings_hash);
    let first = hashes.next();
    if hashes.all(|hash| Some(hash) == first) {
        return Vec::new();
    }
    let settings: Vec<_> = runs.iter().map(|run| run.settings()).collect();
    let keys: BTreeSet<&String> = settings
        .iter()
        .flat_map(|settings| settings.keys())
        .collect();
    (keys.into_iter())
        .filter(|key| {
            settings
                .iter()
                .any(|own| own.get(*key) != settings[0].get(*key))
        })
        .cloned()
        .collect()
}

/// The run of the baseline that a run is compared with.
enum Partner {
    /// There is none.
    None,
    /// This one.
    One(usize),
    /// Nothing tells which.
    Several,
}

/// Who is compared with whom.
struct Partners<'a> {
    runs: &'a [Run],
    keys: &'a [String],
    baseline: &'a Baseline,
    /// What a run has in common with its baseline, but for what the baseline fixes.
    contexts: Vec<BTreeMap<String, String>>,
}

impl<'a> Partners<'a> {
    fn new(runs: &'a [Run], keys: &'a [String], baseline: &'a Baseline) -> Partners<'a> {
        let fixed: Vec<&str> = baseline.0.iter().map(|(key, _)| key.as_str()).collect();
        // A case of a sweep may differ from the baseline in anything.
        let by_case = fixed.contains(&"case");
        let context = |run: &Run| match by_case {
            true => BTreeMap::new(),
            false => run.context(&fixed),
        };
        Partners {
            runs,
            keys,
            baseline,
            contexts: runs.iter().map(context).collect(),
        }
    }

    /// The run of the baseline with the seed and the context of this one, and with its values of the keys in which the runs of the
    /// baseline differ; none of a run of the baseline, which is no partner of its own.
    fn of(&self, index: usize) -> Partner {
        let run = &self.runs[index];
        if self.baseline.has(run) {
            return Partner::None;
        }
        let fits = |other: &usize| {
            self.baseline.has(&self.runs[*other]) && self.contexts[*other] == self.contexts[index]
        };
        let candidates: Vec<usize> = (0..self.runs.len()).filter(fits).collect();
        // A seed of the baseline that is missing must not be replaced by one of another density.
        let differs = |key: &&String| {
            let values: BTreeSet<_> = (candidates.iter())
                .map(|other| self.runs[*other].value(key))
                .collect();
            values.len() > 1
        };
        let distinct: Vec<&String> = self.keys.iter().filter(differs).collect();
        let mut partners = candidates.iter().copied().filter(|other| {
            let other = &self.runs[*other];
            other.summary.seed == run.summary.seed
                && (distinct.iter()).all(|key| other.value(key) == run.value(key))
        });
        match (partners.next(), partners.next()) {
            (None, _) => Partner::None,
            (Some(found), None) => Partner::One(found),
            (Some(_), Some(_)) => Partner::Several,
        }
    }
}

/// Whether two values are the same; numbers by value.
fn same(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Words by the alphabet, numbers from the largest.
fn by_values(a: &[String], b: &[String]) -> Ordering {
    let one = |(a, b): (&String, &String)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => b.total_cmp(&a),
        _ => a.cmp(b),
    };
    let mut orders = a.iter().zip(b).map(one);
    orders
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
