//! The terminal without echo, for passwords.

use std::io::{Read, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

/// Switches off the echo of the terminal on stdin until it is dropped.
pub struct Silence {
    before: Termios,
}

impl Silence {
    /// `None` if stdin is no terminal, which has no echo.
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
        // Fails only if the terminal is closed.
        let _gone = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// A source of lines, and a line read from it.
pub type Line<R> = (R, std::io::Result<Vec<u8>>);

/// One line, read by a thread of its own, so that a signal is handled meanwhile. After an interrupt the thread is not awaited.
pub async fn read_line<R: Read + Send + 'static>(mut input: R) -> Option<Line<R>> {
    let (sender, line) = oneshot::channel();
    std::thread::spawn(move || {
        let line = line_of(&mut input);
        // The receiver is gone if the wait was interrupted.
        let _gone = sender.send((input, line));
    });
    line.await.ok()
}

/// A line with its end, or the rest of the input. Reads no byte after the line.
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
