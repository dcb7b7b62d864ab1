//! From what a user writes (a URL, a host and a port) to addresses.
//!
//! Names are resolved by the system's own resolver, which blocks: for a server's set-up that is done
//! in place, for clients on a few threads that exist only while there are names to resolve.
//!
//! Does not know: connections, or what is spoken on them.

use crate::error::{Error, ErrorKind, Result};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use url::{ParseError, Position, Url};

/// How many names are resolved at the same time.
const MAX_THREADS: usize = 4;
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
    look_up(host, port).map_err(|error| {
        Error::from_io(
            ErrorKind::Resolve,
            format_args!("cannot resolve the host {host:?}"),
            &error,
        )
    })
}

/// Asks the system's resolver; each address once, in its order of preference, and at least one.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
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

/// What a [`Resolver`] calls with the outcome.
pub(crate) type Done = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;
type LookUp = Box<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;
type Start = Box<dyn Fn(Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + Sync>;

/// Resolves names on threads of its own, at most four, which end when there is nothing to do.
///
/// Dropping it drops the requests that wait; those being resolved are finished and answered.
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    start: Start,
}

struct Shared {
    state: Mutex<State>,
    look_up: LookUp,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Request>,
    /// Threads that have been started and will look into the queue again before they end.
    threads: usize,
}

struct Request {
    host: String,
    port: u16,
    done: Done,
}

impl Resolver {
    /// Starts nothing yet.
    pub(crate) fn new() -> Self {
        Self::with(Box::new(look_up), Box::new(start_thread))
    }

    fn with(look_up: LookUp, start: Start) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                look_up,
            }),
            start,
        }
    }

    /// Resolves `host` and calls `done` with its addresses, each once, in the order of preference.
    ///
    /// `done` runs on another thread, or inside this call if no thread could be started.
    pub(crate) fn resolve(&self, host: String, port: u16, done: Done) {
        let mut state = self.shared.lock();
        state.queue.push_back(Request { host, port, done });
        if state.threads == MAX_THREADS {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        if let Err(error) = (self.start)(Box::new(move || shared.work())) {
            self.shared.thread_missing(&error);
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut self.shared.lock().queue);
        // What they own is dropped without the lock: it is the caller's.
        drop(waiting);
    }
}

impl Shared {
    /// Nothing panics while it holds the lock, so its content is whole in any case.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self) {
        while let Some(Request { host, port, done }) = self.next_or_leave() {
            let result = (self.look_up)(&host, port);
            // The others in the queue need this thread, whatever one of them does.
            let _ = catch_unwind(AssertUnwindSafe(|| done(result)));
        }
    }

    /// Takes a request; without one the thread counts as ended, in the same moment, so that no request
    /// is ever left to a thread that will not look again.
    fn next_or_leave(&self) -> Option<Request> {
        let mut state = self.lock();
        let next = state.queue.pop_front();
        if next.is_none() {
            state.threads -= 1;
        }
        next
    }

    /// Answers what no thread will: if others run, they come to the requests that wait.
    fn thread_missing(&self, error: &io::Error) {
        let mut state = self.lock();
        state.threads -= 1;
        let left = if state.threads == 0 {
            std::mem::take(&mut state.queue)
        } else {
            VecDeque::new()
        };
        drop(state);
        for request in left {
            let text = format!(
                "cannot start a thread to resolve {:?}: {error}",
                request.host
            );
            (request.done)(Err(io::Error::new(error.kind(), text)));
        }
    }
}

fn start_thread(work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    // Not joined: it ends by itself, and a lookup cannot be interrupted.
    thread::Builder::new()
        .name("wsabi-resolve".to_owned())
        .spawn(work)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);
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

    type Answer = (String, io::Result<Vec<SocketAddr>>);

    /// Asks for `host`; the answer comes with the name of the thread that gave it.
    fn ask(resolver: &Resolver, host: &str, answers: &Sender<Answer>) {
        let answers = answers.clone();
        let done: Done = Box::new(move |result| {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            answers.send((thread, result)).unwrap();
        });
        resolver.resolve(host.to_owned(), 80, done);
    }

    fn answer(answers: &Receiver<Answer>) -> Answer {
        answers.recv_timeout(PATIENCE).expect("an answer")
    }

    fn wait_for(what: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !what() {
            assert!(start.elapsed() < PATIENCE, "it did not come");
            thread::yield_now();
        }
    }

    #[test]
    fn resolves_on_a_thread_of_its_own_which_then_ends() {
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::new();
        for _ in 0..2 {
            ask(&resolver, "localhost", &sender);
            let (thread, result) = answer(&answers);
            assert_eq!(thread, "wsabi-resolve");
            let addresses = result.unwrap();
            assert!(addresses.iter().all(|address| address.ip().is_loopback()));
            assert_eq!(addresses, bind_addresses(Some("localhost"), 80).unwrap());
            wait_for(|| resolver.shared.lock().threads == 0);
        }
        ask(&resolver, NO_HOST, &sender);
        assert!(answer(&answers).1.is_err());
    }

    /// Lookups that tell when they begin, and end one by one when they are let go.
    struct Gate {
        begun: Receiver<String>,
        let_go: Sender<()>,
    }

    fn gate() -> (Gate, LookUp) {
        let ((tell, begun), (let_go, wait)) = (mpsc::channel(), mpsc::channel());
        let wait = Mutex::new(wait);
        let look_up: LookUp = Box::new(move |host, port| {
            tell.send(host.to_owned()).unwrap();
            wait.lock()
                .unwrap()
                .recv_timeout(PATIENCE)
                .expect("to be let go");
            Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))])
        });
        (Gate { begun, let_go }, look_up)
    }

    impl Gate {
        fn begun(&self, count: usize) -> Vec<String> {
            (0..count)
                .map(|_| self.begun.recv_timeout(PATIENCE).expect("a lookup"))
                .collect()
        }

        fn let_go(&self, count: usize) {
            (0..count).for_each(|_| self.let_go.send(()).unwrap());
        }
    }

    #[test]
    fn runs_four_at_a_time_and_the_others_in_turn() {
        let (gate, look_up) = gate();
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::with(look_up, Box::new(start_thread));
        (0..10).for_each(|number| ask(&resolver, &number.to_string(), &sender));
        let mut begun = gate.begun(4);
        begun.sort();
        assert_eq!(begun, ["0", "1", "2", "3"]);
        let state = resolver.shared.lock();
        assert_eq!((state.threads, state.queue.len()), (4, 6));
        drop(state);
        for number in 4..10 {
            gate.let_go(1);
            assert_eq!(gate.begun(1), [number.to_string()]);
        }
        gate.let_go(4);
        (0..10).for_each(|_| assert!(answer(&answers).1.is_ok()));
        wait_for(|| resolver.shared.lock().threads == 0);
    }

    #[test]
    fn dropping_it_drops_what_waits_and_finishes_what_runs() {
        let (gate, look_up) = gate();
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::with(look_up, Box::new(start_thread));
        (0..7).for_each(|number| ask(&resolver, &number.to_string(), &sender));
        gate.begun(4);
        drop((resolver, sender));
        gate.let_go(4);
        (0..4).for_each(|_| assert!(answer(&answers).1.is_ok()));
        let end = answers.recv_timeout(PATIENCE).unwrap_err();
        assert_eq!(
            end,
            mpsc::RecvTimeoutError::Disconnected,
            "nobody is left who could answer"
        );
    }

    fn refuse_thread(_: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            "no more threads",
        ))
    }

    #[test]
    fn without_any_thread_the_answer_is_the_error() {
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::with(Box::new(look_up), Box::new(refuse_thread));
        for _ in 0..MAX_THREADS + 1 {
            ask(&resolver, "example.com", &sender);
            let error = answers.try_recv().expect("inside the call").1.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(
                error
                    .to_string()
                    .contains("\"example.com\": no more threads"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_request_without_a_thread_of_its_own_waits_for_those_that_run() {
        let (gate, look_up) = gate();
        let (sender, answers) = mpsc::channel();
        let started = Mutex::new(false);
        let start: Start =
            Box::new(
                move |work| match std::mem::replace(&mut *started.lock().unwrap(), true) {
                    false => start_thread(work),
                    true => refuse_thread(work),
                },
            );
        let resolver = Resolver::with(look_up, start);
        ask(&resolver, "first", &sender);
        assert_eq!(gate.begun(1), ["first"]);
        ask(&resolver, "second", &sender);
        assert!(answers.try_recv().is_err());
        gate.let_go(2);
        assert!(answer(&answers).1.is_ok() && answer(&answers).1.is_ok());
        assert_eq!(gate.begun(1), ["second"]);
    }

    #[test]
    fn a_panic_in_an_answer_does_not_cost_the_others_theirs() {
        let (gate, look_up) = gate();
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::with(look_up, Box::new(start_thread));
        for _ in 0..MAX_THREADS {
            resolver.resolve("x".to_owned(), 80, Box::new(|_| panic!("on purpose")));
        }
        gate.begun(MAX_THREADS);
        ask(&resolver, "y", &sender);
        gate.let_go(MAX_THREADS + 1);
        assert!(answer(&answers).1.is_ok());
        wait_for(|| resolver.shared.lock().threads == 0);
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
