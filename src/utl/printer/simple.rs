//! Cells with commas between.

use super::reply::{Reply, row};

pub fn text(reply: &Reply) -> String {
    let (_, cells) = row(reply);
    format!("{}\n", cells.join(", "))
}
