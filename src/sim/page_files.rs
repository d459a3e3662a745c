//! A page file on a simulated disk, in place of the shell: commits are carried out one write or sync at a time, so that the power can
//! fail between any two. Tests of the modules that stand on the page file use it, too.
//!
//! | state | moves on by |
//! |---|---|
//! | idle | `queue`: a commit, or a shorter file |
//! | steps wait | `step`, until the last one: committed |

use std::collections::VecDeque;

use super::disk::{Disk, DiskError, FileId};
use crate::pagefile::{Commit, MemoryImage, OpenError, PageFile, PageWrite};

/// An open page file.
pub struct PageDisk {
    file: FileId,
    image: MemoryImage,
    steps: VecDeque<Step>,
}

/// One step of a commit.
enum Step {
    Length(u64),
    Write(PageWrite),
    Sync,
    Committed,
}

/// Why a page file does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    File(#[from] OpenError),
}

/// Makes an empty page file under this name, if there is none. It appears whole or not at all.
///
/// # Errors
/// Of the disk.
pub fn create(disk: &mut Disk, name: &str) -> Result<(), DiskError> {
    if disk.open(name).is_ok() {
        return Ok(());
    }
    let temporary = format!("{name}.new");
    let file = disk.create(&temporary)?;
    disk.write(file, 0, &PageFile::image_of_new_file(4096))?;
    disk.sync(file)?;
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}

impl PageDisk {
    /// Opens the file as the disk shows it, in an image that can grow to `reserved` bytes. What it shows is durable first, as in the shell.
    ///
    /// # Errors
    /// Of the disk, or the file is none.
    pub fn open(disk: &mut Disk, name: &str, reserved: usize) -> Result<(Self, PageFile), OpenFailure> {
        let file = disk.open(name)?;
        disk.sync_what_waits(file)?;
        let length = disk.length(file)?;
        let image = MemoryImage::new(disk.read(file, 0, length as usize)?, reserved);
        let page_file = PageFile::open(image.map(), length)?;
        Ok((Self { file, image, steps: VecDeque::new() }, page_file))
    }

    /// A commit is to be carried out.
    pub fn queue(&mut self, commit: Commit) {
        if let Some(length) = commit.grow_to {
            self.steps.extend([Step::Length(length), Step::Sync]);
        }
        self.steps.extend(commit.pages.into_iter().map(Step::Write));
        self.steps.extend([Step::Sync, Step::Write(commit.meta), Step::Sync, Step::Committed]);
    }

    /// The file is to be cut.
    pub fn queue_cut(&mut self, length: u64) {
        self.steps.push_back(Step::Length(length));
    }

    /// Whether steps wait.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Does the next step. True: a commit is durable.
    ///
    /// # Errors
    /// Of the disk. After `NoSpace` the step can be tried again.
    pub fn step(&mut self, disk: &mut Disk) -> Result<bool, DiskError> {
        match self.steps.front() {
            None => return Ok(false),
            Some(Step::Length(length)) => disk.set_length(self.file, *length)?,
            Some(Step::Write(write)) => {
                disk.write(self.file, write.offset(), write.bytes())?;
                self.image.write(write);
            }
            Some(Step::Sync) => disk.sync(self.file)?,
            Some(Step::Committed) => {
                self.steps.pop_front();
                return Ok(true);
            }
        }
        self.steps.pop_front();
        Ok(false)
    }

    /// Does all steps that wait.
    ///
    /// # Errors
    /// Of the disk.
    pub fn finish(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        while self.has_work() {
            self.step(disk)?;
        }
        Ok(())
    }
}

/// A disk with nothing but a page file: what tests of single modules stand on.
pub struct LonePageFile {
    disk: Disk,
    pages: PageDisk,
    reserved: usize,
}

const LONE_NAME: &str = "db";

impl LonePageFile {
    /// A disk with this content, which is durable.
    ///
    /// # Errors
    /// It is no page file.
    pub fn new(content: &[u8], reserved: usize) -> Result<(Self, PageFile), OpenFailure> {
        let mut disk = Disk::new(0);
        let file = disk.create(LONE_NAME)?;
        disk.write(file, 0, content)?;
        disk.sync(file)?;
        disk.sync_directory()?;
        Self::open(disk, reserved)
    }

    fn open(mut disk: Disk, reserved: usize) -> Result<(Self, PageFile), OpenFailure> {
        let (pages, file) = PageDisk::open(&mut disk, LONE_NAME, reserved)?;
        Ok((Self { disk, pages, reserved }, file))
    }

    /// Carries out a commit, with its syncs.
    ///
    /// # Errors
    /// Of the disk.
    pub fn carry_out(&mut self, commit: Commit) -> Result<(), DiskError> {
        self.pages.queue(commit);
        self.pages.finish(&mut self.disk)
    }

    /// What a start after a power cut finds.
    ///
    /// # Errors
    /// It is no page file.
    pub fn after_power_cut(&self) -> Result<(Self, PageFile), OpenFailure> {
        let mut disk = self.disk.clone();
        disk.power_cut();
        Self::open(disk, self.reserved)
    }
}
