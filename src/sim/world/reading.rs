//! Clients that hold a view while their member applies more entries. They read it several times and copy its page file piece by piece,
//! as RangeStream and Snapshot do. What they read must not change, and the copy must be a sound page file with the same content.

use bytes::Bytes;
use rand::Rng;

use super::{
    World,
    state::{Reading, Task},
};
use crate::{
    apply::View,
    mvcc::{self, RangeOptions},
    sim::{member, story::Kind},
};

const KEPT_US: std::ops::Range<u64> = 0..3_000_000;
/// Turns of the client in which the copy is made, at most.
const PIECES_MAX: u64 = 12;
/// Every key.
const ALL: Bytes = Bytes::from_static(&[0]);

impl World {
    pub(super) fn read_long(&mut self, client: usize) -> Result<(), String> {
        let Task::Reader(reading) = &mut self.clients[client].task else { unreachable!("only those read for long") };
        let Some(mut reading) = reading.take() else {
            let reading = self.begin_reading();
            self.clients[client].task = Task::Reader(reading);
            return Ok(());
        };
        let machine = &self.machines[&reading.member];
        let lives = machine.member.is_running() && machine.member.epoch == reading.epoch;
        if !lives {
            return Ok(());
        }
        if machine.paused_until_us <= self.now_us {
            self.check_kept(reading.member, &reading.view)?;
            let pages = reading.view.kv.records().pages().clone();
            let total = pages.size_bytes();
            let piece = (total / reading.pieces + 1) as usize;
            pages.copy_image(reading.copy.len() as u64, piece, &mut reading.copy);
            if reading.copy.len() as u64 == total && self.now_us >= reading.until_us {
                return self.check_copy(&reading);
            }
        }
        self.clients[client].task = Task::Reader(Some(reading));
        Ok(())
    }

    fn begin_reading(&mut self) -> Option<Box<Reading>> {
        let (member, epoch) = self.any_running()?;
        let view = self.machines[&member].member.view().expect("it runs");
        let until_us = self.now_us + self.chance.clients.random_range(KEPT_US);
        let pieces = self.chance.clients.random_range(1..=PIECES_MAX);
        self.note(Kind::Client, format!("a reader keeps revision {} of member {member}", view.kv.revision()));
        Some(Box::new(Reading { member, epoch, view, copy: Vec::new(), pieces, until_us }))
    }

    /// A kept view shows the keys of its revision.
    fn check_kept(&self, member: u64, view: &View) -> Result<(), String> {
        let revision = view.kv.revision();
        let everything = RangeOptions { key: ALL, range_end: ALL, ..RangeOptions::default() };
        let found = mvcc::collect(&view.kv, &everything)
            .map_err(|error| format!("a reader of member {member} cannot read revision {revision}: {error}"))?;
        match self.journal.range(&ALL, &ALL, revision).into_iter().eq(&found.kvs) {
            true => Ok(()),
            false => Err(format!("a reader of member {member} sees other keys than those of revision {revision}")),
        }
    }

    /// The copy is a page file, with the state of the view.
    fn check_copy(&mut self, reading: &Reading) -> Result<(), String> {
        let (id, revision) = (reading.member, reading.view.kv.revision());
        let knobs = self.options.knobs;
        let copied = member::view_of_image(id, &knobs, &reading.copy)
            .map_err(|error| format!("a copy of member {id}'s page file at revision {revision}: {error}"))?;
        self.counts.copies += 1;
        if copied.kv.revision() > revision {
            return Err(format!("a copy of member {id} at revision {revision} has {}", copied.kv.revision()));
        }
        self.check_kept(id, &copied)?;
        self.agreement.check_hash(&self.journal, id, &copied, 0)?;
        self.agreement.check_hash(&self.journal, id, &reading.view, 0)
    }
}
