//! What must hold in a simulated world. Each checker knows only what clients were told and what members show.
//!
//! | file | holds |
//! |---|---|
//! | `journal` | a revision has the same changes on every member and every start, and none is skipped; the state at each revision |
//! | `transaction` | an answered write has the changes, the order and the answer that the state before it calls for; a read shows its revision |
//! | `linearizable` | the operations on one key have an order that fits all answers and their times |
//! | `order` | what begins after another operation has ended sees or makes a later state |
//! | `watch` | a watcher gets every event of its keys once, in order, whole revisions, and a compaction ends it only if it has missed some |
//! | `leases` | no lease ends before its time, none lives on for long, and its keys go with it |
//! | `agreement` | one leader per term; equal states at equal entries; equal hashes at equal revisions |

pub mod agreement;
pub mod journal;
pub mod leases;
pub mod linearizable;
pub mod order;
pub mod transaction;
pub mod watch;
