//! The state of a running command: its flags and arguments, its streams, the client and the printer.

use std::borrow::Cow;
use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::discovery;
pub use super::exit::{BAD_CONNECTION, BAD_FEATURE, ERROR, Exit, INTERRUPTED, INTERRUPTED_PROMPT, INVALID_INPUT};
use super::flags::Flags;
use super::go_json;
use super::printer::{self, Format, Reply};
use super::tree::Path;
use super::{security, terminal};
use crate::base::limits::{CLIENT_REQUEST_BYTES_MAX, CLIENT_RESPONSE_BYTES_MAX};
use crate::client::{Call, Client, Error, Method, Options, Tls};

/// The streams of the process, or buffers of a test.
pub struct Io<'a> {
    pub input: Box<dyn Read + Send>,
    pub output: &'a mut dyn Write,
    pub errors: &'a mut dyn Write,
    /// Whether commands that are started may write to stdout and stderr themselves.
    pub shares_streams: bool,
    /// Ends when the user asks to stop. Polled only by commands that clean up; the others just end.
    pub interrupt: Pin<Box<dyn Future<Output = ()>>>,
}

/// SIGINT or SIGTERM, once the future is polled.
pub async fn signals() {
    let listen = |kind| signal(kind).ok();
    let (Some(mut interrupt), Some(mut terminate)) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process, and a lease ends after its TTL.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// The prefix of variables of the environment that set flags.
const PREFIX: &str = "ETCDCTL_";

/// Name and password, or a token.
type Credentials = (Option<(String, String)>, Option<String>);

/// Carries a command out.
pub type Run = fn(&mut Session) -> Result<(), Exit>;

/// A command being carried out.
pub struct Session<'a> {
    pub path: Path<Run>,
    pub flags: Flags,
    pub io: Io<'a>,
    environment: Vec<(String, String)>,
    runtime: Runtime,
    format: Format,
    /// Of the flags, once the environment is read.
    tls: Option<Tls>,
    /// Cached, so that a password is asked for once.
    credentials: Option<Credentials>,
}

impl<'a> Session<'a> {
    pub fn new(
        path: Path<Run>,
        flags: Flags,
        io: Io<'a>,
        environment: Vec<(String, String)>,
        runtime: Runtime,
    ) -> Self {
        let format = Format::Simple { hex: false, value_only: false };
        Self { path, flags, io, environment, runtime, format, tls: None, credentials: None }
    }

    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.flags.arguments
    }

    /// Argument `at` as text.
    pub fn argument(&self, at: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.flags.arguments[at])
    }

    /// A client by flags and environment. Reads both, so it comes after the checks of the arguments.
    pub fn client(&mut self) -> Result<Client, Exit> {
        let options = self.settle()?;
        self.connect(options)
    }

    /// A client of one endpoint.
    pub fn client_of(&mut self, endpoint: &str) -> Result<Client, Exit> {
        let options = Options { endpoints: vec![endpoint.to_owned()], ..self.options()? };
        self.connect(options)
    }

    fn connect(&mut self, options: Options) -> Result<Client, Exit> {
        self.wait(Client::connect(options)).map_err(|error| Exit::new(BAD_CONNECTION, error))
    }

    /// Reads the environment, chooses the output format, and returns the client's options.
    pub fn settle(&mut self) -> Result<Options, Exit> {
        self.read_environment()?;
        self.show_flags()?;
        self.tls = security::global(&self.flags)?;
        let options = self.options()?;
        self.format = Format::by_name(self.flags.text("write-out"), self.flags.bool("hex"))
            .ok_or_else(|| Exit::new(BAD_FEATURE, "unsupported output format"))?;
        Ok(options)
    }

    /// Sets `--x` from `ETCDCTL_X`. To give both is an error; an unknown variable is a warning.
    fn read_environment(&mut self) -> Result<(), Exit> {
        let shared: Vec<&str> = self.path[..self.path.len() - 1]
            .iter()
            .flat_map(|command| command.shared_flags)
            .map(|flag| flag.name)
            .collect();
        let is_watch = self.path.last().is_some_and(|command| command.name == "watch");
        for (name, value) in self.environment.clone() {
            let Some(flag) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let flag = flag.to_lowercase().replace('_', "-");
            if is_watch && (flag == "watch-key" || flag == "watch-range-end") {
                continue;
            }
            if !shared.contains(&flag.as_str()) || value.is_empty() {
                self.log(
                    "warn",
                    "unrecognized environment variable",
                    "environment-variable",
                    &format!("{name}={value}"),
                )?;
            } else if self.flags.given(&flag) {
                let text = "conflicting environment variable is shadowed by corresponding command-line flag \
                            (either unset environment variable or disable flag))";
                self.log("fatal", text, "environment-variable", &name)?;
                return Err(Exit::silent(ERROR));
            } else {
                self.flags.set_from_environment(&flag, &value);
            }
        }
        Ok(())
    }

    /// A variable of the environment; empty if there is none.
    pub fn variable(&self, name: &str) -> &str {
        self.environment.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// `--debug`: prints the flags as variables of the environment, without the lines of etcdctl's gRPC library.
    fn show_flags(&mut self) -> Result<(), Exit> {
        if !self.flags.bool("debug") {
            return Ok(());
        }
        let mut lines: Vec<String> = self
            .flags
            .shared(&self.path)
            .map(|(name, value)| format!("{PREFIX}{}={value}", name.to_uppercase().replace('-', "_")))
            .collect();
        lines.sort_unstable();
        lines.iter().try_for_each(|line| writeln!(self.io.errors, "{line}"))?;
        Ok(())
    }

    fn options(&mut self) -> Result<Options, Exit> {
        let bytes = |value: i64, default: usize| if value > 0 { value as usize } else { default };
        let (user, token) = self.credentials()?;
        Ok(Options {
            endpoints: discovery::endpoints(&self.flags, self.io.errors)?,
            tls: self.tls.clone(),
            // Zero is no bound, as in etcdctl.
            dial_timeout: Some(self.flags.duration("dial-timeout"))
                .filter(|time| !time.is_zero())
                .unwrap_or(Duration::MAX),
            ping_after: self.flags.duration("keepalive-time"),
            ping_timeout: self.flags.duration("keepalive-timeout"),
            user,
            token,
            request_bytes_max: bytes(self.flags.int("max-request-bytes"), CLIENT_REQUEST_BYTES_MAX),
            response_bytes_max: bytes(self.flags.int("max-recv-bytes"), CLIENT_RESPONSE_BYTES_MAX),
        })
    }

    fn credentials(&mut self) -> Result<Credentials, Exit> {
        if let Some(known) = &self.credentials {
            return Ok(known.clone());
        }
        let found = self.find_credentials()?;
        Ok(self.credentials.insert(found).clone())
    }

    fn find_credentials(&mut self) -> Result<Credentials, Exit> {
        let (user, password) = (self.flags.text("user"), self.flags.text("password"));
        let token = self.flags.text("auth-jwt-token");
        if !token.is_empty() {
            return Ok((None, Some(token.to_owned())));
        }
        if user.is_empty() {
            return Ok((None, None));
        }
        let pair = match user.split_once(':') {
            _ if !password.is_empty() => (user.to_owned(), password.to_owned()),
            Some((user, password)) => (user.to_owned(), password.to_owned()),
            None => {
                let user = user.to_owned();
                (user, self.ask_secret("Password: ")?)
            }
        };
        Ok((Some(pair), None))
    }

    /// Asks for a password on stdout and reads one line, which a terminal does not show.
    pub fn ask_secret(&mut self, prompt: &str) -> Result<String, Exit> {
        write!(self.io.output, "{prompt}")?;
        self.io.output.flush()?;
        let owns_terminal = self.io.shares_streams;
        let input = std::mem::replace(&mut self.io.input, Box::new(io::empty()));
        let asked = self.wait_or_interrupt(async move {
            let _silence = owns_terminal.then(terminal::Silence::begin);
            terminal::read_line(input).await
        });
        writeln!(self.io.output)?;
        let Some((input, line)) = asked.flatten() else {
            return Err(Exit::silent(INTERRUPTED_PROMPT));
        };
        self.io.input = input;
        Ok(String::from_utf8_lossy(&line?).trim().to_owned())
    }

    /// One line of stdin with its end; `None` if stdin ended before a line did.
    pub fn read_line(&mut self) -> Result<Option<Vec<u8>>, Exit> {
        let line = terminal::line_of(&mut self.io.input)?;
        Ok(Some(line).filter(|line| line.ends_with(b"\n")))
    }

    /// A log line on stderr, in etcd's JSON form.
    pub fn log(&mut self, level: &str, message: &str, name: &str, value: &str) -> Result<(), Exit> {
        let line = go_json::object(|object| {
            object.text("level", level);
            object.text("msg", message);
            object.text(name, value);
        });
        writeln!(self.io.errors, "{line}")?;
        Ok(())
    }

    /// A call bounded by `--command-timeout`.
    pub fn call(&self) -> Call {
        Call::within(self.flags.duration("command-timeout"))
    }

    /// `call` on `client`, waited for.
    pub fn request<Q, A>(&mut self, client: &Client, method: &Method<Q, A>, request: &Q, call: Call) -> Result<A, Error>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        self.wait(client.call(method, request, call))
    }

    /// Starts `work`, which runs whenever the session waits.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        // It ends with the runtime, and no one awaits it.
        drop(self.runtime.spawn(work));
    }

    /// The same as [`Self::wait`], unless the user interrupts it: `None`.
    pub fn wait_or_interrupt<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let interrupt = &mut self.io.interrupt;
        self.runtime.block_on(async {
            tokio::select! {
                // Polled first, so that a signal is handled from the beginning.
                biased;
                () = interrupt => None,
                outcome = work => Some(outcome),
            }
        })
    }

    /// Carries out `work` on the runtime of this session.
    pub fn wait<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// What connections are secured with.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub fn format(&self) -> &Format {
        &self.format
    }

    /// `--print-value-only`; only the simple format knows it.
    pub fn print_value_only(&mut self) -> Result<(), Exit> {
        match &mut self.format {
            Format::Simple { value_only, .. } => *value_only = true,
            _ => return Err(Exit::arguments("print-value-only is only for `--write-out=simple`")),
        }
        Ok(())
    }

    /// Prints the result of a command. As in etcdctl a format that cannot show it is refused only now, so a log line states that the
    /// command was carried out.
    pub fn print(&mut self, reply: &Reply) -> Result<(), Exit> {
        let printed = printer::print(&self.format, reply, self.io.output, self.io.errors);
        if let Err(exit) = printed {
            if exit.code == BAD_FEATURE {
                let name = self.flags.text("write-out").to_owned();
                let text = "the command was carried out, but its result has no such output format";
                self.log("warn", text, "write-out", &name)?;
            }
            return Err(exit);
        }
        self.io.output.flush()?;
        Ok(())
    }

    /// The endpoints of `--endpoints`, or with `--cluster` the client URLs of all members.
    pub fn chosen_endpoints(&mut self) -> Result<Vec<String>, Exit> {
        if !self.flags.bool("cluster") {
            return discovery::endpoints(&self.flags, self.io.errors);
        }
        let options = self.options()?;
        let client = self.wait(Client::connect(options))?;
        let request = crate::proto::etcdserverpb::MemberListRequest { linearizable: true };
        let call = self.call();
        let members = self.request(&client, &crate::client::method::MEMBER_LIST, &request, call).map_err(|error| {
            Exit::new(ERROR, format!("failed to fetch endpoints from etcd cluster member list: {error}"))
        })?;
        Ok(members.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
    }
}

/// Parses a lease id, with etcdctl's error.
pub fn parse_lease(text: &[u8]) -> Result<i64, Exit> {
    super::go_format::parse_int(text, 16)
        .map_err(|error| Exit::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}

/// Parses a member id, with etcdctl's error.
pub fn parse_member(text: &[u8]) -> Result<u64, Exit> {
    super::go_format::parse_uint(text, 16)
        .map_err(|error| Exit::arguments(format!("bad member ID arg ({error}), expecting ID in Hex")))
}

/// A short wait that a user may interrupt.
pub fn grace() -> Duration {
    Duration::from_secs(2)
}
