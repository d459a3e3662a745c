//! `--feature-gates`: etcd's switches for features that are not, or no longer, a matter of course.
//!
//! A deployment that is written for etcd sets them (kubeadm: `InitialCorruptCheck=true`). What a gate asks for has to happen, or
//! there has to be nothing to do; else the value is refused.
//!
//! | a gate is | when |
//! |---|---|
//! | taken either way | it chooses between two insides of etcd that answer alike, or compares members, of which there is one; or it is served |
//! | taken as it is | the other setting would do something that is not served |

use std::collections::BTreeMap;

/// A gate's name, etcd's word for how ripe it is, its default, and whether the other setting is taken too.
type Gate = (&'static str, &'static str, bool, bool);

/// By name, those of etcd 3.7.
const GATES: [Gate; 9] = [
    ("CompactHashCheck", ALPHA, false, true),
    ("FastLeaseKeepAlive", BETA, true, true),
    ("InitialCorruptCheck", ALPHA, false, true),
    ("LeaseCheckpoint", ALPHA, false, false),
    ("LeaseCheckpointPersist", ALPHA, false, false),
    ("PriorityRequest", ALPHA, false, false),
    ("SetMemberLocalAddr", ALPHA, false, false),
    ("StopGRPCServiceOnDefrag", ALPHA, false, true),
    ("TxnModeWriteWithSharedBuffer", BETA, true, true),
];
const ALPHA: &str = "ALPHA";
const BETA: &str = "BETA";
/// Gates that set all of a stage, but those that are set by name.
const GROUPS: [(&str, &str); 2] = [("AllAlpha", ALPHA), ("AllBeta", BETA)];
const FLAG: &str = "feature-gates";

/// Every gate and group with its stage and whether it is open, by name.
pub type Gates = BTreeMap<&'static str, (&'static str, bool)>;

/// Why gates cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadGates {
    Malformed(String),
    NotServed(String),
}

/// Reads `A=true,B=false`, in etcd's way: spaces are trimmed, the last of a name counts.
pub(super) fn parse(text: &str) -> Result<Gates, BadGates> {
    let mut given = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let refused = BadGates::Malformed;
        let (name, value) = item.split_once('=').ok_or_else(|| refused(format!("missing bool value for {item}")))?;
        let (name, value) = (name.trim(), value.trim());
        let open = super::well_formed::go_boolean(value).ok_or_else(|| {
            let why = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
            refused(format!("invalid value of {name}={value}, err: {why}"))
        })?;
        let known = GATES.iter().map(|gate| gate.0).chain(GROUPS.iter().map(|group| group.0)).find(|k| *k == name);
        given.insert(known.ok_or_else(|| refused(format!("unrecognized feature gate: {name}")))?, open);
    }
    let group = |stage: &str| GROUPS.iter().find(|group| group.1 == stage).and_then(|group| given.get(group.0));
    let mut gates: Gates =
        GROUPS.iter().map(|(name, stage)| (*name, (*stage, given.get(name).copied().unwrap_or(false)))).collect();
    for (name, stage, default, either) in GATES {
        let of_group = group(stage).copied().unwrap_or(default);
        let open = given.get(name).copied().unwrap_or(of_group);
        if open != default && !either {
            let text = format!("--{FLAG} {name}={open}: this version of ringd does not serve that yet");
            return Err(BadGates::NotServed(text));
        }
        gates.insert(name, (stage, open));
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Vec<&'static str> {
        let gates = parse(text).expect("accepted");
        gates.into_iter().filter(|(_, (_, open))| *open).map(|(name, _)| name).collect()
    }

    fn refusal(text: &str) -> String {
        match parse(text).expect_err("refused") {
            BadGates::Malformed(text) | BadGates::NotServed(text) => text,
        }
    }

    #[test]
    fn gates_are_set_by_name_and_by_group() {
        assert_eq!(open(""), ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]);
        assert_eq!(open("AllBeta=false"), [""; 0]);
        assert_eq!(open("AllBeta=false,FastLeaseKeepAlive=1"), ["FastLeaseKeepAlive"]);
        let corrupt = ["CompactHashCheck", "FastLeaseKeepAlive", "InitialCorruptCheck", "TxnModeWriteWithSharedBuffer"];
        assert_eq!(open(" InitialCorruptCheck = true , CompactHashCheck=t,"), corrupt);
    }

    #[test]
    fn mistakes_are_worded_as_by_etcd() {
        assert!(refusal("Foo=true").ends_with("unrecognized feature gate: Foo"));
        assert!(refusal("InitialCorruptCheck").ends_with("missing bool value for InitialCorruptCheck"));
        let why = r#"invalid value of AllBeta=x, err: strconv.ParseBool: parsing "x": invalid syntax"#;
        assert!(refusal("AllBeta=x").ends_with(why), "{}", refusal("AllBeta=x"));
        assert!(refusal("LeaseCheckpoint=true").contains("does not serve"));
        assert!(refusal("AllAlpha=true").contains("does not serve"));
    }
}
