//! Calls of the kernel that block and have no io_uring operation, on threads of their own: names of hosts, directories.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread,
};

use super::executor;

/// What a thread leaves for the task that waits.
struct Slot<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, (Option<T>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `call` on a thread of its own. Whoever stops waiting leaves the thread to end by itself.
///
/// # Errors
/// There is no thread to be had.
pub async fn offload<T: Send + 'static>(name: &str, call: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let slot = Arc::new(Slot(Mutex::new((None, None))));
    let for_thread = Arc::clone(&slot);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = call();
        let waker = {
            let mut slot = for_thread.lock();
            slot.0 = Some(result);
            slot.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    })?;
    let result = poll_fn(|context| {
        let mut slot = slot.lock();
        match slot.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    });
    Ok(result.await)
}

/// Runs `call` beside the threads that serve, for as long as it takes: on any CPU that the process was started on, and behind them.
///
/// # Errors
/// There is no thread to be had.
pub fn beside(name: &str, call: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        executor::leave_cpu();
        call();
    })
}

/// Runs a computation that takes long on a thread of its own: on any CPU that the process was started on, and behind the threads that
/// serve.
///
/// # Errors
/// There is no thread to be had.
pub async fn compute<T: Send + 'static>(name: &str, call: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    offload(name, move || {
        executor::leave_cpu();
        call()
    })
    .await
}

/// Lookups that run, by host: all who ask meanwhile wait for the same one, so a resolver that hangs has one thread for each host.
static LOOKUPS: Mutex<Vec<(String, Arc<Lookup>)>> = Mutex::new(Vec::new());

type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// One question to the resolver, and those who wait for the answer.
#[derive(Default)]
struct Lookup(Mutex<(Option<Found>, Vec<Waker>)>);

impl Lookup {
    fn lock(&self) -> MutexGuard<'_, (Option<Found>, Vec<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, found: Found) {
        let waiting = {
            let mut state = self.lock();
            state.0 = Some(found);
            std::mem::take(&mut state.1)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The addresses of `host:port`, asked anew each time. An address needs no resolver.
///
/// # Errors
/// The resolver's.
pub async fn addresses(host_port: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host_port.parse() {
        return Ok(vec![address]);
    }
    let lookup = look_up(host_port);
    let found = poll_fn(|context| {
        let mut state = lookup.lock();
        match &state.0 {
            Some(found) => Poll::Ready(found.clone()),
            None => {
                state.1.push(context.waker().clone());
                Poll::Pending
            }
        }
    });
    found.await.map_err(|(kind, text)| io::Error::new(kind, text))
}

/// The lookup of this host that runs, or a new one.
fn look_up(host_port: &str) -> Arc<Lookup> {
    let lookups = || LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = lookups();
    if let Some((_, lookup)) = running.iter().find(|(known, _)| known == host_port) {
        return Arc::clone(lookup);
    }
    let (lookup, name) = (Arc::new(Lookup::default()), host_port.to_owned());
    let for_thread = Arc::clone(&lookup);
    let started = thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let found = name.to_socket_addrs().map(Iterator::collect);
        lookups().retain(|(known, _)| *known != name);
        for_thread.end(found.map_err(|error| (error.kind(), format!("lookup {name}: {error}"))));
    });
    match started {
        Ok(_) => running.push((host_port.to_owned(), Arc::clone(&lookup))),
        Err(error) => lookup.end(Err((error.kind(), error.to_string()))),
    }
    lookup
}

/// The name that the resolver has for an address; none if it has none.
///
/// # Errors
/// No thread is to be had.
pub async fn names(address: IpAddr) -> io::Result<Vec<String>> {
    offload("resolver", move || name_of(address).into_iter().collect()).await
}

fn name_of(address: IpAddr) -> Option<String> {
    let target = socket2::SockAddr::from(SocketAddr::new(address, 0));
    let mut name = [0 as libc::c_char; libc::NI_MAXHOST as usize];
    // SAFETY: the address is live and its length its own; the buffer is live and its length is passed; no service is asked for.
    let outcome = unsafe {
        libc::getnameinfo(
            target.as_ptr().cast(),
            target.len(),
            name.as_mut_ptr(),
            libc::NI_MAXHOST,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if outcome != 0 {
        return None;
    }
    // SAFETY: on success the buffer holds a text that ends with a zero.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) };
    name.to_str().ok().map(str::to_owned)
}
