//! Executors: one thread, pinned to one CPU, with its own rings.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::OnceLock,
    task::Poll,
    time::Duration,
};

use glommio::{LocalExecutorBuilder, Placement, timer::Timer};

use crate::base::limits;

/// How one executor is placed and how long it looks for work before it sleeps.
#[derive(Clone, Debug)]
pub struct Seat {
    pub name: String,
    /// The CPU to stay on; `None` leaves placement to the scheduler.
    pub cpu: Option<usize>,
    /// Busy-looks for this long before parking. Worth it only on a core of its own.
    pub spin: Duration,
}

/// Memory of one executor that is registered with its rings, for direct I/O. Counts against memlock without CAP_IPC_LOCK.
const REGISTERED_BYTES: usize = 4 << 20;
const RING_DEPTH: usize = 256;

/// Runs `future` to its end on the calling thread.
///
/// # Errors
/// The kernel refuses the rings or the CPU; `probe::explain` names the cause.
pub fn run<T>(seat: &Seat, future: impl Future<Output = T>) -> io::Result<T> {
    let executor = builder(seat).make().map_err(io::Error::from)?;
    Ok(executor.run(async {
        let (mut pulse, mut future) = (pin!(pulse()), pin!(future));
        // The pulse is no task of its own: a task could be among those that are ready while the executor sleeps, and would not set its timer.
        poll_fn(|context| match pulse.as_mut().poll(context) {
            Poll::Ready(never) => match never {},
            Poll::Pending => future.as_mut().poll(context),
        })
        .await
    }))
}

/// Bounds how long an executor can sleep beside work.
///
/// glommio 0.9 goes to sleep with tasks that are ready if something arrives in its latency ring (the preempt timer, the wake-up of
/// another thread) after it looked at I/O and before it runs the first task: its `run_task_queues` then says that nothing ran.
/// The next event wakes it. This timer is that event when there is no other. Before the future of [`run`] was polled there is no
/// pulse either, so the preempt timer has to be long; [`super::yield_now`] replaces it.
async fn pulse() -> Infallible {
    loop {
        Timer::new(Duration::from_millis(limits::PULSE_MS)).await;
    }
}

/// Starts a thread that runs the future made by `make`, and returns its handle.
///
/// # Errors
/// As [`run`], for the thread itself.
pub fn spawn<F>(
    seat: Seat,
    make: impl FnOnce() -> F + Send + 'static,
) -> io::Result<std::thread::JoinHandle<io::Result<()>>>
where
    F: Future<Output = ()> + 'static,
{
    std::thread::Builder::new().name(seat.name.clone()).spawn(move || run(&seat, make()))
}

fn builder(seat: &Seat) -> LocalExecutorBuilder {
    let placement = seat.cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&seat.name)
        .io_memory(REGISTERED_BYTES)
        .ring_depth(RING_DEPTH)
        .spin_before_park(seat.spin)
        .preempt_timer(Duration::from_millis(limits::PREEMPT_MS))
}

/// The CPUs that [`allowed_cpus`] found first, before any thread was pinned.
static STARTED_ON: OnceLock<libc::cpu_set_t> = OnceLock::new();

/// Less than what threads have at their start, so that they yield to the cores that serve.
const HELPER_NICENESS: libc::c_int = 3;

/// Lets this thread run on any CPU of the process instead of its parent's, with a lower priority. Without the permission for it the
/// thread stays where it is.
pub(super) fn leave_cpu() {
    if let Some(set) = STARTED_ON.get() {
        // SAFETY: `set` is a live cpu_set_t and its size is passed; 0 is this thread.
        unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &raw const *set) };
    }
    // SAFETY: only numbers are passed. On Linux a process id of 0 is this thread alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HELPER_NICENESS) };
}

/// CPUs this process may run on, ascending.
///
/// # Errors
/// The kernel refuses the question.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain data and valid when zeroed.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live cpu_set_t and its size is passed.
    let outcome = unsafe { libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &raw mut set) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    STARTED_ON.get_or_init(|| set);
    // SAFETY: the index is below the set's capacity.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}
