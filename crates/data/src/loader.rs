//! A stream of batches prepared ahead of training by background workers.
//!
//! The batches of all epochs are numbered by one counter, the ticket. A worker takes the next ticket and,
//! under the lock, the indices that belong to it; what it then computes depends on these and on the seed
//! alone, so neither the number of workers nor their speed shows in the result. Finished batches wait in a
//! ring until the consumer has had all earlier ones; buffers come home when a [`Batch`] is dropped.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use skinny_network::Preprocess;

use crate::augment::{Augment, Fill, Key, augment};
use crate::random::{Purpose, Random};
use crate::{DataError, Dataset};

/// How a [`Loader`] goes through a set.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Pictures per batch, at least 1.
    pub batch: usize,
    /// Epoch to start with, from 0.
    pub first_epoch: usize,
    /// Batch of that epoch to start with, from 0.
    pub first_batch: usize,
    /// The stream ends before this epoch.
    pub epochs: usize,
    /// Whether each epoch has an order of its own, instead of the order of the set.
    pub shuffle: bool,
    /// Whether a last batch with fewer pictures is left out.
    pub drop_last: bool,
    /// Seed of orders and augmentation.
    pub seed: u64,
    /// What is done to each picture, in this order, before normalization; after it, if the set is prepared.
    pub augment: Vec<Augment>,
    /// Value, 0 to 255, of what affine augmentation brings in from outside the picture.
    pub fill: f32,
    /// Threads that prepare batches, at least 1.
    pub workers: usize,
    /// Batches that may be prepared ahead, at least 1.
    pub queue: usize,
}

impl LoaderOptions {
    /// Shuffled batches for `epochs` epochs of training, one worker.
    #[must_use]
    pub fn training(batch: usize, epochs: usize, seed: u64) -> Self {
        Self {
            batch,
            first_epoch: 0,
            first_batch: 0,
            epochs,
            shuffle: true,
            drop_last: false,
            seed,
            augment: Vec::new(),
            fill: 0.0,
            workers: 1,
            queue: 4,
        }
    }

    /// Every picture once, in the order of the set, as they are; one worker.
    #[must_use]
    pub fn evaluation(batch: usize) -> Self {
        Self {
            shuffle: false,
            ..Self::training(batch, 1, 0)
        }
    }

    /// Number of batches in an epoch of a set of `pictures`.
    #[must_use]
    pub fn batches(&self, pictures: usize) -> usize {
        match (self.batch, self.drop_last) {
            (0, _) => 0,
            (batch, true) => pictures / batch,
            (batch, false) => pictures.div_ceil(batch),
        }
    }
}

/// Pictures ready for the network. Its buffers return to the loader when it is dropped.
pub struct Batch {
    /// The pictures after augmentation and normalization, `[n, C, H, W]`.
    pub images: Vec<f32>,
    /// Class of each picture.
    pub labels: Vec<u32>,
    /// Index of each picture in its set.
    pub indices: Vec<u32>,
    /// Epoch this batch belongs to, from 0.
    pub epoch: usize,
    /// Number of this batch in its epoch, from 0.
    pub number: usize,
    home: Weak<Shared>,
}

impl Batch {
    /// Number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch {} of epoch {}: {} pictures",
            self.number,
            self.epoch,
            self.len()
        )
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.lock().free.push(Buffers {
                images: std::mem::take(&mut self.images),
                labels: std::mem::take(&mut self.labels),
                indices: std::mem::take(&mut self.indices),
            });
        }
    }
}

/// The batches of some epochs of a set, in order: an iterator whose items are ready before they are asked
/// for, as long as the workers keep up. After an error it ends. Dropping it stops the workers.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared {
    dataset: Arc<Dataset>,
    /// `None` if the set is prepared.
    preprocess: Option<Preprocess>,
    /// What covers a part of a picture, per channel: the value that normalization turns into 0. Empty if that is, about, each picture's
    /// own mean.
    cover: Vec<f32>,
    options: LoaderOptions,
    /// Number of batches in an epoch, at least 1.
    batches: usize,
    state: Mutex<State>,
    /// A place in the ring became free, or work ended.
    room: Condvar,
    /// A batch was finished.
    ready: Condvar,
}

struct State {
    /// The ticket that the next worker takes.
    next: usize,
    /// The ticket that the consumer gets next; `next` never runs more than the ring's length ahead of it.
    head: usize,
    /// The ticket at which the stream ends.
    end: usize,
    /// Finished batches; that of a ticket is at the ticket modulo the ring's length.
    ring: Vec<Option<Result<Batch, DataError>>>,
    free: Vec<Buffers>,
    /// The order of epoch `order_epoch`.
    order: Vec<u32>,
    order_epoch: Option<usize>,
}

#[derive(Default)]
struct Buffers {
    images: Vec<f32>,
    labels: Vec<u32>,
    indices: Vec<u32>,
}

impl Loader {
    /// Starts to prepare batches of `dataset`, normalized by `preprocess`.
    ///
    /// # Errors
    /// [`DataError::Setting`] if an option cannot work, [`DataError::Inconsistent`] if the set is not
    /// sound, [`DataError::Thread`] if no worker can be started.
    pub fn new(
        dataset: Arc<Dataset>,
        preprocess: &Preprocess,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        dataset.validate()?;
        let batches = check(&dataset, &options)?;
        if let Err(error) = preprocess.check(dataset.shape) {
            return Err(setting("data.preprocess", error.to_string()));
        }
        let order = match u32::try_from(dataset.len()) {
            Ok(count) => (0..count).collect(),
            Err(_) => {
                return Err(setting(
                    "data",
                    format!("{} pictures are more than 2^32", dataset.len()),
                ));
            }
        };
        let ring = options.queue;
        let prepared = dataset.prepared.is_some();
        let first = options
            .first_epoch
            .saturating_mul(batches)
            .saturating_add(options.first_batch);
        Self::start(Shared {
            state: Mutex::new(State {
                next: first,
                head: first,
                end: options.epochs.saturating_mul(batches),
                ring: std::iter::repeat_with(|| None).take(ring).collect(),
                free: Vec::new(),
                order,
                order_epoch: None,
            }),
            dataset,
            cover: match (prepared, &preprocess.gcn, &preprocess.mean[..]) {
                (false, Some(_), _) => Vec::new(),
                (true, ..) | (_, _, []) => vec![0.0],
                (_, _, mean) => mean.iter().map(|mean| mean / preprocess.scale).collect(),
            },
            preprocess: (!prepared).then(|| preprocess.clone()),
            options,
            batches,
            room: Condvar::new(),
            ready: Condvar::new(),
        })
    }

    fn start(shared: Shared) -> Result<Self, DataError> {
        let wanted = shared.options.workers;
        let mut loader = Self {
            shared: Arc::new(shared),
            workers: Vec::new(),
            waited: Duration::ZERO,
        };
        for number in 0..wanted {
            let shared = Arc::clone(&loader.shared);
            let started = thread::Builder::new()
                .name(format!("skinny-loader-{number}"))
                .spawn(move || shared.work());
            match started {
                Ok(worker) => loader.workers.push(worker),
                Err(source) if number == 0 => return Err(DataError::Thread { source }),
                Err(error) => {
                    tracing::warn!(
                        "only {number} of {wanted} loader workers could be started: {error}"
                    );
                    break;
                }
            }
        }
        Ok(loader)
    }

    /// Number of batches in each epoch.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        self.shared.batches
    }

    /// The set.
    #[must_use]
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.shared.dataset
    }

    /// How long `next` has waited in all because a batch was not ready.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.shared.lock();
        if state.head >= state.end {
            return None;
        }
        let slot = state.head % state.ring.len();
        if state.ring[slot].is_none() {
            let start = Instant::now();
            while state.ring[slot].is_none() {
                state = wait(&self.shared.ready, state);
            }
            self.waited += start.elapsed();
        }
        let result = state.ring[slot].take();
        state.head += 1;
        if let Some(Err(_)) = result {
            state.end = state.head;
        }
        drop(state);
        self.shared.room.notify_all();
        result
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().end = 0;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its panics; there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("dataset", &self.shared.dataset.name)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is sound at every moment at which a panic could let go of the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a worker.
    fn work(self: &Arc<Self>) {
        let mut scratch = vec![0.0; self.dataset.picture_len()];
        loop {
            let mut state = self.lock();
            while state.next < state.end && state.next >= state.head + state.ring.len() {
                state = wait(&self.room, state);
            }
            if state.next >= state.end {
                return;
            }
            let ticket = state.next;
            state.next += 1;
            let (epoch, number) = (ticket / self.batches, ticket % self.batches);
            let mut buffers = state.free.pop().unwrap_or_default();
            state.order_for(epoch, &self.options);
            let begin = number * self.options.batch;
            let end = state
                .order
                .len()
                .min(begin.saturating_add(self.options.batch));
            buffers.indices.clear();
            buffers.indices.extend_from_slice(&state.order[begin..end]);
            drop(state);

            let result = catch_unwind(AssertUnwindSafe(|| {
                self.fill(&mut buffers, &mut scratch, epoch)
            }))
            .unwrap_or_else(|_| {
                Err(DataError::Worker {
                    name: self.dataset.name.clone(),
                })
            });
            let result = result.map(|()| Batch {
                images: buffers.images,
                labels: buffers.labels,
                indices: buffers.indices,
                epoch,
                number,
                home: Arc::downgrade(self),
            });
            let mut state = self.lock();
            let slot = ticket % state.ring.len();
            state.ring[slot] = Some(result);
            drop(state);
            self.ready.notify_all();
        }
    }

    /// Fills images and labels of the pictures in `buffers.indices`.
    fn fill(
        &self,
        buffers: &mut Buffers,
        scratch: &mut [f32],
        epoch: usize,
    ) -> Result<(), DataError> {
        let dataset = &*self.dataset;
        let length = dataset.picture_len();
        buffers.labels.clear();
        buffers.labels.extend(
            buffers
                .indices
                .iter()
                .map(|&index| dataset.labels[index as usize]),
        );
        buffers.images.resize(buffers.indices.len() * length, 0.0);
        for (image, &index) in buffers
            .images
            .chunks_exact_mut(length)
            .zip(&buffers.indices)
        {
            match &dataset.prepared {
                Some(values) => {
                    let start = index as usize * length;
                    image.copy_from_slice(&values[start..start + length]);
                }
                None => dataset.read(index as usize, image)?,
            }
            let key = Key {
                seed: self.options.seed,
                epoch: epoch as u64,
                index: u64::from(index),
            };
            let own_mean = match self.cover.is_empty() {
                true => [image.iter().sum::<f32>() / length as f32],
                false => [0.0],
            };
            augment(
                &self.options.augment,
                image,
                scratch,
                dataset.shape,
                Fill {
                    outside: self.options.fill,
                    cover: match &self.cover[..] {
                        [] => &own_mean,
                        cover => cover,
                    },
                },
                key,
            );
            if let Some(preprocess) = &self.preprocess {
                preprocess.normalize(image, dataset.shape);
            }
        }
        Ok(())
    }
}

impl State {
    /// Makes `order` that of `epoch`.
    fn order_for(&mut self, epoch: usize, options: &LoaderOptions) {
        if options.shuffle && self.order_epoch != Some(epoch) {
            Random::new(options.seed, Purpose::Order, epoch as u64, 0).permutation(&mut self.order);
            self.order_epoch = Some(epoch);
        }
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

fn setting(key: &str, reason: String) -> DataError {
    DataError::Setting {
        key: key.to_owned(),
        reason,
    }
}

/// Checks `options` and gives the number of batches in an epoch.
fn check(dataset: &Dataset, options: &LoaderOptions) -> Result<usize, DataError> {
    for (key, value) in [
        ("data.batch", options.batch),
        ("data.workers", options.workers),
        ("data.queue", options.queue),
    ] {
        if value == 0 {
            return Err(setting(key, "is 0, but must be at least 1".into()));
        }
    }
    if options.queue > 1 << 16 || options.workers > 1 << 10 {
        return Err(setting(
            "data.queue",
            "at most 65536 batches ahead and 1024 workers are possible".into(),
        ));
    }
    for augment in &options.augment {
        augment
            .check()
            .map_err(|error| setting("data.augment", error.to_string()))?;
    }
    if !(0.0..=255.0).contains(&options.fill) {
        return Err(setting(
            "data.fill",
            format!("{} must be 0 to 255", options.fill),
        ));
    }
    let batches = options.batches(dataset.len());
    if batches == 0 {
        return Err(setting(
            "data.batch",
            format!(
                "{} is more than the {} pictures of \"{}\", and an incomplete last batch is left out; choose a smaller batch",
                options.batch,
                dataset.len(),
                dataset.name
            ),
        ));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_gives_an_error_and_not_a_wait_for_ever() {
        let names = vec!["only".to_owned()];
        let dataset = Dataset::in_memory("mine", [1, 1, 1], names, vec![0; 4], vec![0; 4]).unwrap();
        // `new` refuses these settings, with which normalization would panic.
        let preprocess = Preprocess {
            std: vec![0.0],
            ..Preprocess::default()
        };
        let dataset = Arc::new(dataset);
        let options = LoaderOptions::evaluation(1);
        assert!(Loader::new(Arc::clone(&dataset), &preprocess, options.clone()).is_err());
        let mut loader = Loader::start(Shared {
            state: Mutex::new(State {
                next: 0,
                head: 0,
                end: 4,
                ring: [None, None].into(),
                free: Vec::new(),
                order: vec![0, 1, 2, 3],
                order_epoch: None,
            }),
            dataset,
            preprocess: Some(preprocess),
            cover: vec![0.0],
            options,
            batches: 4,
            room: Condvar::new(),
            ready: Condvar::new(),
        })
        .unwrap();
        assert!(matches!(loader.next(), Some(Err(DataError::Worker { .. }))));
        assert!(loader.next().is_none());
    }
}
