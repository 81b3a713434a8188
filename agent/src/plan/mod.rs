//! Every decision of the agent, pure: facts, `now` and jitter in, what to do out.
//!
//! ```text
//! adopt     taking a certbot lineage over, and giving it back
//! admit     whether an offered generation may be taken
//! install   the next step of a round of installs
//! resume    what becomes of what is active and isn't known to be served
//! outcome   how an install ended
//! ending    which ending is told
//! check     how often all is looked at when nothing changes
//! confirm   whether what was activated is really served
//! settled   whether old and new workers may be answering side by side
//! served    what the handshakes add up to
//! doctor    what on this host is in the agent's way
//! drift     what to put back on disk
//! hold      whether a person keeps our hands off it
//! edit      whether an operator's edit in progress makes us wait
//! connect   when to dial the issuer
//! identity  when to renew the identity
//! age       from when on what is served is old
//! alarm     when this host raises its own alarm, to whom, how often
//! post_install  whether the operator's hook is to run
//! start     whether an nginx that failed after an activation is started
//! retry     when a failed install is tried again
//! status    whether all is well, and what isn't
//! inventory every certificate of this host, in rows
//! ```

pub mod admit;
pub mod adopt;
pub mod age;
pub mod alarm;
pub mod check;
pub mod confirm;
pub mod connect;
pub mod doctor;
pub mod drift;
pub mod edit;
pub mod ending;
pub mod hold;
pub mod identity;
pub mod install;
pub mod inventory;
pub mod outcome;
pub mod post_install;
pub mod resume;
pub mod retry;
pub mod served;
pub mod settled;
pub mod start;
pub mod status;
