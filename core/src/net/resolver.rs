//! Looking names up for clients: on a few threads that exist only while there are names to look up.
//!
//! Does not know: connections, or what becomes of an answer.

use crate::net::address::look_up;
use crate::net::sys::{Call, call};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many names are resolved at the same time.
const MAX_THREADS: usize = 4;

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
    let thread = thread::Builder::new().name("wsabi-resolve".to_owned());
    call(Call::Thread, || thread.spawn(work).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::bind_addresses;
    use std::net::Ipv4Addr;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// A label longer than DNS allows (RFC 1035 §2.3.4): refused without asking any server.
    const NO_HOST: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

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
}
