//! The commands of ringctl: nodes of a command tree that are carried out with a [`Session`](super::session::Session).

use super::{session::Run, tree};

pub use tree::{Flag, Group, Kind, find, suggestions};

pub type Command = tree::Command<Run>;
pub type Path = tree::Path<Run>;
pub type Found = tree::Found<Run>;
