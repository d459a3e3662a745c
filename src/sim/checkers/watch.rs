//! One watcher over all the streams that a client opens for it, one after the other.

use bytes::Bytes;
use prost::Message as _;

use super::journal::{Journal, is_inside};
use crate::proto::{
    etcdserverpb::WatchResponse,
    mvccpb::{Event, KeyValue, event::EventType},
};

/// What a client watches, and how far it has come.
#[derive(Clone, Debug)]
pub struct Watched {
    pub key: Bytes,
    pub end: Bytes,
    pub previous: bool,
    pub no_put: bool,
    pub no_delete: bool,
    /// The revision it was created with; 0: from the next on.
    pub start: i64,
    /// It has every event up to this revision; unknown until the answer to a creation without a start.
    pub reached: Option<i64>,
}

impl Watched {
    fn wants(&self, key: &[u8], is_put: bool) -> bool {
        is_inside(key, &self.key, &self.end) && !(if is_put { self.no_put } else { self.no_delete })
    }

    /// The revision that a new stream has to begin at.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.reached.map_or(self.start, |reached| reached + 1)
    }

    /// The watcher was created; the answer has the revision of the store.
    pub fn on_created(&mut self, revision: i64) {
        if self.reached.is_none() {
            self.reached = Some(if self.start == 0 { revision } else { self.start - 1 });
        }
    }

    /// Events have come, as the field of the response.
    ///
    /// # Errors
    /// Some are missing, not wanted, out of order, or not as the journal has them.
    pub fn on_events(&mut self, journal: &Journal, body: Bytes) -> Result<usize, String> {
        let events = WatchResponse::decode(body).map_err(|error| error.to_string())?.events;
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for events in events.chunk_by(|one, other| revision(one) == revision(other)) {
            self.on_revision(journal, revision(&events[0]), events)?;
        }
        Ok(events.len())
    }

    fn on_revision(&mut self, journal: &Journal, revision: i64, events: &[Event]) -> Result<(), String> {
        let reached = self.reached.ok_or("events come before the creation")?;
        if revision <= reached {
            return Err(format!("{self} gets revision {revision} again, it has had all up to {reached}"));
        }
        self.check_nothing_between(journal, revision - 1)?;
        let changes = journal.changes(revision).iter();
        let wanted: Vec<_> = changes.filter(|(key, value)| self.wants(key, value.is_some())).collect();
        if wanted.len() != events.len() {
            return Err(format!(
                "{self} gets {} events of revision {revision}, and not {}",
                events.len(),
                wanted.len()
            ));
        }
        for (event, (key, value)) in events.iter().zip(wanted) {
            self.check_event(journal, revision, event, key, value.as_ref())?;
        }
        self.reached = Some(revision);
        Ok(())
    }

    fn check_event(
        &self,
        journal: &Journal,
        revision: i64,
        event: &Event,
        key: &Bytes,
        value: Option<&KeyValue>,
    ) -> Result<(), String> {
        let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
        let deleted = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
        if event.r#type() != kind || event.kv.as_ref() != Some(value.unwrap_or(&deleted)) {
            return Err(format!("{self} gets {event:?} for the change of {key:?} at {revision}"));
        }
        let before = journal.at(key, revision - 1);
        match &event.prev_kv {
            Some(shown) if !self.previous || Some(shown) != before => {
                Err(format!("{self} gets the previous {shown:?} at {revision}, and not {before:?}"))
            }
            _ => Ok(()),
        }
    }

    /// All events up to this revision must have come by now.
    ///
    /// # Errors
    /// One is missing.
    pub fn check_nothing_between(&self, journal: &Journal, upto: i64) -> Result<(), String> {
        let Some(reached) = self.reached else { return Ok(()) };
        for (revision, changes) in journal.after(reached).take_while(|(revision, _)| *revision <= upto) {
            if let Some((key, _)) = changes.iter().find(|(key, value)| self.wants(key, value.is_some())) {
                return Err(format!(
                    "{self} has missed {key:?} of revision {revision}; it has had all up to {reached}"
                ));
            }
        }
        Ok(())
    }

    /// A progress response: everything up to this revision was sent.
    ///
    /// # Errors
    /// It was not.
    pub fn on_progress(&mut self, journal: &Journal, revision: i64) -> Result<(), String> {
        self.check_nothing_between(journal, revision)?;
        self.reached = self.reached.map(|reached| reached.max(revision));
        Ok(())
    }

    /// A compaction has ended the watcher. The client watches again from the compacted revision, with a gap.
    ///
    /// # Errors
    /// It had everything that was compacted.
    pub fn on_compacted(&mut self, revision: i64) -> Result<(), String> {
        if self.next() >= revision {
            return Err(format!("{self} is ended by the compaction of {revision}, and needs {} next", self.next()));
        }
        self.reached = Some(revision - 1);
        Ok(())
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the watcher of {}..{} from {}", self.key.escape_ascii(), self.end.escape_ascii(), self.start)
    }
}
