//! What a start says about its configuration, in etcd's words, once there is a log to say it in.

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    VariableUsed {
        name: String,
        value: String,
    },
    /// A variable with etcd's prefix that is empty or belongs to no flag.
    UnknownVariable {
        text: String,
    },
    SpecialVariable {
        name: String,
        value: String,
    },
    ConfigurationFile {
        path: String,
    },
    /// A key of the file that no release has had for long.
    EarlyKey {
        key: String,
    },
    Deprecated(&'static str),
    WatchProgressRaised {
        least: String,
    },
    /// A certificate is given, too.
    AutoTlsIgnored {
        side: &'static str,
    },
    /// A URL that is served without TLS.
    CertificateIgnored {
        side: &'static str,
        url: String,
    },
    CertAuthIgnored {
        side: &'static str,
        url: String,
    },
}

impl Notice {
    pub fn log(&self) {
        match self {
            Notice::VariableUsed { name, value } => {
                tracing::info!(variable_name = name, variable_value = value, "recognized and used environment variable")
            }
            Notice::UnknownVariable { text } => {
                tracing::warn!(environment_variable = text, "unrecognized environment variable");
            }
            Notice::SpecialVariable { name, value } => {
                tracing::warn!(key = name, value, "cannot set special environment variable");
            }
            Notice::ConfigurationFile { path } => tracing::info!(
                path,
                "loaded server configuration, other configuration command line flags and environment variables will be \
                 ignored if provided"
            ),
            Notice::EarlyKey { key } => {
                tracing::warn!(key, "ignoring a key of an early release in the configuration file");
            }
            Notice::Deprecated(text) => tracing::warn!("{text}"),
            Notice::WatchProgressRaised { least } => tracing::warn!(
                minimum_watch_progress_notify_interval = least,
                "adjusting watch progress notify interval to minimum period"
            ),
            Notice::AutoTlsIgnored { side } => tracing::warn!("ignoring {side} auto TLS since certs given"),
            Notice::CertificateIgnored { side: "peer", url } => tracing::warn!(
                peer_url = url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            ),
            Notice::CertificateIgnored { url, .. } => tracing::warn!(
                client_url = url,
                "scheme is http or unix while key and cert files are present; ignoring key and cert files"
            ),
            Notice::CertAuthIgnored { side: "peer", url } => tracing::warn!(
                peer_url = url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            ),
            Notice::CertAuthIgnored { url, .. } => tracing::warn!(
                client_url = url,
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL"
            ),
        }
    }
}
