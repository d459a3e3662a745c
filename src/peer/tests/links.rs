//! Messages between members.

use super::*;
use crate::os;

/// Waits until both members have opened both streams, so that nothing is posted any more.
async fn until_streams_are_open(members: &[&Member]) {
    for member in members {
        for other in members.iter().filter(|other| other.id != member.id) {
            while !member.peers.has_streams(other.id) {
                os::yield_now().await;
            }
        }
    }
}

#[test]
fn messages_go_both_ways_and_appends_keep_their_order() {
    on_executor(async {
        let (one, two) = (Member::start(1), Member::start(2));
        one.knows(&[&two]);
        two.knows(&[&one]);
        until_streams_are_open(&[&one, &two]).await;
        for number in 0..100 {
            one.send(append(1, 2, number, Bytes::from(vec![number as u8; 10_000])));
            two.send(heartbeat(2, 1, number));
        }
        for number in 0..100 {
            let message = two.message().await;
            assert_eq!(message, append(1, 2, number, Bytes::from(vec![number as u8; 10_000])));
            assert_eq!(one.message().await, heartbeat(2, 1, number));
        }
        assert!(one.activity.since(2).is_some() && two.activity.since(1).is_some());
        one.peers.stop().await;
        two.peers.stop().await;
        assert!(one.activity.since(2).is_none());
    });
}

#[test]
fn messages_are_posted_to_a_member_that_does_not_know_us() {
    on_executor(async {
        let (one, two) = (Member::start(1), Member::start(2));
        one.knows(&[&two]);
        for number in 0..20 {
            one.send(heartbeat(1, 2, number));
        }
        let mut commits = Vec::new();
        for _ in 0..20 {
            commits.push(two.message().await.commit());
        }
        commits.sort_unstable();
        assert_eq!(commits, (0..20).collect::<Vec<_>>());
        // Its requests said where it is: an answer finds it.
        two.send(heartbeat(2, 1, 7));
        assert_eq!(one.message().await.commit(), 7);
        one.peers.stop().await;
        two.peers.stop().await;
    });
}

#[test]
fn a_removed_member_is_told_and_a_returned_one_is_found_again() {
    on_executor(async {
        let (one, two) = (Member::start(1), Member::start(2));
        one.inside(|peers| peers.set_members(&[], &[2]));
        two.knows(&[&one]);
        assert!(matches!(two.event().await, Event::Removed));
        one.knows(&[&two]);
        until_streams_are_open(&[&one, &two]).await;
        two.send(heartbeat(2, 1, 1));
        assert_eq!(one.message().await.commit(), 1);
        one.peers.stop().await;
        two.peers.stop().await;
    });
}

#[test]
fn members_of_another_cluster_are_not_heard() {
    on_executor(async {
        let (one, two) = (Member::start(1), Member::of_cluster(2, CLUSTER + 1));
        two.knows(&[&one]);
        two.send(heartbeat(2, 1, 1));
        assert!(matches!(two.any_event().await, Event::Unreachable { to: 1 }));
        assert!(one.news.events.borrow().is_empty());
        one.peers.stop().await;
        two.peers.stop().await;
    });
}

#[test]
fn what_a_slow_member_does_not_take_is_dropped_and_reported() {
    on_executor(async {
        let (one, two) = (Member::start(1), Member::start(2));
        one.knows(&[&two]);
        two.knows(&[&one]);
        until_streams_are_open(&[&one, &two]).await;
        // All in one turn: nobody reads meanwhile.
        for number in 0..40 {
            one.send(append(1, 2, number, Bytes::from(vec![0; 1 << 20])));
        }
        one.send(heartbeat(1, 2, 9));
        assert!(matches!(one.any_event().await, Event::Unreachable { to: 2 }));
        let mut appends = 0;
        loop {
            match two.message().await.r#type() {
                MessageType::MsgApp => appends += 1,
                _ if appends == 0 => continue,
                _ => {}
            }
            if appends == 16 {
                break;
            }
        }
        one.peers.stop().await;
        two.peers.stop().await;
    });
}
