//! A hub on the loopback interface that serves generated files as huggingface.co does, and breaks
//! on request.
//!
//! Files are redirected to another host (`localhost` instead of `127.0.0.1`), as the hub's are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// How an answer goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// A status with these headers, one a line, and no content.
    Status(u16, String),
    /// The right head and only so many bytes of the content.
    Cut(usize),
    /// The right size with the first byte changed.
    Corrupt,
    /// Bytes appended to the content, and counted in its size.
    Longer(usize),
    /// The whole content whatever range was asked for.
    IgnoreRange,
    /// Another first byte than was asked for.
    OtherRange,
    /// The head and the first byte, then silence for so long.
    Stall(Duration),
    /// These bytes instead of an answer.
    Raw(Vec<u8>),
    /// `{"sha":"` and then bytes without end.
    Endless,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct Served {
    revisions: BTreeMap<String, String>,
    commits: BTreeMap<String, Files>,
    /// In what order, to requests whose path begins so; `true` for ever.
    faults: Vec<(String, Fault, bool)>,
    requests: Vec<Request>,
    listing: Option<String>,
    /// [`Fault::Stall`]s whose time is over.
    silences_over: usize,
}

/// The dataset `owner/name`.
pub struct Hub {
    port: u16,
    served: Arc<Mutex<Served>>,
}

impl Hub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(Mutex::new(Served::default()));
        let shared = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, port, &served));
            }
        });
        Self { port, served }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Puts `files` at `commit` and moves `revision` there.
    pub fn push(&self, revision: &str, commit: &str, files: &[(&str, Vec<u8>)]) {
        let mut served = self.served.lock().unwrap();
        served.revisions.insert(revision.into(), commit.into());
        let files = files.iter().map(|(p, b)| ((*p).to_owned(), b.clone()));
        served.commits.insert(commit.into(), files.collect());
    }

    pub fn delete(&self, commit: &str) {
        let mut served = self.served.lock().unwrap();
        served.commits.remove(commit);
        served.revisions.retain(|_, c| c != commit);
    }

    /// The next request whose path begins with `path` meets `fault`.
    pub fn break_once(&self, path: &str, fault: Fault) {
        let mut served = self.served.lock().unwrap();
        served.faults.push((path.into(), fault, false));
    }

    /// All requests whose path begins with `path` meet `fault`.
    pub fn break_always(&self, path: &str, fault: Fault) {
        let mut served = self.served.lock().unwrap();
        served.faults.push((path.into(), fault, true));
    }

    pub fn repair(&self) {
        self.served.lock().unwrap().faults.clear();
    }

    /// Answers with this instead of the true listing.
    pub fn lie(&self, listing: &str) {
        self.served.lock().unwrap().listing = Some(listing.into());
    }

    /// How many of the silences that were asked for are over.
    pub fn silences_over(&self) -> usize {
        self.served.lock().unwrap().silences_over
    }

    /// The requests so far whose path begins with `path`.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        let served = self.served.lock().unwrap();
        let all = served.requests.iter();
        all.filter(|r| r.path.starts_with(path)).cloned().collect()
    }
}

fn answer(stream: TcpStream, port: u16, served: &Mutex<Served>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        })
        .collect();
    let request = Request { path, headers };
    let (reply, fault) = {
        let mut served = served.lock().unwrap();
        served.requests.push(request.clone());
        let at = served
            .faults
            .iter()
            .position(|(p, _, _)| request.path.starts_with(p.as_str()));
        let fault = at.map(|i| {
            if served.faults[i].2 {
                served.faults[i].1.clone()
            } else {
                served.faults.remove(i).1
            }
        });
        (reply(&request, port, &served), fault)
    };
    let silence = match &fault {
        Some(Fault::Stall(time)) => Some(*time),
        _ => None,
    };
    let sent = send(&stream, &request, reply, fault);
    if let Some(time) = silence {
        std::thread::sleep(time);
        served.lock().unwrap().silences_over += 1;
    }
    sent.ok()
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

fn reply(request: &Request, port: u16, served: &Served) -> Reply {
    let missing = |code: &str| Reply {
        status: 404,
        headers: format!("X-Error-Code: {code}\r\n"),
        body: b"not found".to_vec(),
    };
    let path = request.path.split('?').next().unwrap();
    let found = |body: Vec<u8>| Reply {
        status: 200,
        headers: String::new(),
        body,
    };
    if let Some(revision) = path.strip_prefix("/api/datasets/owner/name/revision/") {
        if let Some(lie) = &served.listing {
            return found(lie.clone().into_bytes());
        }
        let revision = revision.replace("%2F", "/");
        let commit = served.revisions.get(&revision).unwrap_or(&revision);
        return match served.commits.get(commit) {
            Some(files) if request.path.ends_with("?blobs=true") => {
                found(listing(commit, files).into_bytes())
            }
            _ => missing("RevisionNotFound"),
        };
    }
    let file = |rest: &str| {
        let (commit, path) = rest.split_once('/')?;
        served.commits.get(commit)?.get(path)
    };
    if let Some(rest) = path.strip_prefix("/datasets/owner/name/resolve/") {
        let Some(bytes) = file(rest) else {
            return missing("EntryNotFound");
        };
        let commit = rest.split('/').next().unwrap();
        return Reply {
            status: 302,
            headers: format!(
                "Location: http://localhost:{port}/cdn/{rest}?signature=x\r\nX-Repo-Commit: \
                 {commit}\r\nX-Linked-Etag: \"{}\"\r\nX-Linked-Size: {}\r\n",
                sha256(bytes),
                bytes.len()
            ),
            body: Vec::new(),
        };
    }
    match path.strip_prefix("/cdn/").and_then(file) {
        Some(bytes) => found(bytes.clone()),
        None => missing("RepoNotFound"),
    }
}

fn send(
    mut stream: &TcpStream,
    request: &Request,
    mut reply: Reply,
    fault: Option<Fault>,
) -> std::io::Result<()> {
    let mut keep = usize::MAX;
    match &fault {
        Some(Fault::Status(status, headers)) => {
            reply = Reply {
                status: *status,
                headers: headers.clone(),
                body: Vec::new(),
            };
        }
        Some(Fault::Raw(bytes)) => return stream.write_all(bytes),
        Some(Fault::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"sha\":\"")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        Some(Fault::Cut(n)) => keep = *n,
        Some(Fault::Stall(_)) => keep = 1,
        Some(Fault::Corrupt) => reply.body[0] ^= 1,
        Some(Fault::Longer(n)) => reply.body.extend(std::iter::repeat_n(0, *n)),
        Some(Fault::IgnoreRange | Fault::OtherRange) | None => {}
    }
    let range: Option<usize> = request
        .header("range")
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .filter(|_| reply.status == 200 && !matches!(fault, Some(Fault::IgnoreRange)));
    if let Some(mut first) = range {
        let whole = reply.body.len();
        if matches!(fault, Some(Fault::OtherRange)) {
            first -= 1;
        }
        if first >= whole {
            reply.status = 416;
            reply.body.clear();
            let _ = write!(reply.headers, "Content-Range: bytes */{whole}\r\n");
        } else {
            reply.status = 206;
            reply.body.drain(..first);
            let range = format!("Content-Range: bytes {first}-{}/{whole}\r\n", whole - 1);
            reply.headers += &range;
        }
    }
    write!(
        stream,
        "HTTP/1.1 {} X\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
        reply.status,
        reply.headers,
        reply.body.len()
    )?;
    stream.write_all(&reply.body[..keep.min(reply.body.len())])?;
    stream.flush()
}

/// The hub's answer for `files`, parquet and archives in large file storage and the rest not.
pub fn listing(commit: &str, files: &Files) -> String {
    let siblings: Vec<_> = files
        .iter()
        .map(|(path, bytes)| {
            let size = bytes.len();
            let mut sibling = serde_json::json!({
                "rfilename": path, "size": size, "blobId": "0123456789".repeat(4),
            });
            if path.ends_with(".parquet") || path.ends_with(".gz") {
                sibling["lfs"] = serde_json::json!({
                    "sha256": sha256(bytes), "size": size, "pointerSize": 134,
                });
            } else if let Some(id) = GIT_IDS.iter().find(|(text, _)| text.as_bytes() == bytes) {
                sibling["blobId"] = id.1.into();
            }
            sibling
        })
        .collect();
    serde_json::json!({
        "id": "owner/name", "sha": commit, "private": false, "gated": false, "siblings": siblings,
    })
    .to_string()
}

/// What `git hash-object --stdin` says.
const GIT_IDS: [(&str, &str); 1] = [(
    "{\"text\":\"hello\"}\n",
    "b5c457be52e2a4d2fb2c8531854552bd03ce332e",
)];

pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}
