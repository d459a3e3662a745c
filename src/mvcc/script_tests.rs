//! Scripts about the key space: writes, reads at revisions, and compactions.

use std::error::Error;
use std::fmt::Write as _;

use super::{
    Change, ChangeKind, CompactStep, KeyRange, RangeOptions, RecordFields, RecordScan, Restore, Revision, Store,
    collect, test_disk::Disk,
};
use crate::base::script_tests;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::mvccpb::KeyValue;

#[derive(goldenscript::Command)]
enum Command {
    /// Writes keys, all in one transaction. Example: put a=1 b=2
    Put(Vec<(String, String)>),
    /// Deletes a key, or a range [key, end). Example: delete a c
    Delete { key: String, end: Option<String> },
    /// Puts one key twice and deletes another, all in one transaction. Example: rewrite a b
    Rewrite { twice: String, deleted: String },
    /// Reads a key, or a range. Example: range a c rev=3 limit=2 sort=descend by=mod
    Range {
        key: String,
        end: Option<String>,
        #[arg(key)]
        rev: Option<i64>,
        #[arg(key)]
        limit: Option<i64>,
        #[arg(key)]
        sort: Option<String>,
        #[arg(key)]
        by: Option<String>,
        #[arg(key)]
        show: Option<String>,
        #[arg(key)]
        min_mod: Option<i64>,
        #[arg(key)]
        max_create: Option<i64>,
    },
    /// Begins a compaction: reads below the revision are refused from now on.
    Compact(i64),
    /// Carries compactions out to their end, with the commits of the page file that they wait for, and one at the end.
    CompactToEnd,
    /// Shows every record in the database.
    Records,
    /// Commits everything to the page file and starts again from it.
    Restart,
}

#[derive(Default)]
struct KeySpace {
    store: Store,
    disk: Disk,
}

impl goldenscript::Runner for KeySpace {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Put(pairs) => {
                let mut txn = self.store.write(&mut self.disk.backend);
                for (key, value) in pairs {
                    txn.put(key.as_bytes(), value.as_bytes(), 0, false)?;
                }
                let committed = txn.end();
                Ok(show_changes(committed.revision, &committed.changes))
            }
            Command::Delete { key, end } => {
                let mut txn = self.store.write(&mut self.disk.backend);
                txn.delete_range(KeyRange::new(key.as_bytes(), end.as_deref().unwrap_or_default().as_bytes()), false)?;
                let committed = txn.end();
                Ok(show_changes(committed.revision, &committed.changes))
            }
            Command::Rewrite { twice, deleted } => {
                let mut txn = self.store.write(&mut self.disk.backend);
                txn.put(twice.as_bytes(), b"first", 0, false)?;
                txn.delete_range(KeyRange::Single(deleted.as_bytes()), false)?;
                txn.put(twice.as_bytes(), b"second", 0, false)?;
                let committed = txn.end();
                Ok(show_changes(committed.revision, &committed.changes))
            }
            Command::Range { .. } => self.range(command),
            Command::Compact(revision) => {
                self.store.compact_begin(&mut self.disk.backend, *revision)?;
                Ok(format!("compact revision {}", self.store.compact_revision()))
            }
            Command::CompactToEnd => self.compact_to_end(),
            Command::Records => self.records(),
            Command::Restart => self.restart(),
        }
    }
}

impl KeySpace {
    fn range(&self, command: &Command) -> Result<String, Box<dyn Error>> {
        let Command::Range { key, end, rev, limit, sort, by, show, min_mod, max_create } = command else {
            unreachable!("only called for a range");
        };
        let options = RangeOptions {
            key: key.clone().into(),
            range_end: end.clone().unwrap_or_default().into(),
            revision: rev.unwrap_or(0),
            limit: limit.unwrap_or(0),
            sort_order: match sort.as_deref() {
                None => SortOrder::None,
                Some("ascend") => SortOrder::Ascend,
                Some("descend") => SortOrder::Descend,
                Some(other) => return Err(format!("no such order: {other}").into()),
            },
            sort_target: match by.as_deref() {
                None | Some("key") => SortTarget::Key,
                Some("version") => SortTarget::Version,
                Some("create") => SortTarget::Create,
                Some("mod") => SortTarget::Mod,
                Some("value") => SortTarget::Value,
                Some(other) => return Err(format!("no such target: {other}").into()),
            },
            keys_only: show.as_deref() == Some("keys"),
            count_only: show.as_deref() == Some("count"),
            min_mod_revision: min_mod.unwrap_or(0),
            max_create_revision: max_create.unwrap_or(0),
            ..RangeOptions::default()
        };
        let found = collect(&self.store.view(&self.disk.backend), &options)?;
        let mut output: String = found.kvs.iter().map(|kv| show_key_value(kv) + "\n").collect();
        let more = if found.more { ", more" } else { "" };
        let _ = write!(output, "{} in the range{more}; store at revision {}", found.count, found.revision);
        Ok(output)
    }

    fn compact_to_end(&mut self) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        loop {
            match self.store.compact_step(&mut self.disk.backend, 1000)? {
                CompactStep::Idle => {
                    self.disk.commit();
                    return Ok(output);
                }
                CompactStep::Indexing | CompactStep::Working => {}
                CompactStep::AwaitsCommit => self.disk.commit(),
                CompactStep::Finished(report) => {
                    let (revision, deleted) = (report.revision, report.records_deleted);
                    let _ = writeln!(output, "compacted at {revision}: {deleted} records deleted");
                }
            }
        }
    }

    fn records(&self) -> Result<String, Box<dyn Error>> {
        let view = self.store.view(&self.disk.backend);
        let mut output = String::new();
        let mut scan = RecordScan::new(Revision::default(), self.store.revision());
        let mut show = |stored: super::StoredRecord<'_>| {
            let fields = RecordFields::of(stored.record, stored.revision)?;
            let key = String::from_utf8_lossy(fields.key);
            let _ = match stored.tombstone {
                true => writeln!(output, "{}: {key} deleted", stored.revision),
                false => writeln!(output, "{}: {key}={}", stored.revision, String::from_utf8_lossy(fields.value)),
            };
            Ok(())
        };
        while !scan.step(view.records(), 1000, &mut show)? {}
        Ok(output)
    }

    fn restart(&mut self) -> Result<String, Box<dyn Error>> {
        self.disk.commit();
        self.disk = self.disk.reopened();
        let mut restore = Restore::new(self.disk.backend.view())?;
        while !restore.step(1000)? {}
        (self.store, _) = restore.finish(&mut self.disk.backend)?;
        let (revision, compact) = (self.store.revision(), self.store.compact_revision());
        Ok(format!("revision {revision}, compact revision {compact}"))
    }
}

fn show_changes(revision: i64, changes: &[Change]) -> String {
    let mut output = format!("revision {revision}");
    for change in changes {
        let key = String::from_utf8_lossy(&change.key);
        let _ = match change.kind {
            ChangeKind::Put => write!(output, "\n{}: put {key}", change.revision),
            ChangeKind::Delete => write!(output, "\n{}: delete {key}", change.revision),
        };
    }
    output
}

fn show_key_value(kv: &KeyValue) -> String {
    format!(
        "{}={} (create {} mod {} version {})",
        String::from_utf8_lossy(&kv.key),
        String::from_utf8_lossy(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}

#[test]
fn scripts() {
    script_tests::run("mvcc", KeySpace::default);
}
