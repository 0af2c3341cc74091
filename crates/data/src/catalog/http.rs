//! One request for a file or for the rest of it.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Error, Timeout};

use super::{CatalogError, FetchOptions};

/// Fewest bytes that must come in the time after which a connection without any byte is given up; a
/// mirror that is slower is left for the next one.
const SLOWEST: u64 = 1024;

/// What a server answered to the request for the bytes from some position on.
pub(super) enum Answer {
    /// The bytes from that position on.
    Rest(Body),
    /// The bytes from the beginning, although later ones were asked for.
    Whole(Body),
    /// It has no bytes at that position.
    Nothing,
    /// No bytes now; another time perhaps.
    Later(String),
    /// No bytes, and it is of no use to ask again.
    Never(String),
}

/// What sends the requests of a fetch.
///
/// # Errors
/// [`CatalogError::Certificates`] if certificates are named that cannot be used.
pub(super) fn agent(options: &FetchOptions) -> Result<Agent, CatalogError> {
    let roots = match &options.certificates {
        Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
        None => RootCerts::WebPki,
    };
    Ok(Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .user_agent(concat!("skinny/", env!("CARGO_PKG_VERSION")))
        // A compressed file must arrive as it lies on the server, not compressed once more.
        .accept_encoding("identity")
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_send_request(Some(options.stall_timeout))
        .timeout_recv_response(Some(options.stall_timeout))
        .timeout_per_read(Some(options.stall_timeout))
        .build()
        .new_agent())
}

fn certificates(path: &Path) -> Result<Vec<ureq::tls::Certificate<'static>>, CatalogError> {
    let fault = |reason: String| CatalogError::Certificates {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| fault(error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(fault("no certificate in PEM form found".to_owned()));
    }
    Ok(found)
}

/// Asks for the bytes of a file of `size` bytes from `start` on.
pub(super) fn ask(agent: &Agent, url: &str, start: u64, size: u64) -> Answer {
    let mut request = agent.get(url);
    if start > 0 {
        request = request.header(header::RANGE, format!("bytes={start}-"));
    }
    if is_own_machine(url) {
        request = request.config().proxy(None).build();
    }
    match request.call() {
        Ok(response) => judge(response, start, size),
        Err(error) => {
            let reason = describe(&error);
            match error {
                Error::Io(error) if is_lookup(&error) => Answer::Never(reason),
                Error::Io(_) | Error::Timeout(_) | Error::ConnectionFailed | Error::Protocol(_) => {
                    Answer::Later(reason)
                }
                _ => Answer::Never(reason),
            }
        }
    }
}

fn judge(response: Response<Body>, start: u64, size: u64) -> Answer {
    let status = response.status().as_u16();
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if matches!(status, 200 | 206) && kind.is_some_and(|kind| kind.starts_with("text/html")) {
        return Answer::Never("it answers with a web page, not with the file".to_owned());
    }
    match status {
        200 if start == 0 => Answer::Rest(response.into_body()),
        200 => Answer::Whole(response.into_body()),
        206 => match content_range(response.headers()) {
            Some((_, Some(total))) if total != size => Answer::Never(format!(
                "its file has {total} bytes where {size} are published"
            )),
            Some((first, _)) if first == start => Answer::Rest(response.into_body()),
            _ if start > 0 => Answer::Nothing,
            _ => Answer::Never("it gives a part of the file that was not asked for".to_owned()),
        },
        416 if start > 0 => Answer::Nothing,
        408 | 425 | 429 | 500..=599 => Answer::Later(format!("HTTP status {status}")),
        _ => Answer::Never(format!("HTTP status {status}")),
    }
}

/// First position and length of the whole file from a header such as `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, total))
}

/// Reads at most `limit` bytes of a body and hands them to `sink`. `Ok(None)` means that the body ended or
/// the limit was reached; `Ok(Some(reason))` that the connection failed, stalled or crept.
pub(super) fn receive<E>(
    body: Body,
    limit: u64,
    stall: Duration,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let mut reader = body.into_reader().take(limit);
    let mut buffer = vec![0; 1 << 16];
    let mut window = Instant::now();
    let mut window_bytes = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) => return Ok(Some(describe(&Error::from(error)))),
        };
        sink(&buffer[..count])?;
        window_bytes += count as u64;
        if window.elapsed() > stall {
            if window_bytes < SLOWEST && reader.limit() > 0 {
                return Ok(Some(format!(
                    "only {window_bytes} bytes in {}",
                    seconds(stall)
                )));
            }
            window = Instant::now();
            window_bytes = 0;
        }
    }
}

/// A reason on one line, in words for somebody who knows no HTTP library.
fn describe(error: &Error) -> String {
    let text = match error {
        Error::HostNotFound => "host not found (is there a network?)".to_owned(),
        Error::Timeout(Timeout::Resolve) => "the host's address was not found in time".to_owned(),
        Error::Timeout(Timeout::Connect) => "no connection in time".to_owned(),
        Error::Timeout(Timeout::PerRead) => "it stopped sending".to_owned(),
        Error::Timeout(_) => "no answer in time".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection ended early".to_owned()
        }
        Error::Io(error) if is_lookup(error) => describe(&Error::HostNotFound),
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    text.replace(char::is_control, " ")
}

/// Whether no address of the host was found. The standard library has no kind of error for it, only words.
fn is_lookup(error: &io::Error) -> bool {
    error
        .to_string()
        .starts_with("failed to lookup address information")
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// Whether the address is of this machine, which no proxy can reach.
fn is_own_machine(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else {
        return false;
    };
    matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_and_others_refused() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 0-9/*"), Some((0, None)));
        for wrong in [
            "",
            "bytes",
            "bytes */10",
            "bytes 5-9",
            "lines 5-9/10",
            "bytes x-9/10",
            "bytes 5-9/ten",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(content_range(&HeaderMap::new()), None);
    }

    #[test]
    fn reasons_are_one_line_in_plain_words() {
        let words = |error: io::Error| describe(&Error::Io(error));
        let lookup = "failed to lookup address information: Name or service not known";
        assert_eq!(
            words(io::Error::other(lookup)),
            "host not found (is there a network?)"
        );
        assert_eq!(
            words(io::ErrorKind::UnexpectedEof.into()),
            "the connection ended early"
        );
        assert_eq!(words(io::Error::other("bad\r\nline")), "bad  line");
        assert_eq!(
            describe(&Error::Timeout(Timeout::PerRead)),
            "it stopped sending"
        );
    }

    #[test]
    fn only_this_machine_is_its_own() {
        for url in [
            "http://127.0.0.1:80/a",
            "http://localhost/a",
            "http://[::1]:3000/a",
        ] {
            assert!(is_own_machine(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.example.org/a",
            "https://example.org/localhost",
            "no address",
        ] {
            assert!(!is_own_machine(url), "{url}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_used_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        let options = |path: &Path| FetchOptions {
            certificates: Some(path.to_owned()),
            ..FetchOptions::default()
        };
        let empty = agent(&options(file.path())).unwrap_err().to_string();
        assert!(
            empty.contains("no certificate in PEM form found; correct SSL_CERT_FILE"),
            "{empty}"
        );
        let missing = agent(&options(Path::new("/nowhere/roots.pem")))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("certificates in /nowhere/roots.pem: "),
            "{missing}"
        );
    }
}
