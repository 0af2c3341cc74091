//! A download that is tried out: where it goes, and what came of it.

use std::time::Duration;

use tempfile::TempDir;

use super::super::fixtures::{known, options};
use super::super::http::agent;
use super::super::server::Server;
use super::*;

/// A folder to download into, and what came of it.
pub(super) struct Trial {
    pub(super) dir: TempDir,
    pub(super) content: Vec<u8>,
    pub(super) options: FetchOptions,
    /// Greatest number of bytes that were there.
    pub(super) most: u64,
    pub(super) failures: Vec<String>,
}

impl Trial {
    pub(super) fn of(content: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            content,
            options: options(&[]),
            most: 0,
            failures: Vec::new(),
        }
    }

    pub(super) fn part(&self) -> PathBuf {
        self.dir.path().join("a.gz.part")
    }

    /// Puts bytes there as an earlier run would have left them.
    pub(super) fn leave(self, bytes: &[u8]) -> Self {
        fs::write(self.part(), bytes).unwrap();
        self
    }

    pub(super) fn rounds(mut self, rounds: u32) -> Self {
        self.options.rounds = rounds;
        self
    }

    pub(super) fn stall(mut self, milliseconds: u64) -> Self {
        self.options.stall_timeout = Duration::from_millis(milliseconds);
        self
    }

    pub(super) fn run(&mut self, mirrors: &[&Server]) -> Result<Ending, CatalogError> {
        let mut urls: Vec<String> = mirrors.iter().map(|server| server.url()).collect();
        self.run_urls(&mut urls)
    }

    pub(super) fn run_urls(&mut self, urls: &mut [String]) -> Result<Ending, CatalogError> {
        let file = known("a.gz", &self.content);
        let agent = agent(&self.options).unwrap();
        let (most, failures) = (&mut self.most, &mut self.failures);
        download(
            &file,
            self.dir.path(),
            urls,
            &agent,
            &self.options,
            &mut |progress| match progress {
                Progress::Bytes { done, .. } => *most = (*most).max(done),
                Progress::Failed { reason, .. } => failures.push(reason.to_owned()),
                _ => {}
            },
        )
    }

    /// Runs and expects the file to be there, whole and alone.
    pub(super) fn succeed(&mut self, mirrors: &[&Server]) {
        let ending = self.run(mirrors).unwrap();
        assert!(matches!(ending, Ending::Done), "{:?}", self.failures);
        self.expect_file();
    }

    pub(super) fn expect_file(&self) {
        assert!(fs::read(self.dir.path().join("a.gz")).unwrap() == self.content);
        assert!(!self.part().exists());
        assert!(self.most <= self.content.len() as u64);
    }

    /// Runs, expects no file, and gives the reason of each mirror.
    pub(super) fn fail(&mut self, mirrors: &[&Server]) -> Vec<String> {
        let Ending::Failed(failures) = self.run(mirrors).unwrap() else {
            panic!("the file was got")
        };
        assert!(!self.dir.path().join("a.gz").exists());
        assert!(self.most <= self.content.len() as u64);
        failures.into_iter().map(|failure| failure.reason).collect()
    }
}
