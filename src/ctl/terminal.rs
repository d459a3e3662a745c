//! The terminal that passwords are typed on: what is typed there is not shown.

use std::io::{Read, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

/// A terminal on stdin that shows nothing of what is typed, until this is dropped.
pub struct Silence {
    before: Termios,
}

impl Silence {
    /// `None` where stdin is no terminal: nothing is shown there anyway.
    pub fn begin() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing either.
        let _gone = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// A source of lines, and what was read from it.
pub type Line<R> = (R, std::io::Result<Vec<u8>>);

/// One line, read by a thread of its own, so that a signal is heard meanwhile. Nobody waits for a thread that is left behind.
pub async fn read_line<R: Read + Send + 'static>(mut input: R) -> Option<Line<R>> {
    let (sender, line) = oneshot::channel();
    std::thread::spawn(move || {
        let line = line_of(&mut input);
        // The one who asked may have been interrupted.
        let _gone = sender.send((input, line));
    });
    line.await.ok()
}

/// A line with its end, or what there is before the end of the input. Never reads behind the line.
pub fn line_of(input: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    Ok(line)
}
