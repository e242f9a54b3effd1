//! Which proxy leads to an API server: the kubeconfig's always, else the environment's unless the server is excepted, as
//! client-go has it from `golang.org/x/net/http/httpproxy`.

use std::net::IpAddr;

/// The proxies that the environment names, and what is reached without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    /// For servers whose address begins with `https`.
    pub(super) secure: Option<String>,
    /// For servers whose address begins with `http`.
    pub(super) plain: Option<String>,
    /// Hosts, domains, addresses and networks, each with or without a port, with commas between.
    pub(super) exceptions: String,
}

impl Proxies {
    pub(super) fn from_environment() -> Proxies {
        let first = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        Proxies {
            secure: first(["HTTPS_PROXY", "https_proxy"]),
            plain: first(["HTTP_PROXY", "http_proxy"]),
            exceptions: first(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        }
    }

    /// The proxy for a server. `configured` is the kubeconfig's, which no exception holds for.
    pub(super) fn choose(&self, server: &http::Uri, configured: Option<&str>) -> Result<Option<http::Uri>, String> {
        let is_secure = server.scheme_str() == Some("https");
        let named = if is_secure { self.secure.as_deref() } else { self.plain.as_deref() };
        let named = named.filter(|_| !is_excepted(server, &self.exceptions));
        configured.filter(|proxy| !proxy.is_empty()).or(named).map(parse).transpose()
    }
}

/// The address is not repeated in the error: it may hold a password.
fn parse(proxy: &str) -> Result<http::Uri, String> {
    let proxy = match proxy.split_once("://") {
        None => format!("http://{proxy}"),
        // Both let the proxy look up the host; the library knows the shorter name only.
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(_) => proxy.to_owned(),
    };
    proxy.parse().map_err(|error| format!("the address of the proxy cannot be read: {error}"))
}

/// Whether a server is reached without the environment's proxy; loopback always is.
fn is_excepted(server: &http::Uri, exceptions: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("https") { 443 } else { 80 });
    is_loopback(&host)
        || exceptions
            .split(',')
            .map(|exception| exception.trim().to_lowercase())
            .filter(|exception| !exception.is_empty())
            .any(|exception| is_match(&host, port, &exception))
}

fn is_match(host: &str, port: u16, exception: &str) -> bool {
    if exception == "*" || is_in_network(host, exception) {
        return true;
    }
    let (name, wanted_port) = split_port(exception);
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    match (host.parse::<IpAddr>(), name.parse::<IpAddr>()) {
        (Ok(host), Ok(address)) => host == address,
        (Err(_), Err(_)) => is_in_domain(host, name),
        _ => false,
    }
}

/// A name stands for itself and what is below it, one that begins with a dot only for what is below it.
fn is_in_domain(host: &str, name: &str) -> bool {
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host == name || host.strip_suffix(name).is_some_and(|below| below.ends_with('.')),
    }
}

/// `host:port`, `[address]:port`, or either without a port. A bare IPv6 address has colons, but no port.
fn split_port(exception: &str) -> (&str, Option<u16>) {
    let has_port = exception.starts_with('[') || exception.matches(':').count() == 1;
    let (name, port) = exception.rsplit_once(':').filter(|_| has_port).unwrap_or((exception, ""));
    match port.parse() {
        Ok(port) => (name.trim_matches(['[', ']']), Some(port)),
        Err(_) => (exception.trim_matches(['[', ']']), None),
    }
}

/// Whether an address is in a network such as `10.0.0.0/8` or `fd00::/8`.
fn is_in_network(host: &str, network: &str) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(host), Ok(base), Ok(length)) = (host.parse::<IpAddr>(), base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    let (difference, bits) = match (host, base) {
        (IpAddr::V4(host), IpAddr::V4(base)) => (u128::from(host.to_bits() ^ base.to_bits()), 32),
        (IpAddr::V6(host), IpAddr::V6(base)) => (host.to_bits() ^ base.to_bits(), 128),
        _ => return false,
    };
    // A shift by all bits is an overflow, and is what a network of length 0 asks for.
    length <= bits && difference.checked_shr(bits - length).unwrap_or(0) == 0
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_are_excepted_are_reached_without_the_proxy() {
        let check = |server: &str, exceptions: &str, expected: bool| {
            assert_eq!(is_excepted(&server.parse().unwrap(), exceptions), expected, "{server} {exceptions}");
        };
        check("https://api.example.com", "", false);
        check("https://api.example.com", "example.com", true);
        check("https://api.example.com", ".example.com", true);
        check("https://api.example.com", "*.example.com", true);
        check("https://example.com", ".example.com", false);
        check("https://notexample.com", "example.com", false);
        check("https://api.example.com", "a,,api.example.com,", true);
        check("https://API.example.com.", "API.Example.com", true);
        check("https://api.example.com", "*", true);
        check("https://api.example.com:6443", "example.com:6443", true);
        check("https://api.example.com:6443", "example.com:443", false);
        check("https://api.example.com", "example.com:443", true);
        check("https://10.1.2.3", "10.0.0.0/8", true);
        check("https://11.1.2.3", "10.0.0.0/8", false);
        check("https://11.1.2.3", "0.0.0.0/0", true);
        check("https://11.1.2.3", "10.0.0.0/33", false);
        check("https://10.1.2.3", "10.1.2.3", true);
        check("https://10.1.2.3:6443", "10.1.2.3:6443", true);
        check("https://[fd00::1]:6443", "fd00::/8", true);
        check("https://[fe80::1]:6443", "fd00::/8", false);
        check("https://[fd00::1]:6443", "fd00::1", true);
        check("https://[fd00::1]:6443", "[fd00::1]:6443", true);
        check("https://127.0.0.1:6443", "", true);
        check("https://[::1]:6443", "", true);
        check("https://localhost", "", true);
    }

    #[test]
    fn the_kubeconfigs_proxy_is_used_whatever_is_excepted() {
        let proxies = Proxies {
            secure: Some("secure:3128".to_owned()),
            plain: Some("http://plain:3128".to_owned()),
            exceptions: "inside.example,,secure".to_owned(),
        };
        let check = |server: &str, configured: Option<&str>, expected: Option<&str>| {
            let chosen = proxies.choose(&server.parse().unwrap(), configured).unwrap();
            assert_eq!(chosen.map(|proxy| proxy.to_string()).as_deref(), expected, "{server}");
        };
        check("https://outside.example", None, Some("http://secure:3128/"));
        check("http://outside.example", None, Some("http://plain:3128/"));
        check("https://inside.example", None, None);
        check("https://inside.example", Some("socks5h://other:1080"), Some("socks5://other:1080/"));
        check("https://inside.example", Some(""), None);
    }

    #[test]
    fn a_password_in_a_proxys_address_is_not_repeated() {
        let error = Proxies::default().choose(&"https://a".parse().unwrap(), Some("http://me:secret@ho st")).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}
