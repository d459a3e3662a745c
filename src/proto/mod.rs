//! Messages of the wire and of the disk, generated from `proto/` at build time.
//!
//! One submodule per proto package. Every `bytes` field is a [`bytes::Bytes`], so a decoded request
//! shares the receive buffer instead of copying it.

#![allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
