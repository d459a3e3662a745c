//! Messages of the wire and of the disk, generated from `proto/` at build time.
//!
//! One submodule per proto package. Every `bytes` field is a [`bytes::Bytes`], so a decoded request
//! shares the receive buffer instead of copying it.

#![allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]

/// Everything in `proto/` as a `google.protobuf.FileDescriptorSet`, with the HTTP routes of methods.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// The messages of `proto/kubernetes`, a `google.protobuf.FileDescriptorSet`.
pub const KUBERNETES_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kubernetes.bin"));

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
