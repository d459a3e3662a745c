//! What reader and transcoder need of the messages' descriptors: flat tables, because both look at them for every field.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};

/// The position of a message in [`Shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageId(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EnumId(usize);

/// All messages that can be reached from those that were asked for.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    messages: Vec<Vec<Field>>,
    enums: Vec<Vec<(i32, String)>>,
    known: HashMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub number: u32,
    /// As in the proto file: what is written, and read.
    pub name: String,
    /// In camel case: read as well.
    pub json_name: String,
    pub kind: Kind,
    pub is_list: bool,
    /// One of several, of which one may be set, to anything: the full name of the group.
    pub oneof: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Text,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
}

impl Kind {
    /// As protojson names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Uint32 => "uint32",
            Kind::Uint64 => "uint64",
            Kind::Text => "string",
            Kind::Bytes => "bytes",
            Kind::Enum(_) => "enum",
            Kind::Message(_) => "message",
        }
    }
}

impl Shapes {
    /// The shape of a message; it is made with those that it contains.
    pub(super) fn add(&mut self, message: &MessageDescriptor) -> MessageId {
        let mut waiting = Vec::new();
        let id = self.message(message, &mut waiting);
        while let Some((MessageId(at), message)) = waiting.pop() {
            let fields = message.fields().map(|field| self.field(&field, &mut waiting)).collect();
            self.messages[at] = fields;
        }
        id
    }

    fn message(&mut self, message: &MessageDescriptor, waiting: &mut Vec<(MessageId, MessageDescriptor)>) -> MessageId {
        if let Some(at) = self.known.get(message.full_name()) {
            return MessageId(*at);
        }
        let id = MessageId(self.messages.len());
        self.messages.push(Vec::new());
        self.known.insert(message.full_name().to_owned(), id.0);
        waiting.push((id, message.clone()));
        id
    }

    fn field(&mut self, field: &FieldDescriptor, waiting: &mut Vec<(MessageId, MessageDescriptor)>) -> Field {
        let kind = match field.kind() {
            prost_reflect::Kind::Bool => Kind::Bool,
            prost_reflect::Kind::Int32 => Kind::Int32,
            prost_reflect::Kind::Int64 => Kind::Int64,
            prost_reflect::Kind::Uint32 => Kind::Uint32,
            prost_reflect::Kind::Uint64 => Kind::Uint64,
            prost_reflect::Kind::String => Kind::Text,
            prost_reflect::Kind::Bytes => Kind::Bytes,
            prost_reflect::Kind::Enum(values) => Kind::Enum(self.values(&values)),
            prost_reflect::Kind::Message(message) => Kind::Message(self.message(&message, waiting)),
            other => unreachable!("etcd's interface has no {other:?}, which the tests see"),
        };
        Field {
            number: field.number(),
            name: field.name().to_owned(),
            json_name: field.json_name().to_owned(),
            kind,
            is_list: field.is_list(),
            oneof: field.containing_oneof().map(|group| group.full_name().to_owned()),
        }
    }

    fn values(&mut self, values: &EnumDescriptor) -> EnumId {
        self.enums.push(values.values().map(|value| (value.number(), value.name().to_owned())).collect());
        EnumId(self.enums.len() - 1)
    }

    pub(super) fn fields(&self, message: MessageId) -> &[Field] {
        &self.messages[message.0]
    }

    /// Where the field with this number is among the fields of its message.
    pub(super) fn position(&self, message: MessageId, number: u32) -> Option<usize> {
        self.fields(message).iter().position(|field| field.number == number)
    }

    /// The field of this name, in either form.
    pub(super) fn named(&self, message: MessageId, name: &str) -> Option<&Field> {
        let fields = self.fields(message);
        let by_json_name = fields.iter().find(|field| field.json_name == name);
        by_json_name.or_else(|| fields.iter().find(|field| field.name == name))
    }

    pub(super) fn value_name(&self, EnumId(at): EnumId, number: i32) -> Option<&str> {
        self.enums[at].iter().find(|(known, _)| *known == number).map(|(_, name)| &**name)
    }

    pub(super) fn value_number(&self, EnumId(at): EnumId, name: &str) -> Option<i32> {
        self.enums[at].iter().find(|(_, known)| known == name).map(|(number, _)| *number)
    }
}

/// The descriptors of everything in `proto/`.
pub(super) fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("the build script has compiled them")
}
