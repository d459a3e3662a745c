//! `--heal-from-peers`: a member whose data is damaged gets the state of the others, and comes back under its old id.
//!
//! ```text
//!   the page file does not pass its checks, the log does:
//!       a state from a peer ─▶ the log keeps its entries and its votes ─▶ the old page file aside, the state in its place
//!   the log does not, or is gone:
//!       all other voters are asked ─▶ a state that goes up to the leader's last entry ─▶ old files aside ─▶ a new log
//! ```
//!
//! Nothing is deleted: what is damaged is renamed to `db.damaged-<seconds>` or moved into `damaged-<seconds>/` of the log's directory.
//! A start that is interrupted begins again.
//!
//! # Why this is safe
//!
//! **With its log** a member knows its term, its vote and every entry that it has acknowledged. A state is a prefix of the committed
//! entries, so it may take the place of the page file as a snapshot from the leader would. Entries of the log after it stay, unless the
//! log has another entry at the place where the state ends: then none from there on is committed (Raft, section 7). A state that ends
//! before the log begins is refused.
//!
//! **Without its log** a member M has forgotten what it has promised: its votes, the terms of which it has refused older leaders, and
//! the entries that it has acknowledged. The data directory is locked, so no process that remembers them runs. M begins only once it
//! has learned a term T and a last entry I, both after its start:
//!
//! 1. Every other voter has answered with its term after a confirmed read, and names no voter that was not asked. T is the largest.
//! 2. One of them leads in term T, and I is the last entry of its log.
//! 3. M begins at term T with its vote spent, on a state that goes up to entry I at least.
//!
//! *No term is voted in twice.* M has voted for a candidate A in term t. A was a voter in the configuration, so either it is asked, and
//! T >= t, because terms never fall; or it was removed before, and every voter that answers has applied its removal and takes no
//! vote request of it any more: either one of a quorum had voted for A before, and T >= t, or A never wins t. For itself M can have won only with
//! the vote of another one, which knows the term. So M has taken part in no term beyond T, and votes in none up to T.
//!
//! *No committed entry is forgotten.* Let entry e count, now or later, as committed in term t <= T with an acknowledgement that M has forgotten.
//! For t = T the leader of T has e in its log, since before M's start: e <= I. For t < T, the leader of T was elected by a quorum that shares a member
//! with the one of e; that one is not M in its present life, which has voted for nobody; so the leader has e (leader completeness), and
//! e <= I. The state goes up to I and is committed, so M has e. Its acknowledgements and votes from then on are those of a member that
//! has everything.
//!
//! *No leader is deceived.* The leader of T may still believe that M has entries up to the one that it acknowledged last. All of them
//! are <= I. Leaders of older terms get no answer from M but T. Answers of M's past life that are still on their way were true when they
//! were given, and are about terms up to T.
//!
//! A voter that does not answer is therefore waited for, or removed first (`etcdctl member remove`). An etcd does not answer such questions:
//! beside one, a member without its log is removed and added anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};

use super::{
    bootstrap::{self, BootError, Booted, Part, Place},
    datadir::{DataDir, DataDirError},
};
use crate::{
    base::{
        limits,
        log_entry::{ConfState, HardState},
    },
    cluster::membership::Member,
    config::{Config, FirstStart},
    drive::{installation, log_files},
    os::{
        self, clock,
        file::{FileError, sync_directory},
        net::resolve,
        tls::Secrets,
    },
    peer::{self, Asking, FetchError, client},
    proto::raftpb::SnapshotMetadata,
    services::standing::{STANDING_PATH, StandingAnswer},
    wal::{self, Metadata, SnapshotMarker},
};

/// The advice in the error when a member of a cluster has damaged files.
pub const HINT: &str =
    "start it with --heal-from-peers to move aside what is damaged and get the state from the other members";

/// Why a member does not come up, healed or not.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("{error}; {hint}", hint = HINT)]
    Damaged { error: BootError },
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot heal: {0}")]
    Nobody(String),
    #[error("cannot heal: no other member is known; name them in --initial-cluster")]
    Unknown,
    #[error("cannot heal: no member sent its state: {0}")]
    NotFetched(String),
    #[error("cannot heal: the state of the others ends at entry {index}, before this member's log begins")]
    TooOld { index: u64 },
    #[error("cannot heal: cannot move {path} aside: {source}")]
    Aside { path: PathBuf, source: io::Error },
}

/// What the other members say.
#[derive(Debug, PartialEq, Eq)]
struct Survey {
    identity: Metadata,
    /// The state must go up to this entry.
    index_min: u64,
    /// See the head of this file.
    term: u64,
    /// Who may send its state: the leader last.
    sources: Vec<Member>,
}

/// What a survey still lacks, in words.
type Lack = String;

/// The log, as far as it can be read.
enum OwnLog {
    Sound(Metadata),
    /// Gone, or damaged; its segments may still say whose it was.
    Lost(Option<Metadata>),
}

/// Opens or founds the member of this configuration. With `--heal-from-peers` it is healed first if its data is damaged.
///
/// # Errors
/// The data directory cannot be used, or what is in it is damaged and not healed.
pub(super) async fn boot(config: &Config, secrets: Option<Arc<Secrets>>) -> Result<Booted, HealError> {
    let dir = Rc::new(DataDir::open(&config.data_dir, config.wal_dir.as_deref())?);
    let error = match bootstrap::begin(config, Rc::clone(&dir)).await {
        Ok(booted) => return Ok(booted),
        Err(error) => error,
    };
    let Some(part) = error.damage() else { return Err(error.into()) };
    if !config.heal_from_peers {
        return Err(if config.founding.names_others() { HealError::Damaged { error } } else { error.into() });
    }
    tracing::error!(%error, "the data of this member is damaged; healing it from the other members");
    heal(config, &dir, secrets, part).await?;
    Ok(bootstrap::begin(config, dir).await?)
}

/// Sets aside what is damaged and fetches the state from the other members. A start can follow.
async fn heal(config: &Config, dir: &DataDir, secrets: Option<Arc<Secrets>>, damaged: Part) -> Result<(), HealError> {
    discard_received(dir.snap())?;
    let log = match damaged {
        Part::Log => OwnLog::Lost(remembered(dir)?),
        Part::Database => match bootstrap::replay_again(config, dir, u64::MAX).await {
            Ok(replayed) => OwnLog::Sound(replayed.metadata()),
            Err(error) if error.damage() == Some(Part::Log) => OwnLog::Lost(remembered(dir)?),
            Err(error) => return Err(error.into()),
        },
    };
    let (identity, is_lost) = match log {
        OwnLog::Sound(identity) => (Some(identity), false),
        OwnLog::Lost(identity) => (identity, true),
    };
    let survey = ask_others(config, &seeds(config, dir).await, identity, is_lost).await?;
    let mark = fetch(config, dir, secrets, &survey).await?;
    let stamp = clock::unix_ms() / 1000;
    match is_lost {
        true => begin_anew(config, dir, &survey, &mark, stamp).await?,
        false => mend(config, dir, &mark, stamp).await?,
    }
    tracing::warn!(
        local_member_id = format!("{:x}", survey.identity.member_id),
        cluster_id = format!("{:x}", survey.identity.cluster_id),
        snapshot_index = mark.index(),
        raft_term = survey.term,
        with_a_new_log = is_lost,
        "healed from the other members"
    );
    Ok(())
}

/// Sets the page file aside because the others contradict it. The next start heals it.
///
/// # Errors
/// The kernel's.
pub(super) fn set_aside_database(database: &Path) -> Result<(), HealError> {
    let stamp = clock::unix_ms() / 1000;
    aside(database, &database.with_file_name(format!("db.damaged-{stamp}")))
}

/// The log is sound: the state takes the place of the page file alone.
async fn mend(config: &Config, dir: &DataDir, mark: &SnapshotMetadata, stamp: u64) -> Result<(), HealError> {
    let replayed = bootstrap::replay_again(config, dir, mark.index().saturating_sub(1)).await?;
    match replayed.place_of(mark.index(), mark.term()) {
        Place::Inside => {}
        Place::Before => return Err(HealError::TooOld { index: mark.index() }),
        Place::Beyond => replayed.restart_after(marker(mark)).await?,
    }
    take_place(dir, mark, stamp)
}

/// The log is lost: a new one begins after the state.
async fn begin_anew(
    config: &Config,
    dir: &DataDir,
    survey: &Survey,
    mark: &SnapshotMetadata,
    stamp: u64,
) -> Result<(), HealError> {
    set_aside_log(dir.wal(), stamp)?;
    take_place(dir, mark, stamp)?;
    let hard_state = HardState { term: survey.term, vote: survey.identity.member_id, commit: mark.index() };
    Ok(bootstrap::new_log(config, dir, survey.identity, marker(mark), hard_state).await?)
}

fn marker(mark: &SnapshotMetadata) -> SnapshotMarker {
    let conf_state = mark.conf_state.clone().unwrap_or_default();
    SnapshotMarker {
        index: mark.index(),
        term: mark.term(),
        conf_state: ConfState {
            auto_leave: conf_state.auto_leave(),
            voters: conf_state.voters,
            learners: conf_state.learners,
            voters_outgoing: conf_state.voters_outgoing,
            learners_next: conf_state.learners_next,
        },
        restarts_log: true,
    }
}

fn take_place(dir: &DataDir, mark: &SnapshotMetadata, stamp: u64) -> Result<(), HealError> {
    let database = dir.database();
    if database.exists() {
        aside(&database, &database.with_file_name(format!("db.damaged-{stamp}")))?;
    }
    Ok(installation::rename(dir.snap(), mark.index())?)
}

/// Moves every file of the log into a directory beside them.
fn set_aside_log(wal: &Path, stamp: u64) -> Result<(), HealError> {
    let failed = |source| HealError::Aside { path: wal.to_owned(), source };
    let files: Vec<PathBuf> = fs::read_dir(wal)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>())
        .map_err(failed)?
        .into_iter()
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(log_files::is_of_log))
        .collect();
    if files.is_empty() {
        return Ok(());
    }
    let target = wal.join(format!("damaged-{stamp}"));
    fs::create_dir_all(&target).map_err(failed)?;
    // The newest first: what an interruption leaves is a log that lacks its end and not its beginning, and is seen to be damaged.
    for path in files.iter().rev() {
        let name = path.file_name().expect("it was listed");
        fs::rename(path, target.join(name)).map_err(failed)?;
    }
    tracing::warn!(path = %target.display(), files = files.len(), "moved the damaged log aside");
    sync_directory(&target)?;
    Ok(sync_directory(wal)?)
}

fn aside(path: &Path, target: &Path) -> Result<(), HealError> {
    let failed = |source| HealError::Aside { path: path.to_owned(), source };
    fs::rename(path, target).map_err(failed)?;
    sync_directory(path.parent().expect("a file is in a directory")).map_err(|error| failed(error.source))?;
    tracing::warn!(path = %target.display(), "moved the damaged database aside");
    Ok(())
}

/// States that were received before count as little as the rest of the disk.
fn discard_received(snap: &Path) -> Result<(), HealError> {
    let failed = |source| HealError::Aside { path: snap.to_owned(), source };
    for entry in fs::read_dir(snap).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_str().is_some_and(|path| path.ends_with(".snap.db")) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whose log it was, by any segment whose header is sound.
fn remembered(dir: &DataDir) -> Result<Option<Metadata>, HealError> {
    let found = log_files::found(dir.wal())?;
    let of = |segment: &wal::SegmentFile| {
        let mut block = vec![0; limits::BLOCK_BYTES];
        let path = dir.wal().join(segment.id.file_name());
        fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut block)).ok()?;
        wal::metadata_of(&block)
    };
    Ok(found.segments.iter().find_map(of))
}

// Asking.

/// Peer URLs of others, from the flags and from the page file as far as it can be read.
async fn seeds(config: &Config, dir: &DataDir) -> Vec<String> {
    let first = config.founding.first_start(&config.name, &config.cluster_token, &config.advertise_peer_urls);
    let mut urls: Vec<String> = match &first {
        Ok(FirstStart::Found(cluster) | FirstStart::Join(cluster)) => {
            cluster.remote_urls().into_iter().map(str::to_owned).collect()
        }
        Err(_) => Vec::new(),
    };
    urls.extend(bootstrap::members_on_disk(dir).await.into_iter().flat_map(|member| member.peer_urls));
    urls.sort_unstable();
    urls.dedup();
    urls.retain(|url| !config.advertise_peer_urls.contains(url));
    urls
}

async fn ask_others(
    config: &Config,
    seeds: &[String],
    identity: Option<Metadata>,
    everybody: bool,
) -> Result<Survey, HealError> {
    if seeds.is_empty() {
        return Err(HealError::Unknown);
    }
    let until = clock::now() + Duration::from_millis(limits::HEAL_ASK_MS_MAX);
    loop {
        let lack = match ask_once(config, seeds, identity, everybody).await {
            Ok(survey) => return Ok(survey),
            Err(lack) => lack,
        };
        if clock::now() >= until {
            return Err(HealError::Nobody(lack));
        }
        tracing::warn!(lack, "the other members are needed to heal this one; asking again");
        os::sleep(Duration::from_millis(limits::HEAL_PAUSE_MS)).await;
    }
}

async fn ask_once(
    config: &Config,
    seeds: &[String],
    identity: Option<Metadata>,
    everybody: bool,
) -> Result<Survey, Lack> {
    let timeout = bootstrap::request_timeout(config);
    let first = ask_any(seeds, timeout).await?;
    let local = match identity {
        Some(identity) if identity.cluster_id != first.cluster_id => {
            return Err(format!(
                "they are of cluster {:x}, this member is of {:x}",
                first.cluster_id, identity.cluster_id
            ));
        }
        Some(identity) => identity.member_id,
        None => own_id(&first.members, &config.advertise_peer_urls)?,
    };
    let mut answers = vec![first.clone()];
    for member in first.members.iter().filter(|member| member.id != local && member.id != first.member_id) {
        match ask_any(&member.peer_urls, timeout).await {
            Ok(answer) if answer.member_id == member.id => answers.push(answer),
            Ok(answer) => return Err(format!("member {:x} answers in place of {:x}", answer.member_id, member.id)),
            Err(lack) if everybody && !member.is_learner => {
                let id = member.id;
                return Err(format!("every other voter has to answer, and {id:x} does not: {lack}"));
            }
            Err(_) => {}
        }
    }
    judge(&answers, local, everybody)
}

/// What follows from the answers.
fn judge(answers: &[StandingAnswer], local: u64, everybody: bool) -> Result<Survey, Lack> {
    let first = answers.first().ok_or("nobody answers")?;
    if let Some(other) = answers.iter().find(|other| other.cluster_id != first.cluster_id) {
        return Err(format!("member {:x} is of another cluster", other.member_id));
    }
    let has_answered = |id: u64| answers.iter().any(|answer| answer.member_id == id);
    for answer in answers {
        if !answer.members.iter().any(|member| member.id == local) {
            return Err(format!("member {local:x} is not in the cluster any more"));
        }
        let voters = answer.members.iter().filter(|member| member.id != local && !member.is_learner);
        if let Some(unasked) = voters.into_iter().find(|voter| everybody && !has_answered(voter.id)) {
            return Err(format!("every other voter has to answer, and {:x} has not", unasked.id));
        }
    }
    let term = answers.iter().map(|answer| answer.term).max().unwrap_or(0);
    let leader = answers.iter().find(|answer| answer.term == term && answer.leader == answer.member_id);
    let leader_id = leader.map_or(0, |leader| leader.member_id);
    let index_min = match (everybody, leader) {
        (true, Some(leader)) => leader.last_index,
        (true, None) => return Err(format!("nobody leads in term {term} yet")),
        (false, _) => answers.iter().map(|answer| answer.applied).max().unwrap_or(0),
    };
    let mut sources: Vec<Member> = first.members.iter().filter(|member| has_answered(member.id)).cloned().collect();
    sources.sort_by_key(|member| (member.id == leader_id, member.id));
    Ok(Survey { identity: Metadata { cluster_id: first.cluster_id, member_id: local }, index_min, term, sources })
}

/// The member that is reached at these URLs.
fn own_id(members: &[Member], advertised: &[String]) -> Result<u64, Lack> {
    let resolved = |urls: &[String]| {
        let mut urls: Vec<String> = urls
            .iter()
            .map(|url| match url.split_once("://") {
                Some((scheme, address)) => format!("{scheme}://{}", resolve(address).unwrap_or(address.to_owned())),
                None => url.clone(),
            })
            .collect();
        urls.sort_unstable();
        urls
    };
    let own = resolved(advertised);
    let mut same = members.iter().filter(|member| resolved(&member.peer_urls) == own);
    match (same.next(), same.next()) {
        (Some(member), None) => Ok(member.id),
        _ => Err(format!("no member of theirs has the peer URLs {}", advertised.join(","))),
    }
}

async fn ask_any(urls: &[String], timeout: Duration) -> Result<StandingAnswer, Lack> {
    let mut lack = "it has no peer URL".to_owned();
    for url in urls {
        match ask(url, timeout).await {
            Ok(answer) => return Ok(answer),
            Err(error) => lack = format!("{url}: {error}"),
        }
    }
    Err(lack)
}

async fn ask(url: &str, timeout: Duration) -> Result<StandingAnswer, String> {
    let address = format!("{url}{STANDING_PATH}");
    let asked = client::request(Method::GET, &address, HeaderMap::new(), bytes::Bytes::new(), timeout).await;
    let answer = asked.map_err(|error| error.to_string())?;
    match answer.status {
        StatusCode::OK => serde_json::from_slice(&answer.body).map_err(|error| error.to_string()),
        StatusCode::NOT_FOUND => Err("it is no ringd of this version and does not answer such questions".to_owned()),
        status => Err(format!("{status}: {}", String::from_utf8_lossy(&answer.body).trim_end())),
    }
}

async fn fetch(
    config: &Config,
    dir: &DataDir,
    secrets: Option<Arc<Secrets>>,
    survey: &Survey,
) -> Result<SnapshotMetadata, HealError> {
    let asking = Asking {
        cluster_id: survey.identity.cluster_id,
        member_id: survey.identity.member_id,
        advertised: config.advertise_peer_urls.clone(),
        secrets,
        dial_timeout: Duration::from_secs(1) + config.election,
    };
    let mut last: Option<FetchError> = None;
    for source in &survey.sources {
        let remote_member_id = format!("{:x}", source.id);
        tracing::info!(remote_member_id, index_min = survey.index_min, "fetching the database");
        match peer::fetch(&asking, &source.peer_urls, survey.index_min, dir.snap()).await {
            Ok((mark, _)) => return Ok(mark),
            Err(error) => {
                tracing::warn!(remote_member_id, %error, "failed to fetch the database");
                last = Some(error);
            }
        }
    }
    Err(HealError::NotFetched(last.map_or("nobody has one".to_owned(), |error| error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: u64 = 1;

    fn member(id: u64, is_learner: bool) -> Member {
        Member { id, peer_urls: vec![format!("http://127.0.0.1:{id}")], is_learner, ..Member::default() }
    }

    /// An answer of a member of a cluster whose voters are these.
    fn answer(member_id: u64, term: u64, leader: u64, voters: &[u64]) -> StandingAnswer {
        let members = voters.iter().map(|id| member(*id, false)).collect();
        StandingAnswer { cluster_id: 7, member_id, term, leader, last_index: 10 * member_id, applied: 5, members }
    }

    #[test]
    fn the_leader_of_the_largest_term_says_how_far() {
        let answers = [answer(2, 4, 3, &[1, 2, 3]), answer(3, 4, 3, &[1, 2, 3])];
        let survey = judge(&answers, LOCAL, true).expect("complete");
        assert_eq!((survey.term, survey.index_min), (4, 30));
        let sources: Vec<u64> = survey.sources.iter().map(|source| source.id).collect();
        assert_eq!(sources, [2, 3], "the leader last");
    }

    #[test]
    fn a_larger_term_without_its_leader_is_waited_out() {
        let answers = [answer(2, 5, 0, &[1, 2, 3]), answer(3, 4, 3, &[1, 2, 3])];
        assert_eq!(judge(&answers, LOCAL, true), Err("nobody leads in term 5 yet".to_owned()));
        assert_eq!(judge(&answers, LOCAL, false).expect("the log knows the term").index_min, 5);
    }

    #[test]
    fn every_voter_that_anybody_names_has_to_answer() {
        let answers = [answer(2, 4, 3, &[1, 2, 3]), answer(3, 4, 3, &[1, 2, 3, 4])];
        assert_eq!(judge(&answers, LOCAL, true), Err("every other voter has to answer, and 4 has not".to_owned()));
        assert!(judge(&answers, LOCAL, false).is_ok());
        let mut answers = [answer(2, 4, 3, &[1, 2, 3]), answer(3, 4, 3, &[1, 2, 3])];
        answers[1].members.push(member(4, true));
        assert!(judge(&answers, LOCAL, true).is_ok(), "a learner has never led");
    }

    #[test]
    fn a_removed_member_and_another_cluster_are_told() {
        let answers = [answer(2, 4, 2, &[2, 3]), answer(3, 4, 2, &[2, 3])];
        assert_eq!(judge(&answers, LOCAL, true), Err("member 1 is not in the cluster any more".to_owned()));
        let mut answers = [answer(2, 4, 2, &[1, 2, 3]), answer(3, 4, 2, &[1, 2, 3])];
        answers[1].cluster_id = 8;
        assert_eq!(judge(&answers, LOCAL, true), Err("member 3 is of another cluster".to_owned()));
    }

    #[test]
    fn a_member_without_a_log_is_found_by_its_urls() {
        let members = [member(1, false), member(2, false)];
        assert_eq!(own_id(&members, &["http://127.0.0.1:2".to_owned()]), Ok(2));
        assert!(own_id(&members, &["http://127.0.0.1:3".to_owned()]).is_err());
        let twice = [member(2, false), Member { id: 5, ..member(2, false) }];
        assert!(own_id(&twice, &["http://127.0.0.1:2".to_owned()]).is_err());
    }
}
