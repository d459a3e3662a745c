//! One member's decisions: what crosses between the services of a core and the owner of consensus, log and state.

pub mod lease_questions;
mod message;

pub use self::message::{Answer, Chore, CoreId, Request};
