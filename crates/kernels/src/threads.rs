//! A small pool of threads with a cheap hand-over: everyone starts with an equal share and helps the others with theirs.
//!
//! A training step hands work over a dozen times in a few milliseconds, so workers wait for the next
//! job by spinning for a moment before they sleep. A worker that comes late, because it slept or another
//! program has its core, finds that the others have done its share: nobody waits for it.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{JoinHandle, Thread};

/// How often a waiting thread looks again before it sleeps, a hundred or two hundred microseconds: longer than it takes
/// to wake up in a virtual machine, and long enough for the system to see two busy threads and give them two cores.
const SPINS: usize = 4000;

/// A fixed number of threads that work on the items of a slice together.
///
/// With one thread there is no pool: everything runs inline on the caller.
pub struct Threads {
    count: usize,
    shared: Arc<Shared>,
    /// Held by the call that uses the workers; its holder alone writes `Shared::job`.
    busy: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

/// One job: the erased closure, which runs the share of the thread with the given number.
#[derive(Clone)]
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    caller: Thread,
}

struct Shared {
    /// Who may take part in which job.
    entry: Entry,
    job: UnsafeCell<Option<Job>>,
    asleep: Vec<AtomicBool>,
    /// What is left of each thread's share.
    shares: Vec<Share>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the holder of `Threads::busy` while the entry is closed and nobody is inside, that
// is while no worker reads it, and is published to the workers by the opening. The closure behind `run` is `Sync`,
// and lives until the entry is closed and everybody has left.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is only used while its closure is borrowed by `Threads::run`.
unsafe impl Send for Shared {}

impl Threads {
    /// A pool of `count` threads, the caller included; 0 counts as 1.
    ///
    /// If the system refuses to start a thread, the pool has as many as it got.
    pub fn new(count: usize) -> Self {
        let wanted = count.max(1) - 1;
        let shared = Arc::new(Shared {
            entry: Entry::default(),
            job: UnsafeCell::new(None),
            asleep: (0..wanted).map(|_| AtomicBool::new(false)).collect(),
            shares: (0..=wanted).map(|_| Share::default()).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers: Vec<_> = (0..wanted)
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("skinny-{}", worker + 1))
                    .spawn(move || shared.work(worker))
                    .ok()
            })
            .collect();
        Self {
            count: workers.len() + 1,
            shared,
            busy: Mutex::new(()),
            workers,
        }
    }

    /// The number of threads, the caller included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `f(index, item)` on every item and returns when all are done.
    ///
    /// Thread `t` of `n` starts with the contiguous items `t·len/n .. (t+1)·len/n`, the caller with the first share;
    /// who is done takes the last items of the others' shares. So it is open which thread runs an item, and a result
    /// that must not depend on it must not depend on the thread. A call from inside another one runs inline. If `f` panics, the panic continues on the caller after
    /// every thread has stopped.
    pub fn for_each<T: Send>(&self, items: &mut [T], f: impl Fn(usize, &mut T) + Sync) {
        let length = items.len();
        let base = Base(items.as_mut_ptr());
        self.share(length, &|index| {
            // SAFETY: `share` calls with every index below the length of `items` once, and `items` is borrowed
            // mutably until it returns; `T: Send` lets another thread have an item.
            f(index, unsafe { &mut *base.at(index) });
        });
    }

    /// Runs `f(index, chunk)` on every chunk of `size` values, the last one possibly shorter, like
    /// [`Self::for_each`]. `size` must not be 0.
    pub fn for_each_chunk<T: Send>(
        &self,
        values: &mut [T],
        size: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let length = values.len();
        let base = Base(values.as_mut_ptr());
        self.share(length.div_ceil(size), &|index| {
            let (from, to) = (index * size, length.min((index + 1) * size));
            // SAFETY: `share` calls with every index once, so the chunks are disjoint parts of `values`, which is
            // borrowed mutably until it returns; `T: Send` lets another thread have them.
            f(index, unsafe {
                std::slice::from_raw_parts_mut(base.at(from), to - from)
            });
        });
    }

    /// Calls `f` once with every index below `length`.
    fn share(&self, length: usize, f: &(dyn Fn(usize) + Sync)) {
        let guard = match self.busy.try_lock() {
            // A panic of `f` unwinds through here after all workers have stopped, so the state is sound.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
            Ok(guard) => Some(guard),
        };
        let (count, items) = (self.count, u32::try_from(length));
        let (true, true, Ok(items)) = (count > 1 && length > 1, guard.is_some(), items) else {
            (0..length).for_each(f);
            return;
        };
        let border = |thread: usize| (thread as u64 * u64::from(items) / count as u64) as u32;
        let shares = &self.shared.shares[..count];
        for (thread, share) in shares.iter().enumerate() {
            share.put(border(thread), border(thread + 1));
        }
        self.run(&|thread: usize| {
            while let Some(index) = shares[thread].take_first() {
                f(index);
            }
            for other in (thread + 1..count).chain(0..thread) {
                while let Some(index) = shares[other].take_last() {
                    f(index);
                }
            }
        });
    }

    /// Runs `job` on the caller and on the workers that come before the caller has finished it; the caller holds `busy`.
    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        let pointer: *const (dyn Fn(usize) + Sync + '_) = job;
        // SAFETY: only the lifetime changes; the pointer is not used after this function, which closes the entry and
        // waits for everybody inside before it returns or unwinds.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(pointer) };
        // SAFETY: `busy` is held, the entry is closed and nobody is inside, so nobody else looks at `job`.
        unsafe {
            *shared.job.get() = Some(Job {
                run,
                caller: std::thread::current(),
            })
        };
        shared.entry.open();
        self.wake();
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        shared.entry.close();
        let mut spins = 0;
        while !shared.entry.is_empty() {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::park();
            }
        }
        let workers = shared
            .panic
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take();
        match (own, workers) {
            (Err(panic), _) | (Ok(()), Some(panic)) => resume_unwind(panic),
            (Ok(()), None) => {}
        }
    }

    fn wake(&self) {
        for (asleep, worker) in self.shared.asleep.iter().zip(&self.workers) {
            if asleep.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its jobs, so there is nothing to report here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads")
            .field("count", &self.count)
            .finish()
    }
}

impl Shared {
    fn work(&self, worker: usize) {
        let mut seen = 0;
        while self.enter(worker, &mut seen) {
            // SAFETY: this worker is inside, so the caller does not write `job` and keeps the closure alive.
            let job = unsafe { (*self.job.get()).clone() };
            let caller = job.map(|job| {
                // SAFETY: as above; the closure is `Sync`.
                let run = unsafe { &*job.run };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(worker + 1))) {
                    *self.panic.lock().unwrap_or_else(|e| e.into_inner()) = Some(panic);
                }
                job.caller
            });
            if let (true, Some(caller)) = (self.entry.leave(), caller) {
                caller.unpark();
            }
        }
    }

    /// Waits for a job after number `seen` and takes part in it; false if the pool is being dropped.
    fn enter(&self, worker: usize, seen: &mut u64) -> bool {
        let mut spins = 0;
        loop {
            if self.entry.enter(seen) {
                return true;
            }
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            self.asleep[worker].store(true, Ordering::SeqCst);
            // A job or a stop that came before the flag was set has not been announced to this thread.
            if !self.entry.is_open_after(*seen) && !self.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            self.asleep[worker].store(false, Ordering::SeqCst);
        }
    }
}

/// The door to a job: its number, whether it is open, and how many workers are inside.
#[derive(Default)]
#[repr(align(64))]
struct Entry(AtomicU64);

impl Entry {
    /// The number of the job lies above this bit, the number of workers inside below.
    const OPEN: u64 = 1 << 16;

    fn number(state: u64) -> u64 {
        state / (2 * Self::OPEN)
    }

    /// Lets workers in to the next job, of which `Shared::job` was written before.
    fn open(&self) {
        let number = Self::number(self.0.load(Ordering::Relaxed)) + 1;
        self.0
            .store((2 * number + 1) * Self::OPEN, Ordering::SeqCst);
    }

    /// Lets no more workers in.
    fn close(&self) {
        self.0.fetch_and(!Self::OPEN, Ordering::AcqRel);
    }

    /// Whether no worker is inside; what they have done has happened then.
    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire).is_multiple_of(Self::OPEN)
    }

    /// Whether a job after number `seen` is open.
    fn is_open_after(&self, seen: u64) -> bool {
        let state = self.0.load(Ordering::SeqCst);
        Self::number(state) != seen && state & Self::OPEN != 0
    }

    /// Goes in if a job after number `seen` is open, which is the last one seen then.
    fn enter(&self, seen: &mut u64) -> bool {
        let next =
            |state| (Self::number(state) != *seen && state & Self::OPEN != 0).then_some(state + 1);
        let entered = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        entered.map(|state| *seen = Self::number(state)).is_ok()
    }

    /// Goes out; whether this was the last one inside of a job that is closed, for whom the caller may be waiting.
    fn leave(&self) -> bool {
        let state = self.0.fetch_sub(1, Ordering::AcqRel);
        state % (2 * Self::OPEN) == 1
    }
}

/// The indices that are left of one thread's share: the first in the upper half, the end in the lower. On a cache line
/// of its own.
#[derive(Default)]
#[repr(align(64))]
struct Share(AtomicU64);

impl Share {
    fn put(&self, first: u32, end: u32) {
        // The hand-over of the job publishes it.
        self.0
            .store(u64::from(first) << 32 | u64::from(end), Ordering::Relaxed);
    }

    /// Takes the first index, which is given to nobody else then.
    fn take_first(&self) -> Option<usize> {
        self.take(1 << 32, 0).map(|(first, _)| first)
    }

    /// The same with the last one.
    fn take_last(&self) -> Option<usize> {
        self.take(0, 1).map(|(_, end)| end - 1)
    }

    /// First and end as they were before the first grew or the end fell.
    fn take(&self, grow: u64, fall: u64) -> Option<(usize, usize)> {
        let parts = |left: u64| ((left >> 32) as usize, left as u32 as usize);
        let next = |left| (parts(left).0 < parts(left).1).then(|| left + grow - fall);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.ok().map(parts)
    }
}

/// A pointer to the first item that the threads of one call share.
struct Base<T>(*mut T);

// SAFETY: `for_each` uses it for disjoint items only, with `T: Send`.
unsafe impl<T: Send> Sync for Base<T> {}

impl<T> Base<T> {
    /// The pointer to item `index`, which must lie in the slice.
    fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "the target has no threads")]
    fn every_item_is_visited_once_with_its_index() {
        for count in [0, 1, 2, 3, 8] {
            let threads = Threads::new(count);
            assert_eq!(threads.count(), count.max(1));
            for length in [0, 1, 2, 7, 64, 1000] {
                let mut items = vec![0; length];
                threads.for_each(&mut items, |index, item| *item += index + 1);
                assert!(
                    items
                        .iter()
                        .enumerate()
                        .all(|(index, item)| *item == index + 1)
                );
            }
        }
    }

    #[test]
    fn chunks_cover_the_slice_and_the_last_may_be_shorter() {
        let threads = Threads::new(3);
        for (length, size) in [(0, 4), (1, 4), (4, 4), (10, 4), (1001, 10)] {
            let mut values = vec![usize::MAX; length];
            threads.for_each_chunk(&mut values, size, |index, chunk| {
                assert!(chunk.len() == size || (index + 1) * size > length);
                chunk.fill(index);
            });
            assert!(
                values
                    .iter()
                    .enumerate()
                    .all(|(at, index)| *index == at / size)
            );
        }
    }

    #[test]
    fn thousands_of_jobs_in_a_row_all_finish() {
        let threads = Threads::new(4);
        let mut counts = [0u32; 4];
        for _ in 0..5000 {
            threads.for_each(&mut counts, |_, count| *count += 1);
        }
        assert_eq!(counts, [5000; 4]);
    }

    #[test]
    fn workers_that_fell_asleep_wake_up() {
        let threads = Threads::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mut items = [0; 9];
            threads.for_each(&mut items, |index, item| *item = index);
            assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    #[test]
    fn a_call_inside_a_call_runs_inline() {
        let threads = Threads::new(2);
        let mut rows = [[0u32; 5]; 6];
        threads.for_each(&mut rows, |row, items| {
            threads.for_each(items, |column, item| *item = (row * 10 + column) as u32);
        });
        assert_eq!(rows[5], [50, 51, 52, 53, 54]);
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "the target has no threads")]
    fn calls_from_several_threads_do_not_mix() {
        let threads = Threads::new(2);
        std::thread::scope(|scope| {
            for caller in 0..4u32 {
                let threads = &threads;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mut items = [0; 16];
                        threads.for_each(&mut items, |_, item| *item = caller);
                        assert_eq!(items, [caller; 16]);
                    }
                });
            }
        });
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "the target has no threads")]
    fn who_is_done_helps_the_others() {
        let threads = Threads::new(2);
        let done = AtomicUsize::new(0);
        let mut items = [0; 8];
        threads.for_each(&mut items, |index, item| {
            // The second item waits for all others, also for those behind it in its own share.
            while index == 1 && done.load(Ordering::SeqCst) < 7 {
                std::thread::yield_now();
            }
            *item += index;
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    #[cfg_attr(panic = "abort", ignore = "a panic ends the program")]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let threads = Threads::new(3);
        for bad in 0..6 {
            let mut items = [0; 6];
            let result = catch_unwind(AssertUnwindSafe(|| {
                threads.for_each(&mut items, |index, item| {
                    assert_ne!(index, bad, "the item that fails");
                    *item = 1;
                });
            }));
            assert!(result.is_err(), "item {bad}");
        }
        // Every worker still works: none gets past the barrier before each thread has an item.
        let mut names = vec![None; 3];
        let barrier = std::sync::Barrier::new(3);
        threads.for_each(&mut names, |_, name| {
            barrier.wait();
            *name = Some(std::thread::current().id())
        });
        names.sort_by_key(|name| format!("{name:?}"));
        names.dedup();
        assert_eq!(names.len(), 3);
    }
}
