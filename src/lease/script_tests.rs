//! Scripts about leases: grants, renewals, attached keys, expiry and changes of leader.

use std::error::Error;
use std::fmt::Write as _;

use super::{Lessor, Renewal, Terms};
use crate::base::script_tests;
use crate::mvcc::{KeyRange, Store, test_disk::Disk};
use crate::proto::leasepb;

#[derive(goldenscript::Command)]
enum Command {
    /// Grants a lease. Example: grant 7 10
    Grant { id: i64, ttl: i64 },
    /// Renews a lease.
    Renew(i64),
    /// Puts a key, attached to a lease; 0 is none. Example: put a 7
    Put { key: String, lease: i64 },
    /// Deletes a key.
    Delete(String),
    /// Revokes a lease: its keys are deleted first.
    Revoke(i64),
    /// Lets seconds pass, with ticks.
    Pass(u64),
    /// Lets seconds pass without a tick, as for a member that is suspended.
    Stall(u64),
    /// This member becomes the leader.
    Promote,
    /// This member no longer leads.
    Demote,
    /// Shows and takes the expired leases.
    Expired,
    /// Checkpoints the remaining TTL of a lease. Example: checkpoint 7 20
    Checkpoint { id: i64, remaining: i64 },
    /// Shows and takes the leases whose checkpoint is to be cleared.
    Outdated,
    /// Another member with the same log: the leases as stored, no deadlines.
    Restart,
    /// Shows all leases.
    List,
}

struct Member {
    lessor: Lessor,
    /// As apply keeps them in the bucket `lease`.
    stored: Vec<leasepb::Lease>,
    store: Store,
    disk: Disk,
    now_ms: u64,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            lessor: Lessor::new(Terms::default()),
            stored: Vec::new(),
            store: Store::default(),
            disk: Disk::default(),
            now_ms: 0,
        }
    }
}

impl goldenscript::Runner for Member {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Grant { id, ttl } => {
                let ttl = self.lessor.grant(*id, *ttl).map_err(|refusal| refusal.text())?;
                self.stored.push(leasepb::Lease { id: *id, ttl, remaining_ttl: 0 });
                Ok(format!("lease {id} granted for {ttl} s"))
            }
            Command::Renew(id) => Ok(match self.lessor.renew(*id) {
                Renewal::Renewed { ttl_s } => format!("renewed for {ttl_s} s"),
                other => format!("not renewed: {other:?}"),
            }),
            Command::Put { key, lease } => {
                let mut txn = self.store.write(&mut self.disk.backend);
                txn.put(key.as_bytes(), b"", *lease, false)?;
                self.lessor.follow(&txn.end().changes);
                Ok(String::new())
            }
            Command::Delete(key) => {
                let mut txn = self.store.write(&mut self.disk.backend);
                txn.delete_range(KeyRange::Single(key.as_bytes()), false)?;
                self.lessor.follow(&txn.end().changes);
                Ok(String::new())
            }
            Command::Revoke(id) => Ok(self.revoke(*id)),
            Command::Pass(seconds) => {
                self.now_ms += seconds * 1000;
                self.lessor.on_time(self.now_ms);
                self.lessor.on_tick();
                self.lessor.on_confirmed(self.now_ms);
                Ok(String::new())
            }
            Command::Stall(seconds) => {
                self.now_ms += seconds * 1000;
                self.lessor.on_time(self.now_ms);
                Ok(String::new())
            }
            Command::Promote => {
                self.lessor.promote();
                Ok(String::new())
            }
            Command::Demote => {
                self.lessor.demote();
                Ok(String::new())
            }
            Command::Expired => Ok(format!("expired {:?}", self.lessor.take_expired(100))),
            Command::Checkpoint { id, remaining } => Ok(self.checkpoint(*id, *remaining)),
            Command::Outdated => Ok(format!("checkpoints to clear {:?}", self.lessor.take_outdated(100))),
            Command::Restart => {
                self.lessor = Lessor::new(Terms::default());
                self.lessor.restore(&self.stored, &[]);
                self.lessor.on_time(self.now_ms);
                self.lessor.on_tick();
                self.lessor.on_confirmed(self.now_ms);
                Ok(String::new())
            }
            Command::List => Ok(self.list()),
        }
    }
}

impl Member {
    /// As apply does it.
    fn revoke(&mut self, id: i64) -> String {
        if !self.lessor.contains(id) {
            return "no such lease".to_owned();
        }
        let mut txn = self.store.write(&mut self.disk.backend);
        let mut deleted = Vec::new();
        while let Some(key) = self.lessor.take_attached(id) {
            if txn.delete_attached(&key, id) {
                deleted.push(String::from_utf8_lossy(&key).into_owned());
            }
        }
        let revision = txn.end().revision;
        self.lessor.end(id);
        self.stored.retain(|lease| lease.id != id);
        format!("revoked, keys deleted at revision {revision}: {deleted:?}")
    }

    fn checkpoint(&mut self, id: i64, remaining: i64) -> String {
        let Some(lease) = self.lessor.checkpoint(id, remaining) else { return "no such lease".to_owned() };
        self.stored.retain(|stored| stored.id != id);
        self.stored.push(lease);
        format!("stored with {} s left of {} s", lease.remaining_ttl, lease.ttl)
    }

    fn list(&self) -> String {
        let mut output = String::new();
        for (_, id) in self.lessor.list(None, 100) {
            let left = self.lessor.time_to_live(id).expect("listed a moment ago");
            let keys: Vec<_> = self.lessor.attachments.of(id).map(String::from_utf8_lossy).collect();
            let time = match self.lessor.is_primary() {
                true => format!("{} s left of {} s", left.remaining_s, left.granted_s),
                false => format!("{} s, no deadline here", left.granted_s),
            };
            let _ = writeln!(output, "lease {id}: {time}, keys {keys:?}");
        }
        if output.is_empty() { "no leases".to_owned() } else { output }
    }
}

#[test]
fn scripts() {
    script_tests::run("lease", Member::default);
}
