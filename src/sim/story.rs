//! What happened in a run, as lines for people: the newest of each kind are kept.

use std::collections::VecDeque;

/// Kinds of lines. Faults are few, and explain most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something was broken or mended.
    Fault,
    /// A member starts, ends, follows another leader, installs a state.
    Member,
    /// A client asks or is answered.
    Client,
}

#[derive(Debug, Default)]
pub struct Story {
    lines: VecDeque<(u64, Kind, String)>,
}

const LINES_MAX: usize = 4_000;
/// Lines of a client's doings that are printed.
const CLIENT_LINES: usize = 24;
const OTHER_LINES: usize = 36;

impl Story {
    pub fn note(&mut self, now_us: u64, kind: Kind, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((now_us, kind, line));
    }

    /// The newest lines, oldest first.
    #[must_use]
    pub fn tell(&self) -> String {
        let (mut clients, mut others, mut left_out) = (0, 0, 0);
        let mut told = Vec::new();
        for (now_us, kind, line) in self.lines.iter().rev() {
            let (count, most) = match kind {
                Kind::Client => (&mut clients, CLIENT_LINES),
                Kind::Fault | Kind::Member => (&mut others, OTHER_LINES),
            };
            *count += 1;
            if *count > most {
                left_out += 1;
                continue;
            }
            let mark = match kind {
                Kind::Fault => '!',
                Kind::Member => '*',
                Kind::Client => ' ',
            };
            told.push(format!("{:>10.3} s {mark} {line}", *now_us as f64 / 1e6));
        }
        if left_out > 0 {
            told.push(format!("             ({left_out} lines before these)"));
        }
        told.reverse();
        told.join("\n")
    }
}
