//! The methods of a server, as data, looked up by path without allocation.

use std::collections::HashMap;

use super::{
    quoted::{lossy, quoted},
    status::{Code, Status},
};

/// One method of one service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Full name, for example `etcdserverpb.KV`.
    pub service: &'static str,
    pub name: &'static str,
    pub kind: MethodKind,
}

/// The sides that may send more than one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    Unary,
    ServerStream,
    BidiStream,
}

/// Position in the server's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId(pub u16);

/// The methods of a server.
pub struct MethodTable {
    methods: &'static [Method],
    paths: Vec<String>,
    by_path: HashMap<Box<[u8]>, MethodId, ahash::RandomState>,
}

impl MethodTable {
    /// Paths must be distinct and at most 65,536.
    pub fn new(methods: &'static [Method]) -> MethodTable {
        let paths: Vec<String> = methods.iter().map(|method| format!("/{}/{}", method.service, method.name)).collect();
        let by_path: HashMap<_, _, _> =
            paths.iter().zip(0_u16..).map(|(path, number)| (path.as_bytes().into(), MethodId(number))).collect();
        assert_eq!(by_path.len(), methods.len(), "method paths are distinct");
        MethodTable { methods, paths, by_path }
    }

    pub fn methods(&self) -> &'static [Method] {
        self.methods
    }

    pub fn method(&self, id: MethodId) -> &'static Method {
        &self.methods[usize::from(id.0)]
    }

    /// `/service/name`.
    pub fn path(&self, id: MethodId) -> &str {
        &self.paths[usize::from(id.0)]
    }

    /// The method at `path`, or grpc-go's refusal.
    pub(super) fn find(&self, path: &[u8]) -> Result<MethodId, Status> {
        match self.by_path.get(path) {
            Some(id) => Ok(*id),
            None => Err(self.unknown(path)),
        }
    }

    fn unknown(&self, path: &[u8]) -> Status {
        let parts = path.strip_prefix(b"/").and_then(|path| {
            let slash = path.iter().rposition(|byte| *byte == b'/')?;
            Some((&path[..slash], &path[slash + 1..]))
        });
        let text = match parts {
            None => format!("malformed method name: {}", quoted(path)),
            Some((service, name)) if self.methods.iter().any(|method| method.service.as_bytes() == service) => {
                format!("unknown method {} for service {}", lossy(name), lossy(service))
            }
            Some((service, _)) => format!("unknown service {}", lossy(service)),
        };
        Status::new(Code::Unimplemented, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &[Method] = &[
        Method { service: "a.KV", name: "Range", kind: MethodKind::Unary },
        Method { service: "a.Watch", name: "Watch", kind: MethodKind::BidiStream },
    ];

    #[test]
    fn paths_are_found_or_refused_as_by_grpc_go() {
        let table = MethodTable::new(METHODS);
        assert_eq!(table.find(b"/a.Watch/Watch"), Ok(MethodId(1)));
        for (path, message) in [
            ("/a.KV/Put", "unknown method Put for service a.KV"),
            ("/b.KV/Put", "unknown service b.KV"),
            ("/a/b/c", "unknown service a/b"),
            ("/x", "malformed method name: \"/x\""),
            ("*", "malformed method name: \"*\""),
            ("", "malformed method name: \"\""),
            ("foo", "malformed method name: \"foo\""),
            ("a.KV/Range", "malformed method name: \"a.KV/Range\""),
            ("/a.KV/Range?x=1", "unknown method Range?x=1 for service a.KV"),
            ("/a.KV/R%61nge", "unknown method R%61nge for service a.KV"),
        ] {
            assert_eq!(table.find(path.as_bytes()), Err(Status::new(Code::Unimplemented, message)));
        }
    }
}
