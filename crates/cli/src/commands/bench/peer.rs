//! Other programs that run the same model, in Python processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::arguments::Peer;
use crate::failure::Failure;

const SCRIPT: &str = include_str!("peers.py");

/// How to get what the peers need.
const CURE: &str = "make an environment for it: python3 -m venv peers && peers/bin/pip install onnxruntime onnx numpy torch safetensors, \
                    then SKINNY_PYTHON=peers/bin/python skinny bench …";

/// A running peer.
pub struct Process {
    /// Which one it is.
    pub peer: Peer,
    /// Its version.
    pub version: String,
    /// Seconds that it took to load the model, once its libraries were there.
    pub load: f64,
    /// Bytes of its memory at the most so far, Python's and its own libraries' included, and of int8 the quantization.
    pub rss: u64,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a peer on the model in `folder`.
    pub fn start(peer: Peer, threads: usize, folder: &Path) -> Result<Process, Failure> {
        let python = std::env::var("SKINNY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(&python)
            .args(["-c", SCRIPT, peer.name(), &threads.to_string()])
            .arg(folder)
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::data(format!("cannot start {python}: {error}; {CURE}")))?;
        let requests = child.stdin.take();
        let answers = child.stdout.take();
        let (Some(requests), Some(answers)) = (requests, answers) else {
            return Err(Failure::data(format!("cannot talk to {python}; {CURE}")));
        };
        let mut process = Process {
            peer,
            version: String::new(),
            load: 0.0,
            rss: 0,
            child,
            requests: Some(requests),
            answers: BufReader::new(answers),
        };
        let hello = process.answer()?;
        if let Some(error) = hello["error"].as_str() {
            let error = error.lines().next().unwrap_or_default();
            return Err(Failure::data(format!(
                "{} cannot run in {python}: {error}; {CURE}",
                peer.name()
            )));
        }
        process.version = hello["version"].as_str().unwrap_or_default().to_owned();
        process.load = hello["load"].as_f64().unwrap_or_default();
        Ok(process)
    }

    /// Seconds of `runs` runs on the images in a file; the last result goes to `output`.
    pub fn run(
        &mut self,
        batch: usize,
        runs: usize,
        input: &Path,
        output: Option<&Path>,
    ) -> Result<Vec<f64>, Failure> {
        let request = json!({ "batch": batch, "runs": runs, "input": input, "output": output });
        let sent = match &mut self.requests {
            Some(requests) => writeln!(requests, "{request}").and_then(|()| requests.flush()),
            None => Ok(()),
        };
        sent.map_err(|error| self.gone(&error.to_string()))?;
        let answer = self.answer()?;
        self.rss = answer["rss"].as_u64().unwrap_or_default();
        let times = answer["times"].as_array().into_iter().flatten();
        Ok(times.filter_map(Value::as_f64).collect())
    }

    fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(self.gone("it ended")),
            Ok(_) => serde_json::from_str(&line).map_err(|_| self.gone(line.trim())),
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }

    fn gone(&self, why: &str) -> Failure {
        Failure::data(format!(
            "{} does not answer: {why}; {CURE}",
            self.peer.name()
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without requests the script ends; a peer that hangs is ended.
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
