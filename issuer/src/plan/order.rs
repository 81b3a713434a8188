//! The next step of an order (RFC 8555 7.1.6): pure.

/// States of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// Some authorization is open.
    Pending,
    /// All are valid: the CSR may be sent.
    Ready,
    /// The CA signs.
    Processing,
    /// The certificate can be downloaded.
    Valid,
    /// Dead.
    Invalid,
}

/// States of an authorization's HTTP-01 challenge, as far as the next step depends on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChallengeState {
    /// The CA waits for our word that it may validate.
    Open,
    /// The CA validates.
    Answered,
    /// Proven, now or by an earlier order.
    Valid,
    /// Refused, with the CA's words.
    Failed(String),
    /// The CA offers no HTTP-01 for this identifier.
    NotOffered,
}

/// One authorization of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The identifier, for people.
    pub identifier: String,
    /// Its challenge.
    pub challenge: ChallengeState,
}

/// What the CA says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// Its state.
    pub status: OrderStatus,
    /// Its authorizations; read only while it is pending or invalid.
    pub authorizations: Vec<Authorization>,
    /// The order's own error, in the CA's words.
    pub error: Option<String>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell the CA that these open challenges may be validated: indices into the authorizations.
    Answer(Vec<usize>),
    /// Ask again after a pause.
    Poll,
    /// Send the stored CSR.
    Finalize,
    /// Fetch the certificate.
    Download,
    /// The order is dead.
    GiveUp {
        /// One sentence.
        problem: String,
        /// Whether the CA tried to validate.
        validation: bool,
    },
}

/// The step that follows from what the CA says.
pub fn next(order: &OrderView) -> Step {
    match order.status {
        OrderStatus::Ready => Step::Finalize,
        OrderStatus::Processing => Step::Poll,
        OrderStatus::Valid => Step::Download,
        OrderStatus::Invalid => give_up(order),
        OrderStatus::Pending => pending(order),
    }
}

fn pending(order: &OrderView) -> Step {
    if let Some(without) = order
        .authorizations
        .iter()
        .find(|a| a.challenge == ChallengeState::NotOffered)
    {
        return Step::GiveUp {
            problem: format!(
                "the CA offers no http-01 challenge for {}",
                without.identifier
            ),
            validation: false,
        };
    }
    if order
        .authorizations
        .iter()
        .any(|a| matches!(a.challenge, ChallengeState::Failed(_)))
    {
        return give_up(order);
    }
    let open: Vec<usize> = order
        .authorizations
        .iter()
        .enumerate()
        .filter(|(_, a)| a.challenge == ChallengeState::Open)
        .map(|(index, _)| index)
        .collect();
    if open.is_empty() {
        Step::Poll
    } else {
        Step::Answer(open)
    }
}

fn give_up(order: &OrderView) -> Step {
    let failed: Vec<String> = order
        .authorizations
        .iter()
        .filter_map(|a| match &a.challenge {
            ChallengeState::Failed(words) => Some(format!("{}: {words}", a.identifier)),
            _ => None,
        })
        .collect();
    let validation = !failed.is_empty();
    let problem = if validation {
        format!("the CA could not validate {}", failed.join("; "))
    } else {
        order
            .error
            .clone()
            .unwrap_or_else(|| "the CA ended the order without a reason".into())
    };
    Step::GiveUp {
        problem,
        validation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(status: OrderStatus, challenges: &[ChallengeState]) -> OrderView {
        OrderView {
            status,
            authorizations: challenges
                .iter()
                .enumerate()
                .map(|(n, challenge)| Authorization {
                    identifier: format!("{n}.example.org"),
                    challenge: challenge.clone(),
                })
                .collect(),
            error: None,
        }
    }

    #[test]
    fn each_state_has_its_step() {
        use ChallengeState::{Answered, Failed, NotOffered, Open, Valid};
        use OrderStatus::{Invalid, Pending, Processing, Ready};
        let validation_failed = |problem: &str| Step::GiveUp {
            problem: problem.into(),
            validation: true,
        };
        for (view, step) in [
            (
                order(Pending, &[Open, Valid, Open]),
                Step::Answer(vec![0, 2]),
            ),
            (order(Pending, &[Answered, Valid]), Step::Poll),
            (order(Pending, &[Valid, Valid]), Step::Poll),
            (order(Pending, &[]), Step::Poll),
            (order(Ready, &[]), Step::Finalize),
            (order(Processing, &[]), Step::Poll),
            (order(OrderStatus::Valid, &[]), Step::Download),
            (
                order(Invalid, &[Valid, Failed("404".into())]),
                validation_failed("the CA could not validate 1.example.org: 404"),
            ),
            (
                order(Pending, &[Open, Failed("refused".into())]),
                validation_failed("the CA could not validate 1.example.org: refused"),
            ),
            (
                order(Pending, &[NotOffered]),
                Step::GiveUp {
                    problem: "the CA offers no http-01 challenge for 0.example.org".into(),
                    validation: false,
                },
            ),
            (
                order(Invalid, &[]),
                Step::GiveUp {
                    problem: "the CA ended the order without a reason".into(),
                    validation: false,
                },
            ),
        ] {
            assert_eq!(next(&view), step, "{view:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_finalized_before_it_is_ready(kinds in proptest::collection::vec(0_u8..5, 0..6), status in 0_u8..5) {
            let challenges: Vec<ChallengeState> = kinds
                .iter()
                .map(|kind| match kind {
                    0 => ChallengeState::Open,
                    1 => ChallengeState::Answered,
                    2 => ChallengeState::Valid,
                    3 => ChallengeState::Failed("x".into()),
                    _ => ChallengeState::NotOffered,
                })
                .collect();
            let status = [
                OrderStatus::Pending, OrderStatus::Ready, OrderStatus::Processing, OrderStatus::Valid,
                OrderStatus::Invalid,
            ][usize::from(status)];
            let step = next(&order(status, &challenges));
            prop_assert_eq!(step == Step::Finalize, status == OrderStatus::Ready);
            prop_assert_eq!(step == Step::Download, status == OrderStatus::Valid);
        }
    }
}
