//! What gives logits: the runtime for a `.skinny` file, as wherever it is used; the engine that trained them for the
//! weights of a run.

use skinny::model::Unpacked;
use skinny::network::Preprocess;
use skinny::runtime;
use skinny::train::{Engine, Trained};

use crate::failure::Failure;

/// A network with its weights that is ready to be asked.
pub enum Classifier {
    /// A file.
    File(Box<runtime::Model>),
    /// Weights of a run.
    Run(Box<Trained>),
}

impl Classifier {
    /// The runtime with a model of a file; linear layers by 8-bit integers if `int8`.
    pub fn of_file(model: &Unpacked, threads: usize, int8: bool) -> Result<Classifier, Failure> {
        let graph = model.network.graph()?;
        model.preprocess.check(graph.input)?;
        let options = runtime::Options {
            threads,
            softmax: false,
            int8,
            ..runtime::Options::default()
        };
        let preprocess = model.preprocess.clone();
        let ready = runtime::Model::new(&model.network, &model.tensors, preprocess, &options)?;
        Ok(Classifier::File(Box::new(ready)))
    }

    /// The engine of training with the weights of a run, for up to `batch` images at once; it has no `int8`.
    pub fn of_run(
        model: Unpacked,
        batch: usize,
        threads: usize,
        int8: bool,
    ) -> Result<Classifier, Failure> {
        if int8 {
            return Err(Failure::usage(
                "--int8 is for .skinny files; make one with `skinny export RUN --to model.skinny`",
            ));
        }
        let trained = Trained::new(model, batch, threads)?;
        Ok(Classifier::Run(Box::new(trained)))
    }

    /// What is done to a picture first.
    pub fn preprocess(&self) -> &Preprocess {
        match self {
            Classifier::File(model) => model.preprocess(),
            Classifier::Run(trained) => &trained.model.preprocess,
        }
    }

    /// Logits of whole images, in place of what `logits` holds.
    pub fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) {
        match self {
            Classifier::File(model) => {
                logits.clear();
                logits.extend(model.run(images).expect("the images are whole ones"));
            }
            Classifier::Run(trained) => trained.engine.logits(images, logits),
        }
    }
}
