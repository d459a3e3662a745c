//! A log file that is put aside when it is full: `ringd.log` becomes `ringd-2026-11-30T12-00-00.000.log`, as etcd's log library
//! names it, and later perhaps `.gz`.
//!
//! Old files are removed and compressed by a thread, so that no line waits for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};

use crate::{config::Rotation, os::clock};

const COMPRESSED: &str = ".gz";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A log file with its rotation.
pub struct RotatedFile {
    path: PathBuf,
    rotation: Rotation,
    open: Mutex<Open>,
    /// Each message is one wish to tidy.
    tidy: Sender<()>,
}

struct Open {
    file: File,
    size_bytes: u64,
}

impl RotatedFile {
    /// Opens the file, or puts it aside if it is full already.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path, rotation: &Rotation) -> io::Result<Self> {
        let (tidy, wishes) = channel::<()>();
        let (of_thread, rule) = (path.to_owned(), rotation.clone());
        thread::Builder::new().name("log-rotation".to_owned()).spawn(move || {
            while wishes.recv().is_ok() {
                // There is no log to say it in.
                let _failed = tidy_up(&of_thread, &rule);
            }
        })?;
        let existing = fs::metadata(path).map(|data| data.len()).unwrap_or(0);
        let open = match existing >= rotation.size_bytes_max {
            true => put_aside(path, rotation)?,
            false => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                Open { file, size_bytes: existing }
            }
        };
        let rotated = Self { path: path.to_owned(), rotation: rotation.clone(), open: Mutex::new(open), tidy };
        rotated.ask_to_tidy();
        Ok(rotated)
    }

    /// Writes a line whole, into a new file if it would not fit into this one.
    ///
    /// # Errors
    /// The file system's. The next line is tried again.
    pub fn write(&self, line: &[u8]) -> io::Result<()> {
        // A line that was cut off by a panic is all that may be wrong with the file.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.size_bytes + line.len() as u64 > self.rotation.size_bytes_max {
            *open = put_aside(&self.path, &self.rotation)?;
            self.ask_to_tidy();
        }
        open.file.write_all(line)?;
        open.size_bytes += line.len() as u64;
        Ok(())
    }

    fn ask_to_tidy(&self) {
        // The thread ends with the process only.
        let _thread_has_gone = self.tidy.send(());
    }
}

/// Gives the file its name for later, and begins a new one with its mode and owner.
fn put_aside(path: &Path, rotation: &Rotation) -> io::Result<Open> {
    let before = fs::metadata(path).ok();
    if before.is_some() {
        fs::rename(path, path.with_file_name(aside_name(path, SystemTime::now(), rotation.in_local_time)))?;
    }
    let mode = before.as_ref().map_or(0o600, |data| data.mode() & 0o7777);
    let file = OpenOptions::new().append(true).create(true).mode(mode).open(path)?;
    if let Some(data) = before {
        // Only root may give files away; others own them already.
        let _own = std::os::unix::fs::fchown(&file, Some(data.uid()), Some(data.gid()));
    }
    Ok(Open { file, size_bytes: 0 })
}

/// The parts of a name around its time.
fn around_time(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|extension| format!(".{extension}")).unwrap_or_default();
    (format!("{}-", text(path.file_stem()).unwrap_or_default()), extension)
}

fn aside_name(path: &Path, at: SystemTime, in_local_time: bool) -> String {
    let (prefix, extension) = around_time(path);
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock::Date { year, month, day, hour, minute, second } = clock::date(since.as_secs(), in_local_time);
    let milliseconds = since.subsec_millis();
    format!("{prefix}{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{milliseconds:03}{extension}")
}

/// Whether `text` is a time as [`aside_name`] writes it.
fn is_time(text: &str) -> bool {
    let pattern = "0000-00-00T00-00-00.000";
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, kind)| match kind {
            b'0' => byte.is_ascii_digit(),
            separator => byte == separator,
        })
}

/// Files that were put aside, the newest first, by the times in their names.
fn put_aside_before(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let (prefix, extension) = around_time(path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?.path();
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.strip_suffix(COMPRESSED).filter(|plain| plain.ends_with(&extension)).unwrap_or(&name);
        let time = plain.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&extension));
        if let Some(time) = time.filter(|time| is_time(time)) {
            found.push((time.to_owned(), entry));
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found)
}

/// Removes what is too much or too old, and compresses the rest if asked.
fn tidy_up(path: &Path, rotation: &Rotation) -> io::Result<()> {
    let (prefix, extension) = around_time(path);
    let oldest = (rotation.age_days_max > 0).then(|| {
        let age = DAY.saturating_mul(u32::try_from(rotation.age_days_max).unwrap_or(u32::MAX));
        let name = aside_name(path, SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH), rotation.in_local_time);
        name[prefix.len()..name.len() - extension.len()].to_owned()
    });
    let mut times: Vec<String> = Vec::new();
    for (time, file) in put_aside_before(path)? {
        if times.last() != Some(&time) {
            times.push(time.clone());
        }
        let is_too_much = rotation.backups_max > 0 && times.len() > rotation.backups_max;
        if is_too_much || oldest.as_ref().is_some_and(|oldest| time < *oldest) {
            fs::remove_file(&file)?;
        } else if rotation.compresses && !file.to_string_lossy().ends_with(COMPRESSED) {
            compress(&file)?;
        }
    }
    Ok(())
}

/// The compressed file appears whole or not at all.
fn compress(file: &Path) -> io::Result<()> {
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", file.display()));
    let (unfinished, compressed) = (with(".gz.part"), with(COMPRESSED));
    let mode = fs::metadata(file)?.mode() & 0o7777;
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    let mut encoder = GzEncoder::new(output, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(unfinished, compressed)?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn rotation() -> Rotation {
        Rotation { size_bytes_max: 100, age_days_max: 0, backups_max: 0, in_local_time: false, compresses: false }
    }

    #[test]
    fn names_are_those_of_etcds_library() {
        let at = UNIX_EPOCH + Duration::from_millis(1_000_000_000_007);
        assert_eq!(aside_name(Path::new("/x/ringd.log"), at, false), "ringd-2001-09-09T01-46-40.007.log");
        assert_eq!(aside_name(Path::new("log"), at, false), "log-2001-09-09T01-46-40.007");
    }

    #[test]
    fn full_files_are_put_aside_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ringd.log");
        let file = RotatedFile::open(&path, &rotation()).unwrap();
        let lines: Vec<String> = (0..3).map(|number| format!("{number:0>79}\n")).collect();
        for line in &lines {
            file.write(line.as_bytes()).unwrap();
            // Names differ by the millisecond.
            let last = SystemTime::now();
            while last.elapsed().unwrap() < Duration::from_millis(2) {}
        }
        let aside = put_aside_before(&path).unwrap();
        let texts: Vec<String> = aside.iter().rev().map(|(_, file)| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts, lines[..2]);
        assert_eq!(fs::read_to_string(&path).unwrap(), lines[2]);
        // A file that is there is gone on with.
        drop(file);
        RotatedFile::open(&path, &rotation()).unwrap().write(b"short\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}short\n", lines[2]));
    }

    #[test]
    fn old_files_are_compressed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ringd.log");
        let now = SystemTime::now();
        let aside = |days: u64| {
            let at = now - Duration::from_secs(days * 86_400 + 60);
            directory.path().join(aside_name(&path, at, false))
        };
        for days in 0..5 {
            fs::write(aside(days), days.to_string()).unwrap();
        }
        fs::write(directory.path().join("ringd-other.log"), "not ours").unwrap();
        let names = || {
            let mut names: Vec<PathBuf> =
                fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort_unstable();
            names
        };
        tidy_up(&path, &Rotation { age_days_max: 3, ..rotation() }).unwrap();
        assert_eq!(names().len(), 4);
        tidy_up(&path, &Rotation { backups_max: 2, compresses: true, ..rotation() }).unwrap();
        let gz = |path: PathBuf| PathBuf::from(format!("{}.gz", path.display()));
        assert_eq!(names(), [gz(aside(1)), gz(aside(0)), directory.path().join("ringd-other.log")]);
        let mut text = String::new();
        GzDecoder::new(File::open(gz(aside(1))).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "1");
    }
}
