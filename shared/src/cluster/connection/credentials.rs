//! What a user shows to an API server, and how it is renewed: as k8s.io/client-go/transport does, but that a request which the server
//! did not accept is sent once more when there are new credentials.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::{AuthError, Body};
use kube::config::AuthInfo;
use kube::{Client, Config};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tower::BoxError;

use super::client;
use super::exec::{Issued, Patience, Plugin};
use super::resolved::{Environment, Resolved};

/// How long a token file's content is used before it is read again: a minute less ten seconds, as `NewCachedFileTokenSource`.
const TOKEN_FILE_LIFE: Duration = Duration::from_secs(50);

/// Who shows what.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// Nothing, or the same header for ever.
    Lasting(Option<HeaderValue>),
    /// The content of a file, and what is used while that cannot be read.
    TokenFile {
        /// Where it is.
        file: PathBuf,
        /// The token beside it.
        otherwise: Option<String>,
    },
    /// What a program prints.
    Plugin(Box<Plugin>),
}

/// Why there are none.
#[derive(Debug)]
pub(super) struct Unavailable {
    pub(super) what: Option<String>,
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

impl From<String> for Unavailable {
    fn from(why: String) -> Unavailable {
        Unavailable { what: None, why, hint: None }
    }
}

impl Credentials {
    /// The user's: a password, else a token file, else a token, else the client certificate alone, else a program
    /// (`HTTPWrappersForConfig` of k8s.io/client-go/transport, `UpdateTransportConfig` of its exec plugin).
    pub(super) fn of(resolved: &Resolved, environment: &Environment, patience: &Patience) -> Result<Credentials, Unavailable> {
        let user = &resolved.user;
        let token = user.token.as_ref().map(|token| token.expose_secret().to_owned());
        if user.username.is_some() || user.password.is_some() {
            let password = user.password.as_ref().map(|password| password.expose_secret()).unwrap_or_default();
            let pair = format!("{}:{password}", user.username.as_deref().unwrap_or_default());
            return Ok(Credentials::Lasting(Some(header(&format!("Basic {}", BASE64.encode(pair)))?)));
        }
        if let Some(file) = &user.token_file {
            return Ok(Credentials::TokenFile { file: PathBuf::from(file), otherwise: token });
        }
        if let Some(token) = token {
            return Ok(Credentials::Lasting(Some(bearer(&token)?)));
        }
        if let Some(provider) = &user.auth_provider {
            return Ok(Credentials::Lasting(Some(bearer(provider_token(provider)?)?)));
        }
        let has_certificate = user.client_certificate_data.is_some();
        match &user.exec {
            Some(exec) if !has_certificate => {
                let command = exec.command.as_deref().unwrap_or_default();
                let plugin = Plugin::new(exec, resolved, environment.input, patience);
                let plugin = plugin.map_err(|why| Unavailable { what: Some(running(command)), why, hint: None })?;
                Ok(Credentials::Plugin(Box::new(plugin)))
            }
            _ => Ok(Credentials::Lasting(None)),
        }
    }

    /// A client that shows them, and renews them.
    ///
    /// # Errors
    /// When there are none, or the client cannot be built with them.
    pub(super) async fn client(self, config: Config) -> Result<Result<Client, kube::Error>, Unavailable> {
        let first = self.issue().await?;
        let namespace = config.default_namespace.clone();
        let built = match build(&config, &first) {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        if matches!(self, Credentials::Lasting(_)) {
            return Ok(Ok(built));
        }
        let current = Mutex::new(Arc::new(Generation { number: 0, issued: first, since: Instant::now(), client: built }));
        Ok(Ok(Client::new(Renewing(Arc::new(Renewal { config, credentials: self, current })), namespace)))
    }

    async fn issue(&self) -> Result<Shown, Unavailable> {
        match self {
            Credentials::Lasting(header) => Ok(Shown { header: header.clone(), ..Shown::default() }),
            Credentials::TokenFile { file, otherwise } => match (token_of(file), otherwise) {
                (Ok(token), _) => Ok(Shown { header: Some(bearer(&token)?), ..Shown::default() }),
                (Err(_), Some(token)) => Ok(Shown { header: Some(bearer(token)?), ..Shown::default() }),
                (Err(why), None) => Err(Unavailable::from(why)),
            },
            Credentials::Plugin(plugin) => {
                let what = || Some(running(plugin.command()));
                let issued = plugin.run().await;
                let issued = issued.map_err(|why| Unavailable { what: what(), why, hint: plugin.install_hint() })?;
                let Issued { token, identity, expires } = issued;
                Ok(Shown { header: token.as_deref().map(bearer).transpose()?, identity, expires })
            }
        }
    }

    /// Whether what was shown since then is used no longer.
    fn is_over(&self, generation: &Generation) -> bool {
        match self {
            Credentials::Lasting(_) => false,
            Credentials::TokenFile { .. } => generation.since.elapsed() >= TOKEN_FILE_LIFE,
            Credentials::Plugin(_) => generation.issued.expires.is_some_and(|expires| Timestamp::now() >= expires),
        }
    }
}

fn running(command: &str) -> String {
    format!("running the credential plugin {command}")
}

/// client-go knows one provider still, and uses its token as it stands until that has expired.
fn provider_token(provider: &kube::config::AuthProviderConfig) -> Result<&str, String> {
    match (provider.name.as_str(), provider.config.get("id-token")) {
        ("oidc", Some(token)) => Ok(token),
        ("oidc", None) => Err("the auth-provider oidc of the user has no id-token".to_owned()),
        (other, _) => {
            Err(format!("the auth-provider {other} of the user is not supported; kubectl needs a plugin (exec) for it too"))
        }
    }
}

fn token_of(file: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read the token file {}: {error}", file.display()))?;
    let token = text.trim();
    if token.is_empty() { Err(format!("the token file {} is empty", file.display())) } else { Ok(token.to_owned()) }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    header(&format!("Bearer {token}"))
}

fn header(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "the token or the password holds what no header can hold".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is shown with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    header: Option<HeaderValue>,
    identity: Option<(String, String)>,
    expires: Option<Timestamp>,
}

/// A client that shows one thing.
struct Generation {
    number: u64,
    issued: Shown,
    since: Instant,
    client: Client,
}

fn build(config: &Config, shown: &Shown) -> Result<Client, kube::Error> {
    let mut config = config.clone();
    config.headers.extend(shown.header.clone().map(|header| (AUTHORIZATION, header)));
    if let Some((certificate, key)) = &shown.identity {
        config.auth_info = AuthInfo {
            client_certificate_data: Some(BASE64.encode(certificate)),
            client_key_data: Some(BASE64.encode(key).into()),
            ..config.auth_info
        };
    }
    client::build(config)
}

/// What is renewed, and how.
struct Renewal {
    config: Config,
    credentials: Credentials,
    /// Held while it is renewed: the plugin, which may ask a person, is run once at a time.
    current: Mutex<Arc<Generation>>,
}

impl Renewal {
    /// The newest, made anew when it is over, or when it is the one that the server did not accept.
    async fn generation(&self, refused: Option<u64>) -> Result<Arc<Generation>, kube::Error> {
        let mut current = self.current.lock().await;
        if refused != Some(current.number) && !self.credentials.is_over(&current) {
            return Ok(Arc::clone(&current));
        }
        let issued = match self.credentials.issue().await {
            Ok(issued) => issued,
            // A file that has gone or a plugin that fails says nothing against what was shown before, until the server does.
            Err(_) if refused.is_none() && matches!(self.credentials, Credentials::TokenFile { .. }) => current.issued.clone(),
            Err(Unavailable { what, why, .. }) => {
                let why = what.map_or_else(|| why.clone(), |what| format!("{what}: {why}"));
                return Err(kube::Error::Auth(AuthError::AuthExec(why)));
            }
        };
        let client = if issued == current.issued { current.client.clone() } else { build(&self.config, &issued)? };
        *current = Arc::new(Generation { number: current.number + 1, issued, since: Instant::now(), client });
        Ok(Arc::clone(&current))
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let (parts, body) = request.into_parts();
        let again = body.try_clone().map(|body| Request::from_parts(parts.clone(), body));
        let generation = self.generation(None).await?;
        let response = generation.client.send(Request::from_parts(parts, body)).await?;
        let Some(again) = again.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else { return Ok(response) };
        // Nothing was done: whoever is not known may do nothing. Without new credentials the server's answer stands.
        match self.generation(Some(generation.number)).await {
            Ok(renewed) if renewed.issued != generation.issued => renewed.client.send(again).await,
            _ => Ok(response),
        }
    }
}

/// A service that shows what is newest.
#[derive(Clone)]
struct Renewing(Arc<Renewal>);

impl tower::Service<Request<Body>> for Renewing {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let renewal = Arc::clone(&self.0);
        Box::pin(async move { renewal.send(request).await.map_err(BoxError::from) })
    }
}
