//! Replies as a drawn table: heads centred in upper case, cells to the right.

use std::io::Write;

use super::super::exit::Exit;
use super::reply::{Reply, rows, unsupported};

pub fn print(reply: &Reply, output: &mut dyn Write) -> Result<(), Exit> {
    let (head, rows) = rows(reply).ok_or_else(|| unsupported("table"))?;
    output.write_all(draw(&head, &rows).as_bytes())?;
    Ok(())
}

/// A table of rows that have a cell for every title of the head.
pub fn draw(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|title| title.to_uppercase().replace('_', " ")).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();

    let mut text = rule(&widths, '┌', '┬', '┐');
    text.push_str(&line(&head, &widths, |cell, width| format!("{cell:^width$}")));
    text.push_str(&rule(&widths, '├', '┼', '┤'));
    for row in rows {
        text.push_str(&line(row, &widths, |cell, width| format!("{cell:>width$}")));
    }
    text.push_str(&rule(&widths, '└', '┴', '┘'));
    text
}

fn rule(widths: &[usize], left: char, middle: char, right: char) -> String {
    let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
    format!("{left}{}{right}\n", bars.join(&middle.to_string()))
}

fn line(cells: &[String], widths: &[usize], align: impl Fn(&str, usize) -> String) -> String {
    let cells: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| align(cell, *width)).collect();
    format!("│ {} │\n", cells.join(" │ "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_centred_and_cells_to_the_right() {
        let text = draw(&["a_b", "c"], &[vec!["1".into(), "long".into()]]);
        assert_eq!(text, "┌─────┬──────┐\n│ A B │  C   │\n├─────┼──────┤\n│   1 │ long │\n└─────┴──────┘\n");
    }
}
