//! Members whose data is damaged: they say so, come back under their old id with `--heal-from-peers`, and what damage inside a value does,
//! which only a comparison of the members can find.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ringd::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, PutRequest, PutResponse, alarm_request::AlarmAction,
};

use crate::{
    cluster::{SNAPSHOTS, SOME},
    harness::{self, cluster::Cluster, grpc::CallError, load::Load, server::Program},
};

const HEAL: &str = "--heal-from-peers";
const HEALED: &str = "healed from the other members";
const KEYS: usize = 50;
const SOUND: &[u8] = b"a-needle-in-a-haystack";
const UNSOUND: &[u8] = b"a-noodle-in-a-haystack";

/// Both meta pages of the page file: the log keeps what it has, and only the state is fetched.
pub fn damaged_database_is_healed() {
    let mut cluster = filled(&[]);
    let hurt = follower(&cluster);
    cluster.stop(hurt);
    flip(&database(&cluster, hurt), 0, 8192);
    refuses(&mut cluster, hurt, "snap/db");
    fill(&cluster, hurt, KEYS);
    heals(&mut cluster, hurt, "with-a-new-log\":false");
    assert_eq!(names(&database(&cluster, hurt), "db.damaged-"), 1, "the damaged file is kept");
    stays_sound(&mut cluster, hurt);
}

/// The same where the others keep so few entries that the state ends after the member's log.
pub fn database_behind_the_others_is_healed() {
    let mut cluster = filled(&SNAPSHOTS);
    let hurt = follower(&cluster);
    cluster.stop(hurt);
    flip(&database(&cluster, hurt), 0, 8192);
    fill(&cluster, hurt, 4 * KEYS);
    heals(&mut cluster, hurt, "with-a-new-log\":false");
    stays_sound(&mut cluster, hurt);
}

/// The head of the log: the member has forgotten its votes, and all others are asked.
pub fn damaged_log_is_healed() {
    let mut cluster = filled(&[]);
    let hurt = follower(&cluster);
    cluster.kill(hurt);
    let log = segment(&cluster, hurt);
    flip(&log, 4096 + 8, 64);
    refuses(&mut cluster, hurt, ".rwal");
    fill(&cluster, hurt, KEYS);
    heals(&mut cluster, hurt, "with-a-new-log\":true");
    assert_eq!(names(&log, "damaged-"), 1, "the damaged log is kept");
    stays_sound(&mut cluster, hurt);
}

/// A member without a log waits for every other voter.
pub fn lost_log_waits_for_all_others() {
    let mut cluster = filled(&[]);
    let (hurt, away) = (follower(&cluster), (cluster.leader() + 2) % 3);
    cluster.kill(hurt);
    flip(&segment(&cluster, hurt), 0, 512);
    flip(&database(&cluster, hurt), 0, 8192);
    cluster.kill(away);
    cluster.set_flags(hurt, &[HEAL]);
    cluster.spawn(hurt);
    cluster.until("it asks", || cluster.has_logged(hurt, "the other members are needed to heal this one"));
    assert!(!cluster.has_logged(hurt, HEALED));
    cluster.spawn(away);
    cluster.wait_until_ready(away);
    let id = cluster.id(hurt);
    cluster.wait_until_ready(hurt);
    assert!(cluster.has_logged(hurt, HEALED));
    assert_eq!(cluster.id(hurt), id, "the old id");
    stays_sound(&mut cluster, hurt);
}

/// A disk that is gone, whatever state of the cluster the flags name.
pub fn emptied_member_is_healed() {
    let mut cluster = filled(&[]);
    for state in ["new", "existing"] {
        let hurt = follower(&cluster);
        cluster.kill(hurt);
        cluster.lose_disk(hurt);
        let id = cluster.id(hurt);
        cluster.set_flags(hurt, &["--initial-cluster-state", state]);
        let log = cluster.ends(hurt);
        assert!(log.contains(HEAL), "{state}: {log}");
        cluster.set_flags(hurt, &["--initial-cluster-state", state, HEAL]);
        cluster.restart(hurt);
        assert!(cluster.has_logged(hurt, HEALED), "{state}");
        assert_eq!(cluster.id(hurt), id, "{state}: the old id");
        stays_sound(&mut cluster, hurt);
    }
}

/// Under load, and with a leader that fails as soon as the member is back: nothing acknowledged is lost.
pub fn history_survives_healing() {
    let mut cluster = Cluster::start(&[Program::Ringd; 3], &SNAPSHOTS);
    let load = Load::start(&cluster, harness::seed("healing::history_survives_healing", 1));
    load.wait_for_writes(SOME);
    for damage in [segment as fn(&Cluster, usize) -> PathBuf, database] {
        let hurt = follower(&cluster);
        cluster.kill(hurt);
        flip(&damage(&cluster, hurt), 0, 8192);
        load.wait_for_writes(SOME);
        cluster.set_flags(hurt, &[HEAL]);
        cluster.restart(hurt);
        let leader = cluster.leader();
        cluster.kill(leader);
        load.wait_for_writes(SOME);
        cluster.restart(leader);
        load.wait_for_writes(SOME);
    }
    load.judge(&cluster);
}

/// Another value in the page file: a member that compares itself with the others at its start refuses, as etcd's does.
pub fn other_value_is_found_at_start() {
    for program in [Program::Ringd, Program::Etcd] {
        let mut cluster = filled_by(program, &["--feature-gates", "InitialCorruptCheck=true"]);
        let hurt = with_other_value(&mut cluster);
        let log = cluster.ends(hurt);
        assert!(log.contains("found data inconsistency with peers"), "{program:?}: {log}");
        if program == Program::Ringd {
            assert!(log.contains(HEAL), "{log}");
            heals(&mut cluster, hurt, "with-a-new-log\":false");
            stays_sound(&mut cluster, hurt);
        }
    }
}

/// The same while it runs: the leader raises the alarm for it, and nobody writes any more, as in etcd.
pub fn other_value_is_found_in_time() {
    for program in [Program::Ringd, Program::Etcd] {
        let mut cluster = filled_by(program, &["--corrupt-check-time", "500ms"]);
        let hurt = with_other_value(&mut cluster);
        cluster.restart(hurt);
        let leader = cluster.leader();
        let id = cluster.id(hurt);
        let raised = AlarmMember { member_id: id, alarm: AlarmType::Corrupt as i32 };
        cluster.until("the alarm", || alarms(&cluster, leader) == [raised]);
        let request = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        let refused = cluster.try_ask::<_, PutResponse>(leader, "KV/Put", &request);
        match refused {
            Err(CallError::Refused(refusal)) => {
                assert_eq!(refusal.message, "etcdserver: corrupt cluster", "{program:?}")
            }
            other => panic!("{program:?}: {other:?}"),
        }
    }
}

fn filled(flags: &[&str]) -> Cluster {
    filled_by(Program::Ringd, flags)
}

fn filled_by(program: Program, flags: &[&str]) -> Cluster {
    let cluster = Cluster::start(&[program; 3], flags);
    fill(&cluster, 3, KEYS);
    cluster
}

/// Writes through every member but one.
fn fill(cluster: &Cluster, but: usize, count: usize) {
    let members: Vec<usize> = cluster.running().into_iter().filter(|&at| at != but).collect();
    for number in 0..count {
        let value = if number == 7 { Bytes::from_static(SOUND) } else { format!("value{number}").into() };
        let request = PutRequest { key: format!("key{number}").into(), value, ..PutRequest::default() };
        let _: PutResponse = cluster.ask(members[number % members.len()], "KV/Put", &request);
    }
}

fn follower(cluster: &Cluster) -> usize {
    (cluster.leader() + 1) % 3
}

/// It does not start, names what is damaged, and says what helps.
fn refuses(cluster: &mut Cluster, hurt: usize, damaged: &str) {
    let log = cluster.ends(hurt);
    assert!(log.contains(damaged) && log.contains(HEAL) && !log.contains("panicked"), "{log}");
}

/// With the flag it starts, under its old id.
fn heals(cluster: &mut Cluster, hurt: usize, how: &str) {
    let id = cluster.id(hurt);
    cluster.set_flags(hurt, &[HEAL]);
    cluster.restart(hurt);
    assert_eq!(cluster.lines_with(hurt, &[HEALED, how]), 1, "it is healed another way");
    assert_eq!(cluster.id(hurt), id, "the old id");
}

/// It has what the others have, also after a restart without the flag, and when it is needed for a quorum.
fn stays_sound(cluster: &mut Cluster, healed: usize) {
    cluster.assert_hashes_agree();
    cluster.stop(healed);
    cluster.set_flags(healed, &[]);
    cluster.restart(healed);
    assert!(!cluster.has_logged(healed, HEALED));
    let other = (healed + 1) % 3;
    cluster.kill(other);
    fill(cluster, other, 3);
    cluster.restart(other);
    cluster.assert_hashes_agree();
}

/// Stops a follower and changes a value in its page file.
fn with_other_value(cluster: &mut Cluster) -> usize {
    let hurt = follower(cluster);
    cluster.read(hurt, "health");
    cluster.stop(hurt);
    let path = database(cluster, hurt);
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - SOUND.len()).filter(|&at| bytes[at..].starts_with(SOUND)).collect();
    assert!(!places.is_empty(), "the value is in the page file");
    for at in places {
        bytes[at..at + UNSOUND.len()].copy_from_slice(UNSOUND);
    }
    fs::write(path, bytes).unwrap();
    hurt
}

fn alarms(cluster: &Cluster, at: usize) -> Vec<AlarmMember> {
    let request = AlarmRequest { action: AlarmAction::Get as i32, ..AlarmRequest::default() };
    let response: AlarmResponse = cluster.ask(at, "Maintenance/Alarm", &request);
    response.alarms
}

fn database(cluster: &Cluster, at: usize) -> PathBuf {
    cluster.data(at).join("member/snap/db")
}

/// The first segment of a member's log.
fn segment(cluster: &Cluster, at: usize) -> PathBuf {
    let entries = fs::read_dir(cluster.data(at).join("member/wal")).unwrap().map(|entry| entry.unwrap().path());
    let segments = entries.filter(|path| path.extension().is_some_and(|extension| extension == "rwal"));
    segments.min().expect("a log has a segment")
}

fn flip(path: &Path, offset: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset..offset + length].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(path, bytes).unwrap();
}

/// How many names beside a path begin like this.
fn names(path: &Path, prefix: &str) -> usize {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(prefix)).count()
}
