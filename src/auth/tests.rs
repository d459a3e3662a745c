//! Scripts about users and roles: refusals, revisions, rights, and that what is stored is what is in memory.

use std::error::Error;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Access, Auth, AuthRequest, Requester, TokenChange};
use crate::{
    base::script_tests,
    mvcc::test_disk::Disk,
    proto::{
        authpb::{Permission, UserAddOptions, permission::Type},
        etcdserverpb::{
            AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
            AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
            AuthUserRevokeRoleRequest, InternalAuthenticateRequest,
        },
    },
};

#[derive(goldenscript::Command)]
enum Command {
    /// Authentication counts, or does not.
    Enable,
    Disable,
    /// A user with a password, which the script's runner hashes before it asks; `none` for a user without.
    User {
        name: String,
        password: Option<String>,
    },
    DeleteUser {
        name: String,
    },
    Password {
        name: String,
        password: String,
    },
    Role {
        name: String,
    },
    DeleteRole {
        name: String,
    },
    Grant {
        user: String,
        role: String,
    },
    Revoke {
        user: String,
        role: String,
    },
    /// A permission: read, write or readwrite on a key, or on a range; `open` for one without an end.
    Permit {
        role: String,
        access: String,
        key: String,
        end: Option<String>,
    },
    Forbid {
        role: String,
        key: String,
        end: Option<String>,
    },
    /// Assigns a token, as if the password had been compared.
    Token {
        user: String,
        prefix: String,
    },
    /// Whether a user may read or write; at the present revision, or at another.
    May {
        user: String,
        access: String,
        key: String,
        end: Option<String>,
        #[arg(key)]
        revision: Option<u64>,
    },
    /// Whether a user may administrate.
    Root {
        user: String,
    },
    /// The state, and whether it is the one that is stored.
    Show,
}

struct Users {
    auth: Auth,
    disk: Disk,
    index: u64,
}

impl Default for Users {
    fn default() -> Self {
        let (mut auth, mut disk) = (Auth::default(), Disk::default());
        auth.found(&mut disk.backend);
        Self { auth, disk, index: 10 }
    }
}

impl goldenscript::Runner for Users {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let request = match command {
            Command::May { user, access, key, end, revision } => {
                let revision = revision.unwrap_or(self.auth.revision());
                let access = if access == "write" { Access::Write } else { Access::Read };
                let who = Requester { user, revision };
                let outcome = self.auth.check(who, key.as_bytes(), end_of(end).as_bytes(), access);
                return Ok(outcome.map_or_else(|refusal| refusal.to_string(), |()| "yes".to_owned()));
            }
            Command::Root { user } => {
                let outcome = self.auth.check_root(Requester { user, revision: 1 });
                return Ok(outcome.map_or_else(|refusal| refusal.to_string(), |()| "yes".to_owned()));
            }
            Command::Show => return Ok(self.show()),
            other => request(other)?,
        };
        self.index += 1;
        Ok(match self.auth.apply(&mut self.disk.backend, &request, self.index) {
            Ok(None) => format!("revision {}", self.auth.revision()),
            Ok(Some(TokenChange::Assigned { token, user })) => format!("{token} stands for {user}"),
            Ok(Some(TokenChange::UserEnded { user })) => {
                format!("revision {}; tokens of {user} end", self.auth.revision())
            }
            Ok(Some(TokenChange::AllEnded)) => format!("revision {}; all tokens end", self.auth.revision()),
            Err(refusal) => format!("refused: {refusal}"),
        })
    }
}

fn request(command: &Command) -> Result<AuthRequest, Box<dyn Error>> {
    let hashed = |password: &str| STANDARD.encode(format!("hash of {password}"));
    Ok(match command {
        Command::Enable => AuthRequest::Enable,
        Command::Disable => AuthRequest::Disable,
        Command::User { name, password } => AuthRequest::UserAdd(AuthUserAddRequest {
            name: name.clone(),
            hashed_password: password.as_deref().map(hashed).unwrap_or_default(),
            options: password.is_none().then_some(UserAddOptions { no_password: true }),
            ..AuthUserAddRequest::default()
        }),
        Command::DeleteUser { name } => AuthRequest::UserDelete(AuthUserDeleteRequest { name: name.clone() }),
        Command::Password { name, password } => AuthRequest::UserChangePassword(AuthUserChangePasswordRequest {
            name: name.clone(),
            hashed_password: if password == "nonsense" { "?".to_owned() } else { hashed(password) },
            ..AuthUserChangePasswordRequest::default()
        }),
        Command::Role { name } => AuthRequest::RoleAdd(AuthRoleAddRequest { name: name.clone() }),
        Command::DeleteRole { name } => AuthRequest::RoleDelete(AuthRoleDeleteRequest { role: name.clone() }),
        Command::Grant { user, role } => {
            AuthRequest::UserGrantRole(AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() })
        }
        Command::Revoke { user, role } => {
            AuthRequest::UserRevokeRole(AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() })
        }
        Command::Permit { role, access, key, end } => {
            let perm_type = match access.as_str() {
                "read" => Type::Read,
                "write" => Type::Write,
                "readwrite" => Type::Readwrite,
                other => return Err(format!("no such access: {other}").into()),
            };
            let (key, range_end) = (key.clone().into(), end_of(end).into());
            let perm = Some(Permission { perm_type: perm_type as i32, key, range_end });
            AuthRequest::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: role.clone(), perm })
        }
        Command::Forbid { role, key, end } => {
            let (key, range_end) = (key.clone().into(), end_of(end).into());
            let role = role.clone();
            AuthRequest::RoleRevokePermission(AuthRoleRevokePermissionRequest { role, key, range_end })
        }
        Command::Token { user, prefix } => AuthRequest::Authenticate(InternalAuthenticateRequest {
            name: user.clone(),
            simple_token: prefix.clone(),
            ..InternalAuthenticateRequest::default()
        }),
        Command::May { .. } | Command::Root { .. } | Command::Show => unreachable!("asked elsewhere"),
    })
}

fn end_of(end: &Option<String>) -> String {
    match end.as_deref() {
        Some("open") => "\0".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}

impl Users {
    fn show(&mut self) -> String {
        self.disk.commit();
        let stored = Auth::restore(&self.disk.backend.view()).expect("readable");
        let shown = text(&self.auth);
        assert_eq!(text(&stored), shown, "what a restart would find");
        shown
    }
}

fn text(auth: &Auth) -> String {
    let mut lines = vec![format!("enabled {}, revision {}", auth.is_enabled, auth.revision)];
    for (name, account) in &auth.users {
        let password = String::from_utf8_lossy(&account.user.password);
        lines.push(format!("user {name} {:?} {password:?} root {}", account.user.roles, account.is_root));
    }
    for (name, role) in &auth.roles {
        let shown = |permission: &Permission| {
            format!("{} {:?} {:?}", permission.perm_type().as_str_name(), permission.key, permission.range_end)
        };
        lines.push(format!("role {name} {:?}", role.key_permission.iter().map(shown).collect::<Vec<_>>()));
    }
    lines.join("\n")
}

#[test]
fn scripts() {
    script_tests::run("auth", Users::default);
}

/// What etcd before 3.5 logged.
#[test]
fn a_password_in_plain_text_is_hashed_alike_on_every_member() {
    let request = AuthUserAddRequest { name: "u".into(), password: "secret".into(), ..AuthUserAddRequest::default() };
    let stored: Vec<_> = (0..2)
        .map(|_| {
            let mut users = Users::default();
            users.auth.apply(&mut users.disk.backend, &AuthRequest::UserAdd(request.clone()), 5).expect("added");
            users.auth.users["u"].user.password.clone()
        })
        .collect();
    assert_eq!(stored[0], stored[1]);
    let hash = std::str::from_utf8(&stored[0]).expect("text");
    assert!(hash.starts_with("$2a$10$") && bcrypt::verify("secret", hash).expect("a hash"));
}

#[test]
fn a_hash_that_go_made_is_compared() {
    // golang.org/x/crypto/bcrypt, of "etcd".
    let go = "$2a$04$RXSuCyEZKNp.lGFyw18EVuLRIFHBTr4vhLXdvJfPbSYBkFeWC0Gza";
    assert!(bcrypt::verify("etcd", go).is_ok());
}
