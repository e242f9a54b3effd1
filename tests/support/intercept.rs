//! A server between the plugin and an API server, which sees every request and can spoil some: for what no healthy API
//! server does on demand.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::program::Program;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The API server answers it.
    Pass,
    /// It is answered with this status and a `Status` that says so.
    Status(u16),
    /// It is answered with this status and asked to wait: the value of `Retry-After`.
    Busy(u16, &'static str),
    /// It is answered with this text.
    Answer(&'static str),
    /// Nobody answers, and the connection stays.
    Silence,
    /// The connection is closed without an answer.
    Close,
    /// The answer begins, and then nothing more comes.
    Stall,
    /// The head of the answer comes at once, and then nothing more: a watch whose other end is gone without a word.
    FallSilent,
    /// The answer begins, and then the connection is closed.
    Cut,
    /// The API server does what is asked, and the connection is closed without its answer.
    Lose,
    /// The API server does what is asked, and its answer never comes: the connection stays.
    Hang,
    /// The API server does what is asked, and who stands before it answers with this status.
    Misreport(u16),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Call {
    /// How many requests came before it.
    pub number: usize,
    /// How many requests for the same path, without its query, came before it.
    pub of_path: usize,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path with query.
    pub target: String,
    /// Whether it asks for a dry run, in the one place where Kubernetes looks for that: the query, or the body of a deletion.
    pub is_dry_run: bool,
}

impl Call {
    /// Whether it may change something. What is asked of the API server by a review is no object.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !self.is_dry_run && !self.target.contains("/selfsubjectaccessreviews")
    }
}

/// Gives each request that is meant this fate when it comes the first time, and lets it pass when it is asked again: in one run of
/// a command every read and every write of it fails once. Counts how many did.
pub fn once_each(
    fate: Fate,
    count: Arc<AtomicUsize>,
    is_meant: impl Fn(&Call) -> bool + Send + Sync,
) -> impl Fn(&Call) -> Fate + Send + Sync {
    let seen = Mutex::new(BTreeSet::new());
    move |call| {
        let path = call.target.split('?').next().unwrap_or_default();
        let request = (call.method.clone(), path.to_owned(), call.is_write());
        if !is_meant(call) || !seen.lock().expect("no holder panics").insert(request) {
            return Fate::Pass;
        }
        count.fetch_add(1, Ordering::SeqCst);
        fate
    }
}

/// Decides on a request.
pub type Judge = dyn Fn(&Call) -> Fate + Send + Sync;

/// The server. It ends with the value.
pub struct Interceptor {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
    created: Arc<Mutex<Vec<String>>>,
    held: Arc<AtomicUsize>,
    upstream: Option<(String, u32)>,
    proxy: Option<Child>,
}

impl Interceptor {
    /// Stands in front of a cluster, as its administrator: `kubectl proxy` does the authentication.
    pub fn before(cluster: &Cluster, judge: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> Result<Self> {
        Self::with_pages(cluster, 500, judge)
    }

    /// As [`Interceptor::before`], but pages have at most so many objects, whatever is asked for.
    pub fn with_pages(cluster: &Cluster, page: u32, judge: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> Result<Self> {
        let mut proxy = Command::new(Program::Kubectl.path()?);
        proxy.arg("--kubeconfig").arg(cluster.kubeconfig_file()).args(["proxy", "--port=0"]);
        let mut proxy = proxy.stdout(Stdio::piped()).spawn().context("starting kubectl proxy")?;
        let mut line = String::new();
        BufReader::new(proxy.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        // "Starting to serve on 127.0.0.1:PORT"
        let upstream = line.split_whitespace().last().context("kubectl proxy says where it listens")?.to_owned();
        Self::start(Some((upstream, page)), Some(proxy), judge)
    }

    /// Stands alone; a request that is to pass is closed.
    pub fn alone(judge: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> Result<Self> {
        Self::start(None, None, judge)
    }

    /// One more in front of the same cluster, which counts for itself. It costs no process of its own, and serves only as
    /// long as this one.
    pub fn beside(&self, judge: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> Result<Self> {
        Self::start(self.upstream.clone(), None, judge)
    }

    fn start(
        upstream: Option<(String, u32)>,
        child: Option<Child>,
        judge: impl Fn(&Call) -> Fate + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
        let address = format!("http://{}", listener.local_addr()?);
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let created: Arc<Mutex<Vec<String>>> = Arc::default();
        let held: Arc<AtomicUsize> = Arc::default();
        let record = Record { seen: Arc::clone(&seen), created: Arc::clone(&created), held: Arc::clone(&held) };
        let judge: Arc<Judge> = Arc::new(judge);
        let server = upstream.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, judge, server) = (record.clone(), Arc::clone(&judge), server.clone());
                thread::spawn(move || serve(stream, server.as_ref(), &record, &*judge));
            }
        });
        Ok(Self { address, seen, created, held, upstream, proxy: child })
    }

    /// Where it listens, for `--server`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Every request so far: method and path with query.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// Those of them by which the API server has made an object (201): a server-side apply may do so too.
    pub fn creating(&self) -> Vec<String> {
        self.created.lock().map(|created| created.clone()).unwrap_or_default()
    }

    /// How many answers it has kept back so far ([`Fate::Hang`]): what was asked for is done.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.proxy {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What it has seen and done.
#[derive(Clone)]
struct Record {
    seen: Arc<Mutex<Vec<String>>>,
    created: Arc<Mutex<Vec<String>>>,
    held: Arc<AtomicUsize>,
}

/// Serves one request a connection: simple, and every client copes with it.
fn serve(mut client: TcpStream, upstream: Option<&(String, u32)>, record: &Record, judge: &Judge) {
    let Some(head) = read_head(&mut client) else { return };
    let Some(body) = read_body(&mut client, &head) else { return };
    let first = head.lines().next().unwrap_or_default();
    let request = first.rsplit_once(' ').map_or(first, |(request, _)| request).to_owned();
    let (method, target) = request.split_once(' ').unwrap_or_default();
    let call = {
        let mut seen = record.seen.lock().expect("no holder panics");
        let path = target.split('?').next().unwrap_or_default();
        let same = |earlier: &&String| earlier.split([' ', '?']).nth(1) == Some(path);
        let (number, of_path) = (seen.len(), seen.iter().filter(same).count());
        seen.push(request.clone());
        let is_dry_run = is_dry_run(target, &body, method);
        Call { number, of_path, method: method.to_owned(), target: target.to_owned(), is_dry_run }
    };
    let fate = judge(&call);
    let _ = match fate {
        Fate::Silence => {
            thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Fate::Close => Ok(()),
        Fate::Status(code) => client.write_all(status(code, None).as_bytes()),
        Fate::Answer(body) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
            client.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes())
        }
        Fate::Busy(code, wait) => client.write_all(status(code, Some(wait)).as_bytes()),
        Fate::Pass | Fate::FallSilent | Fate::Stall | Fate::Cut | Fate::Lose | Fate::Hang | Fate::Misreport(_) => {
            match upstream {
                Some((upstream, page)) => {
                    let head = head.replacen("limit=500", &format!("limit={page}"), 1);
                    let noted = || record.created.lock().expect("no holder panics").push(request.clone());
                    forward(&mut client, upstream, &head, &body, Order { fate, held: &record.held, noted: &noted })
                }
                None => Ok(()),
            }
        }
    };
}

fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn read_body(client: &mut TcpStream, head: &str) -> Option<Vec<u8>> {
    let field = |line: &str| line.to_lowercase().strip_prefix("content-length:").map(|value| value.trim().to_owned());
    let length = head.lines().find_map(field).map_or(Some(0), |value| value.parse().ok())?;
    let mut body = vec![0; length];
    client.read_exact(&mut body).ok()?;
    Some(body)
}

/// An API server that gets a deletion with a body reads the options there, and none from the query.
fn is_dry_run(target: &str, body: &[u8], method: &str) -> bool {
    if method == "DELETE" && !body.is_empty() {
        return serde_json::from_slice::<Value>(body).is_ok_and(|options| options["dryRun"] == json!(["All"]));
    }
    target.contains("dryRun=All")
}

fn status(code: u16, wait: Option<&str>) -> String {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"spoilt","reason":"{}","code":{code}}}"#,
        if code == 410 {
            "Expired"
        } else if code == 409 {
            "Conflict"
        } else {
            "Spoilt"
        }
    );
    let length = body.len();
    let wait = wait.map_or(String::new(), |wait| format!("Retry-After: {wait}\r\n"));
    format!(
        "HTTP/1.1 {code} Spoilt\r\nContent-Type: application/json\r\n{wait}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// What to do with an answer.
struct Order<'a> {
    fate: Fate,
    held: &'a AtomicUsize,
    /// Called when the answer says that an object was made.
    noted: &'a dyn Fn(),
}

fn forward(client: &mut TcpStream, upstream: &str, head: &str, body: &[u8], order: Order<'_>) -> std::io::Result<()> {
    let fate = order.fate;
    let mut server = TcpStream::connect(upstream)?;
    let lines = head.trim_end().lines().filter(|line| {
        let line = line.to_lowercase();
        !line.starts_with("host:") && !line.starts_with("connection:")
    });
    let head: Vec<&str> = lines.collect();
    write!(server, "{}\r\nHost: {upstream}\r\nConnection: close\r\n\r\n", head.join("\r\n"))?;
    server.write_all(body)?;
    if fate == Fate::Pass {
        let mut line = [0; 12];
        let length = server.read(&mut line)?;
        if line.starts_with(b"HTTP/1.1 201") {
            (order.noted)();
        }
        client.write_all(&line[..length])?;
        return std::io::copy(&mut server, client).map(|_| ());
    }
    if fate == Fate::FallSilent {
        let head = read_head(&mut server).unwrap_or_default();
        client.write_all(head.as_bytes())?;
        thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fate {
        Fate::Lose => return Ok(()),
        Fate::Misreport(code) => return client.write_all(status(code, None).as_bytes()),
        Fate::Hang => {
            order.held.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_secs(60));
            return Ok(());
        }
        _ => {}
    }
    client.write_all(&answer[..answer.len() * 2 / 3])?;
    if fate == Fate::Stall {
        thread::sleep(Duration::from_secs(60));
    }
    Ok(())
}
