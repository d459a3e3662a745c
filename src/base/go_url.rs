//! URLs of members and clients, taken and refused as etcd does, with the words of Go's `url.Parse`.
//!
//! ```text
//! http://127.0.0.1:2379     scheme http or https, a host and a port (which may be empty), no path
//! unix:///run/etcd.sock     scheme unix or unixs, a path of any form; unix://localhost:1 is the file "localhost:1"
//! ```

use std::fmt;

/// A URL in the form in which Go prints it, with its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    pub scheme: Scheme,
    /// Host and port, without a user; empty if there is none.
    pub authority: String,
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

impl Scheme {
    /// Whether this is a socket in the file system.
    #[must_use]
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }

    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("parse {0:?}: first path segment in URL cannot contain colon")]
    Colon(String),
    #[error("parse {0:?}: missing protocol scheme")]
    NoScheme(String),
    #[error("parse {url:?}: invalid character {character:?} in host name")]
    Character { url: String, character: String },
    #[error("parse {url:?}: invalid URL escape {escape:?}")]
    Escape { url: String, escape: String },
    #[error("parse {url:?}: invalid port {port:?} after host")]
    Port { url: String, port: String },
    #[error("parse {0:?}: missing ']' in host")]
    Bracket(String),
    #[error("parse {0:?}: net/url: invalid control character in URL")]
    Control(String),
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The URLs of a list with commas, sorted, each once.
///
/// # Errors
/// One of them is no URL of this form. An empty one is none.
pub fn parse_list(text: &str) -> Result<Vec<Url>, BadUrl> {
    let mut urls = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort_unstable();
    urls.dedup();
    Ok(urls)
}

/// One URL; spaces around it do not count.
///
/// # Errors
/// It is no URL of this form.
pub fn parse(text: &str) -> Result<Url, BadUrl> {
    let text = text.trim();
    let owned = || text.to_owned();
    if text.contains(|char: char| char.is_ascii_control()) {
        return Err(BadUrl::Control(owned()));
    }
    let (scheme_text, rest) = split_scheme(text)?;
    let scheme = match scheme_text.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "unix" => Scheme::Unix,
        "unixs" => Scheme::Unixs,
        _ => return Err(BadUrl::Scheme(owned())),
    };
    let main = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match main.strip_prefix("//") {
        Some(main) => main.split_at(main.find('/').unwrap_or(main.len())),
        // Go treats a URL without a slash after the colon as opaque, and etcd ignores opaque parts.
        None if main.starts_with('/') => ("", main),
        None => ("", ""),
    };
    let authority = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
    check_authority(text, authority)?;
    check_escapes(text, path)?;
    if !scheme.is_unix() {
        if !has_port(authority) {
            return Err(BadUrl::HostPort(owned()));
        }
        if !path.is_empty() {
            return Err(BadUrl::Path(owned()));
        }
    }
    let (authority, path) = (authority.to_owned(), path.to_owned());
    Ok(Url { text: format!("{scheme_text}:{rest}"), scheme, authority, path })
}

/// The scheme in lower case, empty if there is none, and what follows its colon.
fn split_scheme(text: &str) -> Result<(String, &str), BadUrl> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.');
    let end = text.find(|char: char| !is_part(char)).unwrap_or(text.len());
    let begins = text.starts_with(|char: char| char.is_ascii_alphabetic());
    match text[end..].strip_prefix(':') {
        Some(_) if end == 0 => Err(BadUrl::NoScheme(text.to_owned())),
        Some(rest) if begins => Ok((text[..end].to_ascii_lowercase(), rest)),
        _ if text.split('/').next().is_some_and(|segment| segment.contains(':')) => Err(BadUrl::Colon(text.to_owned())),
        _ => Ok((String::new(), text)),
    }
}

fn check_authority(url: &str, authority: &str) -> Result<(), BadUrl> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(_) => {
            let end = authority.rfind(']').ok_or_else(|| BadUrl::Bracket(url.to_owned()))?;
            authority.split_at(end + 1)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if !port.strip_prefix(':').unwrap_or(port).bytes().all(|byte| byte.is_ascii_digit())
        || !(port.is_empty() || port.starts_with(':'))
    {
        return Err(BadUrl::Port { url: url.to_owned(), port: port.to_owned() });
    }
    check_escapes(url, host)?;
    let refused = |char: &char| char.is_ascii() && !char.is_ascii_alphanumeric() && !HOST_SIGNS.contains(*char);
    match host.chars().find(refused) {
        Some(character) => Err(BadUrl::Character { url: url.to_owned(), character: character.to_string() }),
        None => Ok(()),
    }
}

/// Signs of RFC 3986 that Go takes in a host's name.
const HOST_SIGNS: &str = "-_.~!$&'()*+,;=:[]<>\"%";

fn check_escapes(url: &str, text: &str) -> Result<(), BadUrl> {
    for (at, _) in text.match_indices('%') {
        let escape: String = text[at..].chars().take(3).collect();
        if escape.len() != 3 || !escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadUrl::Escape { url: url.to_owned(), escape });
        }
    }
    Ok(())
}

fn has_port(authority: &str) -> bool {
    let after_address = authority.rsplit_once(']').map_or(authority, |(_address, rest)| rest);
    after_address.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from etcd 3.7.1.
    #[test]
    fn mistakes_have_gos_words() {
        for (url, why) in [
            ("127.0.0.1:0", "parse \"127.0.0.1:0\": first path segment in URL cannot contain colon"),
            ("ht^tp://127.0.0.1:0", "parse \"ht^tp://127.0.0.1:0\": first path segment in URL cannot contain colon"),
            (":1", "parse \":1\": missing protocol scheme"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("abc", "URL scheme must be http, https, unix, or unixs: abc"),
            ("localhost:2380", "URL scheme must be http, https, unix, or unixs: localhost:2380"),
            ("ftp://127.0.0.1:0", "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:0"),
            ("http://", "URL address does not have the form \"host:port\": http://"),
            ("http://127.0.0.1", "URL address does not have the form \"host:port\": http://127.0.0.1"),
            ("http://[::1]", "URL address does not have the form \"host:port\": http://[::1]"),
            ("http://127.0.0.1:0/", "URL must not contain a path: http://127.0.0.1:0/"),
            ("http://127.0.0.1:0/path", "URL must not contain a path: http://127.0.0.1:0/path"),
            ("http://127.0.0.1:abc", "parse \"http://127.0.0.1:abc\": invalid port \":abc\" after host"),
            ("http://::1:0", "parse \"http://::1:0\": invalid port \"::1:0\" after host"),
            ("http://[::1:0", "parse \"http://[::1:0\": missing ']' in host"),
            ("http://[::1%lo]:0", "parse \"http://[::1%lo]:0\": invalid URL escape \"%lo\""),
            ("http://127.0.0.1:0/%zz", "parse \"http://127.0.0.1:0/%zz\": invalid URL escape \"%zz\""),
            ("http://127.0.0.1 :0", "parse \"http://127.0.0.1 :0\": invalid character \" \" in host name"),
        ] {
            assert_eq!(parse(url).expect_err(url).to_string(), why);
        }
    }

    #[test]
    fn parts_are_found() {
        let parts = |url: &str| {
            let url = parse(url).expect("a URL");
            (url.to_string(), url.authority, url.path)
        };
        let expected = |text: &str, authority: &str, path: &str| (text.into(), authority.into(), path.into());
        assert_eq!(parts(" HTTP://u:p@127.0.0.1:0 "), expected("http://u:p@127.0.0.1:0", "127.0.0.1:0", ""));
        assert_eq!(parts("http://[::]:?x=y"), expected("http://[::]:?x=y", "[::]:", ""));
        assert_eq!(parts("unix:///tmp/a.sock"), expected("unix:///tmp/a.sock", "", "/tmp/a.sock"));
        assert_eq!(parts("unix:/tmp/a.sock"), expected("unix:/tmp/a.sock", "", "/tmp/a.sock"));
        assert_eq!(parts("unix://localhost:12"), expected("unix://localhost:12", "localhost:12", ""));
        assert_eq!(parts("unix:a.sock"), expected("unix:a.sock", "", ""));
    }

    #[test]
    fn lists_are_sorted_and_without_repetition() {
        let list = parse_list("http://b:1,http://a:1, http://b:1").expect("URLs");
        assert_eq!(list.iter().map(Url::to_string).collect::<Vec<_>>(), ["http://a:1", "http://b:1"]);
        assert!(parse_list("http://b:1,").is_err());
    }
}
