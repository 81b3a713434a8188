//! Agents' calls against a running issuer, over real TLS: who is let in, what he gets, and when he is cut off; and its
//! alerts, on their way to real receivers.

#[cfg(test)]
mod admitted;
#[cfg(test)]
mod client;
#[cfg(test)]
mod ear;
#[cfg(test)]
mod fallen;
#[cfg(test)]
mod gated;
#[cfg(test)]
mod handed;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod intruding;
#[cfg(test)]
mod inventoried;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod life;
#[cfg(test)]
mod offers;
#[cfg(test)]
mod outbox;
#[cfg(test)]
mod quoted;
#[cfg(test)]
mod recovered;
mod renewed;
#[cfg(test)]
mod scribe;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod swapped;
#[cfg(test)]
mod world;
