//! What is known of a span when it has ended.

use std::{borrow::Cow, time::SystemTime};

use super::context::SpanContext;

/// The library that a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: &'static str,
    pub version: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: &'static str,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
    Boolean(bool),
}

impl Attribute {
    pub fn text(name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Self { name, value: Value::Text(value.into()) }
    }

    /// Keys may be any bytes, attributes are text: what is no UTF-8 is replaced.
    #[must_use]
    pub fn key(name: &'static str, key: &[u8]) -> Self {
        Self::text(name, String::from_utf8_lossy(key).into_owned())
    }

    #[must_use]
    pub fn integer(name: &'static str, value: i64) -> Self {
        Self { name, value: Value::Integer(value) }
    }

    #[must_use]
    pub fn boolean(name: &'static str, value: bool) -> Self {
        Self { name, value: Value::Boolean(value) }
    }

    fn bytes(&self) -> usize {
        let text = if let Value::Text(text) = &self.value { text.len() } else { 0 };
        size_of::<Self>() + text
    }
}

/// A span that has ended.
#[derive(Debug)]
pub struct Finished {
    pub scope: Scope,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub context: SpanContext,
    /// `None`: the first of its trace.
    pub parent: Option<Parent>,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<Attribute>,
    /// The reason of a failure that is the server's.
    pub failure: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub span_id: u64,
    /// It is of another process.
    pub is_remote: bool,
}

impl Finished {
    /// Bytes of memory, approximately.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.name.len() + self.failure.as_ref().map_or(0, |failure| failure.len());
        let state = self.context.state.as_ref().map_or(0, |state| state.len());
        size_of::<Self>() + texts + state + self.attributes.iter().map(Attribute::bytes).sum::<usize>()
    }
}
