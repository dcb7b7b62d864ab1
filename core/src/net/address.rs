//! From what a user writes (a URL, a host and a port) to addresses.
//!
//! Names are looked up by the system's own resolver, which blocks.
//!
//! Does not know: connections, threads, or what is spoken.

use crate::error::{Error, ErrorKind, Result};
use crate::net::sys::{Call, call};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use url::{ParseError, Position, Url};

/// How much of a URL an error's text shows, in characters.
const SHOWN: usize = 200;

/// What a WebSocket URL says (RFC 6455 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The scheme asks for TLS.
    pub(crate) secure: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// The value of the Host header: without the port if that is the scheme's default.
    pub(crate) authority: String,
    /// Path and query, percent-encoded; starts with '/'.
    pub(crate) resource: String,
}

/// Where a URL leads: a name to be resolved, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// In ASCII, as DNS has it.
    Name(String),
    Ip(IpAddr),
}

impl Target {
    /// Reads a URL with the scheme `ws` or `wss`, or their synonyms `http` and `https`.
    ///
    /// # Errors
    /// `ErrorKind::Invalid`; the text shows the URL, without credentials, and says what is wrong.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        read(url).map_err(|wrong| Error::invalid(format!("the URL {} {wrong}", shown(url))))
    }
}

/// Does the work of `Target::parse`; an error continues the sentence "the URL …".
fn read(text: &str) -> Result<Target, String> {
    // The parser would silently drop or encode these, and turn a backslash into a slash.
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    if let Some(c) = text.chars().find(|&c| bad(c)) {
        return Err(format!("contains {c:?}, which has to be percent-encoded"));
    }
    let url = Url::parse(text).map_err(unparsable)?;
    let secure = match url.scheme() {
        "ws" | "http" => false,
        "wss" | "https" => true,
        other => return Err(format!("has the scheme {other:?}; expected ws or wss")),
    };
    // The parser forgives a wrong number of slashes, and then takes a part of the path for the host.
    let rest = text[url.scheme().len() + 1..].strip_prefix("//");
    let Some(rest) = rest else {
        return Err("has no \"//\" after its scheme; expected ws://host:port/path".to_owned());
    };
    if rest.starts_with('/') {
        return Err("has no host; expected ws://host:port/path".to_owned());
    }
    if rest[..authority_len(rest)].contains('@') {
        return Err("has credentials in it; credentials in the URL are not supported".to_owned());
    }
    // RFC 6455 §3: fragment identifiers MUST NOT be used on these URIs.
    if url.fragment().is_some() {
        return Err("has a fragment (from '#' on), which RFC 6455 §3 does not allow".to_owned());
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
        Some(url::Host::Ipv4(ip)) => Host::Ip(ip.into()),
        Some(url::Host::Ipv6(ip)) => Host::Ip(ip.into()),
        None => return Err("has no host; expected ws://host:port/path".to_owned()),
    };
    let port = url.port().unwrap_or(if secure { 443 } else { 80 });
    if port == 0 {
        return Err("has the port 0; expected 1 to 65535, or none".to_owned());
    }
    Ok(Target {
        secure,
        host,
        port,
        authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
        resource: url[Position::BeforePath..Position::AfterQuery].to_owned(),
    })
}

fn unparsable(error: ParseError) -> String {
    match error {
        ParseError::RelativeUrlWithoutBase => {
            "is not absolute; expected ws://host:port/path".to_owned()
        }
        ParseError::EmptyHost => "has no host; expected ws://host:port/path".to_owned(),
        ParseError::InvalidPort => "has an invalid port; expected 1 to 65535, or none".to_owned(),
        other => format!("is not valid: {other}"),
    }
}

/// The length of the part of a URL that names user, host and port, with which `rest` begins.
fn authority_len(rest: &str) -> usize {
    rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len())
}

/// A URL for an error's text: quoted, shortened, and without what might be a password, however the
/// URL is malformed.
fn shown(url: &str) -> String {
    let skipped = |c: char| c.is_control() || c.is_whitespace();
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c) || skipped(c);
    let after_scheme = match url.split_once(':') {
        Some((scheme, rest)) if scheme.chars().all(in_scheme) => rest,
        _ => url,
    };
    let rest = after_scheme.trim_start_matches(|c| c == '/' || c == '\\' || skipped(c));
    let text = match rest[..authority_len(rest)].rfind('@') {
        Some(at) => format!("{}***{}", &url[..url.len() - rest.len()], &rest[at..]),
        None => url.to_owned(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The addresses a server's host means: every one for `None`, itself for a literal (IPv6 with or
/// without brackets), or those a name resolves to, which may take its time.
///
/// Every address is the IPv6 one, which a dual-stack socket serves for IPv4 too.
pub(crate) fn bind_addresses(host: Option<&str>, port: u16) -> Result<Vec<SocketAddr>> {
    let Some(host) = host else {
        return Ok(vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]);
    };
    if host.is_empty() {
        return Err(Error::invalid(
            "the host is empty; expected a name, an address, or none at all",
        ));
    }
    let host = match host.strip_prefix('[') {
        None => host,
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|bare| bare.contains(':'))
            .ok_or_else(|| {
                let text = "only an IPv6 address is written in brackets";
                Error::invalid(format!("the host {host:?} is not valid: {text}"))
            })?,
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    call(Call::Resolve, || look_up(host, port)).map_err(|error| {
        Error::from_io(
            ErrorKind::Resolve,
            format_args!("cannot resolve the host {host:?}"),
            &error,
        )
    })
}

/// Asks the system's resolver; each address once, in its order of preference, and at least one.
pub(crate) fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = unique((host, port).to_socket_addrs()?);
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

fn unique(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    addresses.filter(|&address| seen.insert(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A label longer than DNS allows (RFC 1035 §2.3.4): refused without asking any server.
    const NO_HOST: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

    /// A target in one line: scheme, host, port, Host header, resource.
    fn summary(target: &Target) -> String {
        let scheme = if target.secure { "wss" } else { "ws" };
        let host = match &target.host {
            Host::Name(name) => format!("name={name}"),
            Host::Ip(ip) => format!("ip={ip}"),
        };
        let Target {
            port,
            authority,
            resource,
            ..
        } = target;
        format!("{scheme} {host} {port} {authority} {resource}")
    }

    #[test]
    fn reads_urls() {
        let cases = [
            ("ws://example.com", "ws name=example.com 80 example.com /"),
            ("ws://example.com/", "ws name=example.com 80 example.com /"),
            (
                "ws://example.com:80/",
                "ws name=example.com 80 example.com /",
            ),
            ("ws://h.org:8080/a", "ws name=h.org 8080 h.org:8080 /a"),
            ("ws://h.org:443", "ws name=h.org 443 h.org:443 /"),
            ("wss://h.org", "wss name=h.org 443 h.org /"),
            ("wss://h.org:443/x", "wss name=h.org 443 h.org /x"),
            ("wss://h.org:80/x", "wss name=h.org 80 h.org:80 /x"),
            ("http://h/a?b=c&d", "ws name=h 80 h /a?b=c&d"),
            ("https://h?q", "wss name=h 443 h /?q"),
            ("http://h:443", "ws name=h 443 h:443 /"),
            (
                "WS://EXAMPLE.com/Path",
                "ws name=example.com 80 example.com /Path",
            ),
            ("ws://h/?", "ws name=h 80 h /?"),
            ("ws://h/a@b:c//d", "ws name=h 80 h /a@b:c//d"),
            ("ws://h?a=@/b", "ws name=h 80 h /?a=@/b"),
            ("ws://h/a/../b/./c", "ws name=h 80 h /b/c"),
            (
                "ws://h/%20%C3%A9?%0d%0A",
                "ws name=h 80 h /%20%C3%A9?%0d%0A",
            ),
            ("ws://h/é?ü", "ws name=h 80 h /%C3%A9?%C3%BC"),
            ("ws://bü.org", "ws name=xn--b-eha.org 80 xn--b-eha.org /"),
            (
                "ws://127.0.0.1:9001/x",
                "ws ip=127.0.0.1 9001 127.0.0.1:9001 /x",
            ),
            ("ws://0x7f.1/", "ws ip=127.0.0.1 80 127.0.0.1 /"),
            ("ws://[::1]:9001", "ws ip=::1 9001 [::1]:9001 /"),
            (
                "wss://[2001:DB8::0:1]/",
                "wss ip=2001:db8::1 443 [2001:db8::1] /",
            ),
        ];
        for (url, expected) in cases {
            let target = Target::parse(url).expect(url);
            assert_eq!(summary(&target), expected, "{url}");
        }
    }

    #[test]
    fn refuses_urls_and_says_why() {
        let cases = [
            ("", "is not absolute"),
            ("example.com", "is not absolute"),
            ("//example.com/", "is not absolute"),
            (
                "localhost:8080",
                "has the scheme \"localhost\"; expected ws or wss",
            ),
            ("ftp://example.com/", "has the scheme \"ftp\""),
            ("file:///etc/passwd", "has the scheme \"file\""),
            ("ws://", "has no host"),
            ("ws:", "has no host"),
            ("ws:///path", "has no host"),
            ("ws://:80/", "has no host"),
            ("ws://?q", "has no host"),
            ("ws:example.com", "has no \"//\""),
            ("ws:/example.com/", "has no \"//\""),
            ("ws://h/#part", "has a fragment"),
            ("ws://h/#", "has a fragment"),
            ("ws://h#part", "has a fragment"),
            ("ws://h:65536/", "has an invalid port"),
            ("ws://h:-1/", "has an invalid port"),
            ("ws://h:x/", "has an invalid port"),
            ("ws://h:0/", "has the port 0"),
            ("ws://a%20b/", "is not valid"),
            ("ws://a<b/", "is not valid"),
            ("ws://[::1/", "is not valid"),
            ("ws://[::g]/", "is not valid"),
            ("ws://1.2.3.256/", "is not valid"),
            (" ws://h/", "contains ' '"),
            ("ws://h/ ", "contains ' '"),
            ("ws://h/a b", "contains ' '"),
            ("ws://h/\r\nX-Evil: 1", "contains '\\r'"),
            ("ws://h/\n", "contains '\\n'"),
            ("w\ts://h/", "contains '\\t'"),
            ("ws://h/\0", "contains '\\0'"),
            ("ws://h/\u{7f}", "contains '\\u{7f}'"),
            ("ws://h/\u{85}", "contains '\\u{85}'"),
            ("ws://h/\u{2028}", "contains '\\u{2028}'"),
            ("ws://good\\@evil/", "contains '\\\\'"),
        ];
        for (url, wrong) in cases {
            let error = Target::parse(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url:?}");
            let text = error.detail();
            assert!(text.contains(wrong), "{url:?}: {text}");
            assert!(!text.contains(char::is_control), "{url:?}: {text:?}");
            if !url.contains('@') {
                assert!(
                    text.contains(&format!("{url:?}")),
                    "{url:?} is not named: {text}"
                );
            }
        }
    }

    #[test]
    fn refuses_credentials_and_never_shows_them() {
        for url in [
            "ws://user:secret@h/",
            "ws://secret@h/",
            "ws://:secret@h:80",
            "wss://a@secret@h?q",
            "ws://user:secret@h:99999/",
            "ws://user:secret@h/ ",
            "ws://user:secret@",
            "//user:secret@h/",
            "ftp://user:secret@h/",
            "ws://user:secret@h/#x",
            "ws:/user:secret@h/#x",
            "ws:user:secret@h",
            "ws:///user:secret@h/",
            "ws:\\\\user:secret@h/",
            " ws://user:secret@h/",
            "ws:/\t/user:secret@h/",
            "user:secret@h/",
            "secret@h:80/",
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(!error.detail().contains("secret"), "{url}: {error}");
            assert!(error.detail().contains("***@"), "{url}: {error}");
        }
        for url in ["ws://user:secret@h/", "ws://@h/", "ws://:@h/#x"] {
            let error = Target::parse(url).expect_err(url);
            assert!(
                error
                    .detail()
                    .contains("credentials in the URL are not supported"),
                "{error}"
            );
        }
    }

    #[test]
    fn shows_only_the_beginning_of_a_long_url() {
        let error = Target::parse(&format!("ws://h/{}#", "é".repeat(100_000))).unwrap_err();
        assert!(error.detail().chars().count() < SHOWN + 200);
    }

    /// Whatever is accepted can stand in a request line and a Host header as it is.
    #[test]
    fn what_is_accepted_is_visible_ascii() {
        for code in 0..=0x500 {
            let Some(c) = char::from_u32(code) else {
                continue;
            };
            for url in [
                format!("ws://h/{c}"),
                format!("ws://h/?{c}"),
                format!("ws://h{c}/"),
            ] {
                let Ok(target) = Target::parse(&url) else {
                    continue;
                };
                assert!(target.resource.starts_with('/'), "{url:?}");
                let text = [target.authority, target.resource].concat();
                assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
            }
        }
    }

    #[test]
    fn binds_to_everything_or_to_literals_as_they_are() {
        let cases = [
            (None, "[::]:80"),
            (Some("127.0.0.1"), "127.0.0.1:80"),
            (Some("0.0.0.0"), "0.0.0.0:80"),
            (Some("::1"), "[::1]:80"),
            (Some("[::1]"), "[::1]:80"),
            (Some("::"), "[::]:80"),
        ];
        for (host, expected) in cases {
            assert_eq!(
                bind_addresses(host, 80),
                Ok(vec![expected.parse().unwrap()]),
                "{host:?}"
            );
        }
    }

    #[test]
    fn binds_to_a_name_once_per_address() {
        let addresses = bind_addresses(Some("localhost"), 80).unwrap();
        assert!(
            addresses
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 80)
        );
        assert_eq!(
            addresses.iter().collect::<HashSet<_>>().len(),
            addresses.len()
        );
        assert!(!addresses.is_empty());
    }

    #[test]
    fn a_host_that_cannot_be_is_named() {
        let cases = [
            ("", ErrorKind::Invalid, "the host is empty"),
            (
                "[127.0.0.1]",
                ErrorKind::Invalid,
                "\"[127.0.0.1]\" is not valid",
            ),
            ("[::1", ErrorKind::Invalid, "\"[::1\" is not valid"),
            ("a\0b", ErrorKind::Resolve, "\"a\\0b\""),
            (NO_HOST, ErrorKind::Resolve, NO_HOST),
        ];
        for (host, kind, text) in cases {
            let error = bind_addresses(Some(host), 80).unwrap_err();
            assert_eq!(error.kind(), kind, "{host:?}");
            assert!(error.detail().contains(text), "{error}");
        }
    }
    #[test]
    fn addresses_come_once_and_in_order() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let given = [
            "[::1]:1",
            "127.0.0.1:1",
            "[::1]:1",
            "127.0.0.2:1",
            "127.0.0.1:1",
        ]
        .map(parse);
        let expected = ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"].map(parse);
        assert_eq!(unique(given.into_iter()), expected);
    }
}
