//! Scripts about who the members are.

use std::error::Error;
use std::fmt::Write as _;

use super::ids::{MemberSalt, cluster_id, member_id};
use super::membership::{Member, Membership};
use crate::base::script_tests;

#[derive(goldenscript::Command)]
enum Command {
    /// The id of a founding member. Example: member_id token http://a:1
    MemberId { token: String, urls: Vec<String> },
    /// The id of a member that is added later. Example: later_id 1700000000 http://a:1
    LaterId { unix_seconds: i64, urls: Vec<String> },
    /// The id of a cluster, from the hexadecimal ids of its founders.
    ClusterId(Vec<String>),
    /// Adds or replaces a member. Example: add 1 http://a:1 learner=true
    Add {
        id: u64,
        url: String,
        #[arg(key)]
        learner: Option<bool>,
    },
    /// Removes a member for good.
    Remove(u64),
    /// A member publishes its name and client URL.
    Publish { id: u64, name: String, url: String },
    /// Shows the members, and whether the local one, 1, is a learner.
    Show,
}

struct Cluster(Membership);

impl goldenscript::Runner for Cluster {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let membership = &mut self.0;
        match command {
            Command::MemberId { token, urls } => Ok(format!("{:x}", member_id(urls, MemberSalt::ClusterToken(token)))),
            Command::LaterId { unix_seconds, urls } => {
                Ok(format!("{:x}", member_id(urls, MemberSalt::AddedAt { unix_seconds: *unix_seconds })))
            }
            Command::ClusterId(ids) => {
                let ids: Result<Vec<u64>, _> = ids.iter().map(|id| u64::from_str_radix(id, 16)).collect();
                Ok(format!("{:x}", cluster_id(&ids?)))
            }
            Command::Add { id, url, learner } => {
                let is_learner = learner.unwrap_or(false);
                let member = Member { id: *id, peer_urls: vec![url.clone()], is_learner, ..Member::default() };
                Ok(if membership.add(member) { "added" } else { "refused: it was removed before" }.to_owned())
            }
            Command::Remove(id) => {
                membership.remove(*id);
                Ok("removed".to_owned())
            }
            Command::Publish { id, name, url } => {
                let member = membership.set_attributes(*id, name.clone(), vec![url.clone()]);
                Ok(if member.is_some() { "published" } else { "no such member" }.to_owned())
            }
            Command::Show => {
                let mut output = String::new();
                for member in membership.members() {
                    let _ = writeln!(output, "{}: {}", member.key(), String::from_utf8_lossy(&member.to_json()));
                }
                let _ = write!(output, "the local member is a learner: {}", membership.local_is_learner());
                Ok(output)
            }
        }
    }
}

#[test]
fn scripts() {
    script_tests::run("cluster", || Cluster(Membership::new(7, 1)));
}
