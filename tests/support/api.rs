//! The API server, over plain HTTP requests. A test waits and looks a hundred times faster this way than by kubectl.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::kubeconfig::Kubeconfig;

/// A client of one cluster. Paths are those of the Kubernetes API: `/api/v1/namespaces/shop/pods`.
#[derive(Clone, Debug)]
pub struct Api {
    agent: Agent,
    server: String,
    token: String,
}

/// An answer of the API server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null where it is no JSON.
    pub body: Value,
}

impl Api {
    /// A client with the rights of `kubeconfig`.
    pub fn new(kubeconfig: &Kubeconfig) -> Result<Self> {
        let authority = fs::read(&kubeconfig.authority).with_context(|| format!("reading {}", kubeconfig.authority.display()))?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&authority)
            .filter_map(|item| if let Ok(PemItem::Certificate(certificate)) = item { Some(certificate) } else { None })
            .collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // Proxies of the environment are for the way out, and this stays on loopback.
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            // As many as threads that may ask at once: a new connection costs the API server more than a request does.
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .build()
            .new_agent();
        Ok(Self { agent, server: kubeconfig.server.clone(), token: kubeconfig.token.clone() })
    }

    /// Sends a request and returns the answer, whatever its status.
    pub fn send(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Result<Answer> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).context("encoding a request")? };
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.server))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json")
            .header("content-type", content_type)
            .body(body)
            .context("building a request")?;
        let mut response = self.agent.run(request).with_context(|| format!("{method} {path}"))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .with_context(|| format!("reading the answer to {method} {path}"))?;
        Ok(Answer { status, body: serde_json::from_slice(&text).unwrap_or_default() })
    }

    /// The object or list at `path`.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.expect(Method::GET, path, JSON, &Value::Null)
    }

    /// The object at `path`, if there is one.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.send(Method::GET, path, JSON, &Value::Null)?;
        if answer.status == 404 { Ok(None) } else { checked(&Method::GET, path, answer).map(Some) }
    }

    /// Creates `object` in the collection `path`; `?dryRun=All` at its end only asks what it would become.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.expect(Method::POST, path, JSON, object)
    }

    /// Creates or changes the object at `path` by server-side apply.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager=mesh-tests&force=true");
        self.expect(Method::PATCH, &path, "application/apply-patch+yaml", object)
    }

    /// Changes the object at `path` by a merge patch: null removes a field.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.expect(Method::PATCH, path, "application/merge-patch+json", patch)
    }

    /// Replaces the object at `path` by `object`, whose resourceVersion, if it has one, must be that of the one that is there.
    pub fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        self.expect(Method::PUT, path, JSON, object)
    }

    /// Deletes the object at `path`.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.expect(Method::DELETE, path, JSON, &Value::Null)
    }

    fn expect(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Result<Value> {
        let answer = self.send(method.clone(), path, content_type, body)?;
        checked(&method, path, answer)
    }
}

const JSON: &str = "application/json";

fn checked(method: &Method, path: &str, answer: Answer) -> Result<Value> {
    if !(200..300).contains(&answer.status) {
        bail!("{method} {path}: {} {}", answer.status, answer.body["message"].as_str().unwrap_or_default());
    }
    Ok(answer.body)
}

/// The path of an object, by its kind and name: `/apis/apps/v1/namespaces/shop/deployments/web`.
pub fn path_of(object: &Value) -> Result<String> {
    let text = |value: &Value, what: &str| {
        value.as_str().map(str::to_owned).with_context(|| format!("the object has no {what}: {object}"))
    };
    let api_version = text(&object["apiVersion"], "apiVersion")?;
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let namespace = object["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    let resource = plural(&text(&object["kind"], "kind")?.to_lowercase());
    Ok(format!("/{root}/{api_version}{namespace}/{resource}/{}", text(&object["metadata"]["name"], "name")?))
}

/// As Kubernetes guesses it itself, and true of every kind that a mesh meets.
fn plural(kind: &str) -> String {
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}
