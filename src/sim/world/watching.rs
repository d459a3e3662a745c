//! Clients that watch: some slowly, some over changing members, from where they were.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::Rng;

use super::{
    World,
    state::{Event, Task, Watching},
};
use crate::{
    proto::etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType},
    sim::{checkers::watch::Watched, story::Kind},
    watch::{NO_WATCHER, Response, ResponseKind, StreamKey},
};

/// How long a client stays away that has closed its stream.
const AWAY_US_MAX: u64 = 3_000_000;

impl World {
    pub(super) fn new_watching(&mut self) -> Watching {
        let count = self.chance.clients.random_range(1..4);
        let watched: Vec<Watched> = (0..count).map(|_| self.any_watched()).collect();
        Watching {
            stream: None,
            ids: vec![None; watched.len()],
            watched,
            asked: VecDeque::new(),
            is_sending: false,
            away_until_us: 0,
        }
    }

    fn any_watched(&mut self) -> Watched {
        let newest = self.journal.newest();
        let random = &mut self.chance.clients;
        let (key, end): (Bytes, Bytes) = match random.random_range(0..5) {
            0 => ("k2".into(), Bytes::new()),
            1 => ("r".into(), "s".into()),
            2 => ("lease/".into(), "lease0".into()),
            3 => (vec![0].into(), vec![0].into()),
            _ => ("k".into(), "k5".into()),
        };
        Watched {
            key,
            end,
            previous: random.random(),
            no_put: random.random_range(0..5) == 0,
            no_delete: random.random_range(0..5) == 0,
            start: if random.random() { 0 } else { random.random_range(1..newest + 60) },
            reached: None,
        }
    }

    fn watching(&mut self, client: usize) -> &mut Watching {
        match &mut self.clients[client].task {
            Task::Watcher(watching) => watching,
            _ => unreachable!("only watchers watch"),
        }
    }

    pub(super) fn watch(&mut self, client: usize) -> Result<(), String> {
        let stream = self.watching(client).stream;
        let is_open = stream.is_some_and(|(member, epoch, _)| self.running(member, epoch).is_some());
        match stream {
            Some(_) if !is_open => {
                self.watching(client).stream = None;
                Ok(())
            }
            Some((member, ..)) if self.machines[&member].paused_until_us > self.now_us => Ok(()),
            Some((member, epoch, stream)) => match self.chance.clients.random_range(0..40) {
                0 if !self.is_quiet => self.hang_up(client, member, stream),
                1 => self.request_progress(member, stream),
                2 => self.tick_watchers(member, stream),
                // A client that takes its time.
                3..12 if !self.is_quiet => Ok(()),
                _ => self.take_responses(client, member, epoch, stream),
            },
            None if self.now_us < self.watching(client).away_until_us && !self.is_quiet => Ok(()),
            None => self.connect(client),
        }
    }

    fn connect(&mut self, client: usize) -> Result<(), String> {
        let Some((member, epoch)) = self.any_running() else { return Ok(()) };
        let view = self.machines[&member].member.view().expect("it runs");
        let requests: Vec<WatchCreateRequest> = self.watching(client).watched.iter().map(request).collect();
        let hub = &mut self.machine(member).front.hub;
        let stream = hub.open();
        for request in &requests {
            hub.create(stream, request, &view.kv);
        }
        let watching = self.watching(client);
        watching.stream = Some((member, epoch, stream));
        watching.ids = vec![None; requests.len()];
        watching.asked = (0..requests.len()).collect();
        watching.is_sending = false;
        self.note(Kind::Client, format!("client {client} watches at member {member}"));
        self.read_soon(member);
        Ok(())
    }

    fn hang_up(&mut self, client: usize, member: u64, stream: StreamKey) -> Result<(), String> {
        self.machine(member).front.hub.close(stream);
        let away_until_us = self.now_us + self.chance.clients.random_range(0..AWAY_US_MAX);
        match self.chance.clients.random_range(0..4) {
            // It does not want the rest, and watches something else from now on.
            0 => *self.watching(client) = self.new_watching(),
            // It misses what happens meanwhile, and a compaction may remove that.
            1 => self.watching(client).away_until_us = away_until_us,
            _ => {}
        }
        self.watching(client).stream = None;
        Ok(())
    }

    fn request_progress(&mut self, member: u64, stream: StreamKey) -> Result<(), String> {
        let revision = self.machines[&member].member.view().expect("it runs").kv.revision();
        self.machine(member).front.hub.request_progress(stream, revision);
        Ok(())
    }

    fn tick_watchers(&mut self, member: u64, stream: StreamKey) -> Result<(), String> {
        let revision = self.machines[&member].member.view().expect("it runs").kv.revision();
        self.machine(member).front.hub.tick(stream, revision);
        Ok(())
    }

    fn take_responses(&mut self, client: usize, member: u64, epoch: u64, stream: StreamKey) -> Result<(), String> {
        if self.watching(client).is_sending {
            return Ok(());
        }
        let hub = &mut self.machine(member).front.hub;
        hub.take_ready();
        let responses = hub.take(stream);
        if responses.is_empty() {
            return Ok(());
        }
        self.watching(client).is_sending = true;
        self.soon(20_000, Event::Taken { client, member, epoch, stream });
        for response in responses {
            self.on_response(client, &response).map_err(|what| format!("watching at member {member}: {what}"))?;
        }
        Ok(())
    }

    pub(super) fn on_taken(&mut self, client: usize, member: u64, epoch: u64, stream: StreamKey) -> Result<(), String> {
        if self.watching(client).stream == Some((member, epoch, stream)) && self.running(member, epoch).is_some() {
            self.watching(client).is_sending = false;
            self.machine(member).front.hub.taken(stream);
            self.read_soon(member);
        }
        Ok(())
    }

    fn on_response(&mut self, client: usize, response: &Response) -> Result<(), String> {
        let Task::Watcher(watching) = &mut self.clients[client].task else { unreachable!("only watchers watch") };
        let of_id = |watching: &Watching| watching.ids.iter().position(|id| *id == Some(response.watch_id));
        match &response.kind {
            ResponseKind::Created => {
                let at = watching.asked.pop_front().ok_or("a creation is answered that nobody asked for")?;
                watching.ids[at] = Some(response.watch_id);
                watching.watched[at].on_created(response.revision);
            }
            ResponseKind::Refused(reason) => return Err(format!("a watcher is refused: {reason}")),
            ResponseKind::Events { body, .. } => {
                let at = of_id(watching).ok_or("events come for no watcher")?;
                let count = watching.watched[at].on_events(&self.journal, body.clone())?;
                self.counts.watch_events += count as u64;
            }
            ResponseKind::Progress => {
                let is_all = response.watch_id == NO_WATCHER;
                for (id, watched) in watching.ids.iter().zip(&mut watching.watched) {
                    if is_all && id.is_some() || *id == Some(response.watch_id) {
                        watched.on_progress(&self.journal, response.revision)?;
                    }
                }
            }
            ResponseKind::Canceled | ResponseKind::Revoked(_) => {
                return Err("a watcher is canceled that nobody canceled".to_owned());
            }
            ResponseKind::Compacted { compact_revision } => {
                let at = of_id(watching).ok_or("a compaction ends no watcher")?;
                watching.watched[at].on_compacted(*compact_revision)?;
                watching.ids[at] = None;
                self.counts.watch_ends += 1;
                // The client opens a new stream for what is left.
                if let Some((member, _, stream)) = watching.stream.take() {
                    self.machine(member).front.hub.close(stream);
                }
            }
        }
        Ok(())
    }

    // Changes and history.

    pub(super) fn on_changes(&mut self, member: u64, epoch: u64) -> Result<(), String> {
        let Some(machine) = self.running(member, epoch) else { return Ok(()) };
        let view = machine.member.view().expect("it runs");
        match machine.front.batches.pop_front() {
            Some(Some(batch)) => machine.front.hub.on_batch(&batch, &view.kv).map_err(|error| format!("{error:?}"))?,
            Some(None) => machine.front.hub.on_lost(),
            None => {}
        }
        self.read_soon(member);
        Ok(())
    }

    fn read_soon(&mut self, member: u64) {
        let machine = self.machine(member);
        let epoch = machine.member.epoch;
        if machine.front.hub.has_work() && !std::mem::replace(&mut machine.front.is_reading, true) {
            self.soon(1_000, Event::Read { member, epoch });
        }
    }

    pub(super) fn read_history(&mut self, member: u64, epoch: u64) -> Result<(), String> {
        let Some(machine) = self.running(member, epoch) else { return Ok(()) };
        let view = machine.member.view().expect("it runs");
        let front = &mut machine.front;
        front.is_reading = false;
        front.hub.read_gap(&view.kv).map_err(|error| format!("{error:?}"))?;
        if let Some(stream) = front.hub.next_reader() {
            front.hub.read(stream, &view.kv).map_err(|error| format!("{error:?}"))?;
        }
        self.read_soon(member);
        Ok(())
    }

    /// Whether every watcher has had all events.
    pub(super) fn watchers_have_all(&self) -> Result<bool, String> {
        let newest = self.journal.newest();
        for client in &self.clients {
            let Task::Watcher(watching) = &client.task else { continue };
            let is_open = watching.stream.is_some() && watching.ids.iter().all(Option::is_some);
            if !is_open
                || watching.watched.iter().any(|watched| watched.check_nothing_between(&self.journal, newest).is_err())
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn request(watched: &Watched) -> WatchCreateRequest {
    let mut filters = Vec::new();
    filters.extend(watched.no_put.then_some(FilterType::Noput as i32));
    filters.extend(watched.no_delete.then_some(FilterType::Nodelete as i32));
    WatchCreateRequest {
        key: watched.key.clone(),
        range_end: watched.end.clone(),
        start_revision: watched.next(),
        prev_kv: watched.previous,
        progress_notify: true,
        filters,
        ..WatchCreateRequest::default()
    }
}
