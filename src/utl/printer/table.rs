//! A drawn table.

use super::reply::{Reply, row};
use crate::ctl::printer::table::draw;

pub fn text(reply: &Reply) -> String {
    let (head, cells) = row(reply);
    draw(&head, &[cells])
}
