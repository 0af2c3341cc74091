//! The data of a run: training, held-out and test pictures, and what is done to them.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use skinny_data::{
    Augment, DataRoots, Dataset, LoadOptions, Loader, LoaderOptions, Pixels, Split, load,
};
use skinny_network::{Gcn, Graph, Preprocess, shape_text};

use crate::recipe::{Normalize, hex};
use crate::{Recipe, RecipeError, TrainError, whitening};

/// What a run learns from and is measured on.
#[derive(Clone, Debug)]
pub struct Material {
    /// Pictures that are learned from.
    pub train: Arc<Dataset>,
    /// Pictures of the training set that are held out; they choose `best`.
    pub validation: Option<Arc<Dataset>>,
    /// Pictures that choose nothing.
    pub test: Arc<Dataset>,
    /// What is done to every picture.
    pub preprocess: Preprocess,
    /// Random changes of training pictures.
    pub augment: Vec<Augment>,
}

impl Material {
    /// Number of pictures that a recipe lets the network of `graph` learn from, without preparing them.
    pub fn count(recipe: &Recipe, graph: &Graph, roots: &DataRoots) -> Result<usize, TrainError> {
        let nothing = Some(&Preprocess::default());
        Material::load_for(recipe, graph, roots, nothing).map(|material| material.train.len())
    }

    /// Loads what a recipe names for the network of `graph`.
    pub fn load(recipe: &Recipe, graph: &Graph, roots: &DataRoots) -> Result<Material, TrainError> {
        Material::load_for(recipe, graph, roots, None)
    }

    /// The same for a network that knows what is done to its pictures, whatever the recipe says of that.
    pub fn load_for(
        recipe: &Recipe,
        graph: &Graph,
        roots: &DataRoots,
        known: Option<&Preprocess>,
    ) -> Result<Material, TrainError> {
        let settings = &recipe.data;
        let options = LoadOptions {
            path: settings.path.clone(),
            shape: Some(graph.input),
            ..LoadOptions::default()
        };
        let Split {
            mut train,
            mut test,
        } = load(&settings.name, roots, &options)?;
        check_output(graph)?;
        if train.shape != graph.input || train.classes != graph.output[0] {
            return Err(TrainError::Mismatch {
                data: settings.name.clone(),
                found: shape_text(&train.shape),
                classes: train.classes,
                network: graph.name.clone(),
                expected: shape_text(&graph.input),
                outputs: graph.output[0],
            });
        }
        let names = known.map_or(&[][..], |known| &known.labels);
        let pairs = train.label_names.iter().zip(names);
        if let Some((class, (found, expected))) = (pairs.enumerate()).find(|(_, (a, b))| a != b) {
            return Err(TrainError::Classes {
                data: settings.name.clone(),
                class,
                found: format!("{found:?}"),
                expected: format!("{expected:?}"),
            });
        }
        let preprocess = match known {
            Some(known) => known.clone(),
            None => normalization(settings.normalize, &train)?,
        };
        let mut validation = None;
        if settings.validation > 0 {
            // The held-out pictures are the same for all seeds, so that runs can be compared on them.
            let (rest, held_out) = train.hold_out(settings.validation, 0)?;
            (train, validation) = (rest, Some(held_out));
        }
        if let Some(most) = settings.train {
            train = train.part(most);
        }
        if let Some(most) = settings.test {
            test = test.part(most);
        }
        for set in [&mut train, &mut test].into_iter().chain(&mut validation) {
            whitening::prepare(set, &preprocess)?;
        }
        Ok(Material {
            train: Arc::new(train),
            validation: validation.map(Arc::new),
            test: Arc::new(test),
            preprocess,
            augment: settings.augmentation()?,
        })
    }

    /// What tells these pictures, and which of them are learned from, from others: a hash of the classes and, of files, the names of
    /// classes and files, in their order.
    pub(crate) fn identity(&self) -> String {
        let mut hasher = Sha256::new();
        let validation = self.validation.as_ref();
        for set in [&self.train, &self.test].into_iter().chain(validation) {
            hasher.update((set.len() as u64).to_le_bytes());
            if let Pixels::Files(_) = &set.pixels {
                for name in &set.label_names {
                    hasher.update(name.as_bytes());
                    hasher.update([0]);
                }
            }
            for (index, label) in set.labels.iter().enumerate() {
                hasher.update(label.to_le_bytes());
                if let Pixels::Files(files) = &set.pixels
                    && let Some(name) = files.path(index).file_name()
                {
                    hasher.update(name.as_encoded_bytes());
                    hasher.update([0]);
                }
            }
        }
        hex(&hasher.finalize())
    }

    /// How the batches of training are made: shuffled and augmented; a last one that is not full is left out unless it is the only one.
    pub(crate) fn training_options(&self, recipe: &Recipe) -> LoaderOptions {
        let (batch, epochs) = (recipe.data.batch, recipe.train.epochs as usize);
        let mut options = LoaderOptions::training(batch, epochs, recipe.seed);
        options.drop_last = self.train.len() >= batch;
        options.augment.clone_from(&self.augment);
        options
    }

    /// The batches of an order that no run reaches, as training sees them and the same at every call: for what is measured on a few.
    ///
    /// BatchNorm's statistics must come from augmented pictures where the weights do: a network that learned from shifted
    /// pictures errs far more often with the statistics of pictures that are not.
    pub(crate) fn measuring_batches(&self, recipe: &Recipe) -> Result<Loader, TrainError> {
        const EPOCH: usize = 1 << 40;
        let mut options = self.training_options(recipe);
        (options.first_epoch, options.epochs) = (EPOCH, EPOCH + 1);
        Ok(Loader::new(
            Arc::clone(&self.train),
            &self.preprocess,
            options,
        )?)
    }
}

/// Refuses a network that does not end in one value per class.
pub fn check_output(graph: &Graph) -> Result<(), RecipeError> {
    match graph.classes() {
        Some(_) => Ok(()),
        None => Err(RecipeError::Value {
            key: "network".into(),
            reason: format!(
                "the output of {} is {}, not one value per class; end it with a globalpool, or with flatten and linear",
                graph.name,
                shape_text(&graph.output)
            ),
        }),
    }
}

/// What a recipe's `normalize` does to pictures, as a training set has it.
fn normalization(normalize: Normalize, train: &Dataset) -> Result<Preprocess, TrainError> {
    let mut preprocess = train.preprocess()?;
    match normalize {
        Normalize::Channel => {}
        Normalize::Gcn => {
            preprocess.mean = Vec::new();
            preprocess.std = Vec::new();
            preprocess.gcn = Some(Gcn::default());
        }
        Normalize::GcnZca => whitening::attach(train, &mut preprocess)?,
    }
    Ok(preprocess)
}
