//! The flags of every command, and `options`, which lists them.

use super::command::{Command, Flag, Group, Kind};
use super::help::flags_text;
use super::session::{Exit, Session};

pub const FLAGS: &[Flag] = &[
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "gRPC endpoints"),
    Flag::bool("debug", "enable client-side debug logging"),
    Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)")
        .letter('w')
        .values(&["fields", "json", "protobuf", "simple", "table"]),
    Flag::bool("hex", "print byte strings as hex encoded strings"),
    Flag::new("dial-timeout", Kind::Duration, "2s", "dial timeout for client connections"),
    Flag::new("command-timeout", Kind::Duration, "5s", "timeout for short running command (excluding dial timeout)"),
    Flag::new("keepalive-time", Kind::Duration, "2s", "keepalive time for client connections"),
    Flag::new("keepalive-timeout", Kind::Duration, "6s", "keepalive timeout for client connections"),
    Flag::int(
        "max-request-bytes",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    ),
    Flag::int("max-recv-bytes", "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")"),
    Flag::new("insecure-transport", Kind::Bool, "true", "disable transport security for client connections"),
    Flag::new("insecure-discovery", Kind::Bool, "true", "accept insecure SRV records describing cluster endpoints"),
    Flag::bool(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag::text("cert", "", "identify secure client using this TLS certificate file"),
    Flag::text("key", "", "identify secure client using this TLS key file"),
    Flag::text("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    Flag::text(
        "auth-jwt-token",
        "",
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    ),
    Flag::text("user", "", "username[:password] for authentication (prompt if password is not supplied)"),
    Flag::text(
        "password",
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::text("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints").letter('d'),
    Flag::text("discovery-srv-name", "", "service name to query when using DNS discovery"),
];

pub static COMMAND: Command = Command {
    name: "options",
    short: "Show the global command-line flags",
    group: Some(Group::Utility),
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    write!(session.io.output, "The following options can be passed to any command:\n\n{}", flags_text(FLAGS))?;
    Ok(())
}
