//! Member and cluster ids, derived as etcd derives them so that both find the same cluster.
//!
//! | Id | First 8 bytes, big-endian, of SHA-1 over |
//! |---|---|
//! | member, at bootstrap | its peer URLs, sorted, one after the other, then the cluster token |
//! | member, added later | its peer URLs likewise, then the Unix time in seconds, in decimal |
//! | cluster | the ids of the first members, ascending, 8 bytes big-endian each |

use sha1::{Digest as _, Sha1};

/// What tells apart members with the same URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberSalt<'a> {
    /// `--initial-cluster-token`: the member is there from the beginning.
    ClusterToken(&'a str),
    /// The member is added while the cluster runs.
    AddedAt { unix_seconds: i64 },
}

/// The id of a member with these peer URLs, in any order.
#[must_use]
pub fn member_id(peer_urls: &[impl AsRef<str>], salt: MemberSalt<'_>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hasher = Sha1::new();
    for url in urls {
        hasher.update(url.as_bytes());
    }
    match salt {
        MemberSalt::ClusterToken(token) => hasher.update(token.as_bytes()),
        MemberSalt::AddedAt { unix_seconds } => hasher.update(unix_seconds.to_string().as_bytes()),
    }
    first_eight(hasher)
}

/// The id of a cluster founded by these members, in any order.
#[must_use]
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hasher = Sha1::new();
    for id in ids {
        hasher.update(id.to_be_bytes());
    }
    first_eight(hasher)
}

fn first_eight(hasher: Sha1) -> u64 {
    let digest = hasher.finalize();
    let (first, _) = digest.split_first_chunk().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected ids were printed by etcd 3.7.1 for the same URLs, tokens and second.

    #[test]
    fn a_single_member() {
        let salt = MemberSalt::ClusterToken("token-one");
        let id = member_id(&["http://127.0.0.1:23802"], salt);
        assert_eq!(id, 12_345_637_569_536_917_660);
        assert_eq!(cluster_id(&[id]), 2_858_582_132_048_425_655);
    }

    #[test]
    fn two_members_in_any_order() {
        let salt = MemberSalt::ClusterToken("etcd-cluster");
        let a = member_id(&["http://127.0.0.1:23802", "http://127.0.0.1:2380"], salt);
        let b = member_id(&["http://127.0.0.2:23802"], salt);
        assert_eq!((a, b), (0x30c5_6529_e104_2a56, 0x15f3_1f9d_d77f_5015));
        assert_eq!(cluster_id(&[a, b]), 0x08a4_7984_724d_b5bc);
        assert_eq!(cluster_id(&[b, a]), cluster_id(&[a, b]));
    }

    #[test]
    fn a_member_added_later() {
        let urls = ["http://127.0.0.3:2380", "http://127.0.0.2:2380"];
        let salt = MemberSalt::AddedAt { unix_seconds: 1_795_415_649 };
        assert_eq!(member_id(&urls, salt), 0x38e8_93b0_d11c_7398);
    }
}
