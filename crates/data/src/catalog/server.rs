//! An HTTP server on this machine for tests, as well or ill behaved as a test wants it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Path of the address, e.g. "/a.gz".
    pub(super) path: String,
    /// First byte asked for, if not all were.
    pub(super) from: Option<usize>,
    /// How many requests came before this one.
    pub(super) earlier: usize,
}

/// A connection on which a request came in. It is closed when the handler returns.
pub(super) struct Connection {
    stream: TcpStream,
    stop: Arc<AtomicBool>,
}

impl Connection {
    /// Sends a status line and headers.
    pub(super) fn head(&mut self, status: u16, headers: &[(&str, String)]) {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        self.bytes(
            format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n{headers}\r\n").as_bytes(),
        );
    }

    /// Sends bytes; that the client has gone is its own affair.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a status without content.
    pub(super) fn status(&mut self, status: u16) {
        self.head(status, &[("Content-Length", "0".into())]);
    }

    /// Sends `content` from where it was asked for, as a good server does.
    pub(super) fn serve(&mut self, request: &Request, content: &[u8]) {
        self.promise(request, content);
        self.bytes(&content[request.from.unwrap_or(0).min(content.len())..]);
    }

    /// Sends the head for `content` from where it was asked for.
    pub(super) fn promise(&mut self, request: &Request, content: &[u8]) {
        match request.from {
            None => self.head(200, &[("Content-Length", content.len().to_string())]),
            Some(from) if from < content.len() => {
                let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
                let length = (content.len() - from).to_string();
                self.head(206, &[("Content-Length", length), ("Content-Range", range)]);
            }
            Some(_) => self.head(
                416,
                &[("Content-Range", format!("bytes */{}", content.len()))],
            ),
        }
    }

    /// Sends nothing and keeps the connection until the test is over.
    pub(super) fn stall(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A server that runs until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server that answers with `handler`.
    pub(super) fn start(
        handler: impl Fn(&Request, &mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let handler = Arc::new(handler);
        let (log, stopped) = (requests.clone(), stop.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut connection = Connection {
                    stream: stream.unwrap(),
                    stop: stopped.clone(),
                };
                let (handler, log) = (handler.clone(), log.clone());
                thread::spawn(move || {
                    let Some((path, from)) = read(&connection.stream) else {
                        return;
                    };
                    let request = {
                        let mut log = log.lock().unwrap();
                        let request = Request {
                            path,
                            from,
                            earlier: log.len(),
                        };
                        log.push(request.clone());
                        request
                    };
                    handler(&request, &mut connection);
                });
            }
        });
        Self {
            address,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    /// A server that serves these files as it should.
    pub(super) fn of_files(files: &[(&str, &[u8])]) -> Self {
        let files: Vec<_> = files
            .iter()
            .map(|(name, content)| (format!("/{name}"), content.to_vec()))
            .collect();
        Self::start(move |request, connection| {
            match files.iter().find(|(path, _)| *path == request.path) {
                Some((_, content)) => connection.serve(request, content),
                None => connection.status(404),
            }
        })
    }

    /// Its address without a slash at the end.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked for until now, in the order it came in.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The first byte of each request until now.
    pub(super) fn starts(&self) -> Vec<Option<usize>> {
        self.requests().iter().map(|request| request.from).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The listener waits for a connection: here it is.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Path and first byte of a request.
fn read(stream: &TcpStream) -> Option<(String, Option<usize>)> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut from = None;
    for line in lines {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            return Some((path, from));
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.strip_suffix('-')?.parse().ok();
        }
    }
    None
}
