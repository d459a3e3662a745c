//! Users and roles of the database. They come with a migrated database and are never changed here, so the last commit has all of
//! them.
//!
//! | bucket | key | value |
//! |---|---|---|
//! | auth | `authRevision` | 8 bytes big-endian; etcd writes 1 when it first starts |
//! | auth | `authEnabled` | one byte, 1 if so |
//! | authUsers | name | marshalled authpb.User |
//! | authRoles | name | marshalled authpb.Role |

use prost::Message;

use crate::{
    backend::Bucket,
    base::refusal::Refusal,
    pagefile::{Corrupt, ReadTxn},
    proto::authpb::{Permission, Role, User, permission::Type},
    service::kv::ReadStop,
};

const REVISION: &[u8] = b"authRevision";
const ENABLED: &[u8] = b"authEnabled";
const ROOT: &str = "root";
/// Of a database that etcd has not seen.
const FIRST_REVISION: u64 = 1;

/// The users and roles of one commit.
pub struct AuthView<'t>(pub &'t ReadTxn);

impl AuthView<'_> {
    /// The number of the last change of users and roles.
    ///
    /// # Errors
    /// Damage.
    pub fn revision(&self) -> Result<u64, Corrupt> {
        let stored = self.get(Bucket::Auth, REVISION)?.and_then(|bytes| bytes.try_into().ok());
        Ok(stored.map_or(FIRST_REVISION, u64::from_be_bytes))
    }

    /// Whether etcd would ask for permissions. ringd does not yet.
    ///
    /// # Errors
    /// Damage.
    pub fn is_enabled(&self) -> Result<bool, Corrupt> {
        Ok(self.get(Bucket::Auth, ENABLED)? == Some(&[1]))
    }

    /// Whether authentication may be enabled: there is a user `root` with the role `root`.
    ///
    /// # Errors
    /// It may not; damage.
    pub fn check_root(&self) -> Result<(), ReadStop> {
        match self.find::<User>(Bucket::AuthUsers, ROOT)? {
            None => Err(ReadStop::Refused(Refusal::RootUserNotExist)),
            Some(user) if !user.roles.iter().any(|role| role == ROOT) => {
                Err(ReadStop::Refused(Refusal::RootRoleNotExist))
            }
            Some(_) => Ok(()),
        }
    }

    /// The roles of a user.
    ///
    /// # Errors
    /// No such user; damage.
    pub fn roles_of(&self, name: &str) -> Result<Vec<String>, ReadStop> {
        let user: Option<User> = self.find(Bucket::AuthUsers, name)?;
        Ok(user.ok_or(ReadStop::Refused(Refusal::UserNotFound))?.roles)
    }

    /// The permissions of a role; those of `root` are not stored.
    ///
    /// # Errors
    /// No such role; damage.
    pub fn permissions_of(&self, name: &str) -> Result<Vec<Permission>, ReadStop> {
        let role: Option<Role> = self.find(Bucket::AuthRoles, name)?;
        let role = role.ok_or(ReadStop::Refused(Refusal::RoleNotFound))?;
        if role.name != ROOT {
            return Ok(role.key_permission);
        }
        let (key, range_end) = (Default::default(), vec![0].into());
        Ok(vec![Permission { perm_type: Type::Readwrite as i32, key, range_end }])
    }

    /// The names of all users, in their order.
    ///
    /// # Errors
    /// Damage.
    pub fn users(&self) -> Result<Vec<String>, Corrupt> {
        self.names(Bucket::AuthUsers)
    }

    /// The names of all roles, in their order.
    ///
    /// # Errors
    /// Damage.
    pub fn roles(&self) -> Result<Vec<String>, Corrupt> {
        self.names(Bucket::AuthRoles)
    }

    fn names(&self, bucket: Bucket) -> Result<Vec<String>, Corrupt> {
        let Some(root) = self.0.bucket(bucket.name())? else { return Ok(Vec::new()) };
        let (mut names, mut cursor) = (Vec::new(), self.0.cursor(root));
        let mut item = cursor.first()?;
        while let Some(found) = item {
            names.push(String::from_utf8_lossy(found.key).into_owned());
            item = cursor.next_item()?;
        }
        Ok(names)
    }

    fn find<M: Message + Default>(&self, bucket: Bucket, name: &str) -> Result<Option<M>, ReadStop> {
        let Some(bytes) = self.get(bucket, name.as_bytes())? else { return Ok(None) };
        let damaged = |error| {
            let bucket = String::from_utf8_lossy(bucket.name());
            ReadStop::Failed(format!("bucket {bucket}, key {name}: {error}"))
        };
        M::decode(bytes).map(Some).map_err(damaged)
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<&[u8]>, Corrupt> {
        match self.0.bucket(bucket.name())? {
            Some(root) => self.0.get(&root, key),
            None => Ok(None),
        }
    }
}
