//! The HTTP client: the client library's, but for when bytes leave.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt, DynBody};
use kube::{Client, Config};
use tower::util::BoxService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};
use tower_http::ServiceExt as _;
use tower_http::decompression::DecompressionLayer;

/// How long a connection is silent before its other end is asked for a sign of life: client-go's time (`http2ReadIdleTimeout`,
/// k8s.io/apimachinery/pkg/util/net/http.go).
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long until it is asked again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is asked before it is given up.
const KEEPALIVE_RETRIES: u32 = 3;

/// What the library builds from a configuration.
type Service = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// The client. Of the user it shows the client certificate; the rest is in the headers.
pub(super) fn build(config: Config) -> Result<Client, kube::Error> {
    Ok(builder(config)?.build())
}

/// As the library's (`make_generic_builder` in kube-client's src/client/builder.rs), on sockets that send at once: on the library's,
/// the first request of each connection waits 40 ms for the server's acknowledgement of the handshake.
fn builder(config: Config) -> Result<ClientBuilder<Service>, kube::Error> {
    if config.proxy_url.is_some() {
        return ClientBuilder::try_from(config);
    }
    let mut sockets = HttpConnector::new();
    sockets.enforce_http(false);
    sockets.set_nodelay(true);
    // A connection whose other end is gone without a word ends by itself, also below requests that may be silent for long.
    sockets.set_keepalive(Some(KEEPALIVE));
    sockets.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    sockets.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(sockets)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(DecompressionLayer::new().gzip(!config.disable_compression))
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(connector))
        .map_response_body(|body| Box::new(BodyExt::map_err(body, BoxError::from)) as Box<DynBody>)
        .boxed();
    Ok(ClientBuilder::new(service, config.default_namespace))
}
