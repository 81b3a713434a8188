//! Every address that DNS gives for a name: asked of DNS itself, never of a hosts file.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{Name, RData, RecordType},
};

/// For one question to one server.
const QUESTION: Duration = Duration::from_secs(2);
/// For all questions about one name.
const LIMIT: Duration = Duration::from_secs(10);
/// Each question is put so often.
const ATTEMPTS: usize = 2;

/// Why there are no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// DNS says that there are none: so the world is told.
    None(String),
    /// Nobody said anything: the servers that were asked may be to blame, or the way to them.
    NoAnswer(String),
}

/// Asks DNS. It remembers answers as long as they say, so each round takes a new one.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// One that asks these servers; those of the machine when there are none.
    ///
    /// # Errors
    /// One fragment, when the machine's configuration can't be read.
    pub fn of(servers: &[SocketAddr]) -> Result<Self, String> {
        let problem = |error| format!("the machine's DNS servers aren't known: {error}");
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(problem)?
        } else {
            let servers = servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = QUESTION;
        options.attempts = ATTEMPTS;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build().map(Self).map_err(problem)
    }

    /// Every A and AAAA record.
    ///
    /// # Errors
    /// One fragment, when there is none, with what the servers said.
    pub async fn addresses(&self, name: &str) -> Result<BTreeSet<IpAddr>, Unresolved> {
        // With a dot behind it: nothing of the machine's search list is put there.
        let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')))
            .map_err(|error| Unresolved::None(format!("{name} can't be asked for: {error}")))?;
        let both = async {
            tokio::join!(
                self.0.lookup(name.clone(), RecordType::A),
                self.0.lookup(name.clone(), RecordType::AAAA),
            )
        };
        let Ok((v4, v6)) = tokio::time::timeout(LIMIT, both).await else {
            let late = format!("no answer within {} s", LIMIT.as_secs());
            return Err(Unresolved::NoAnswer(late));
        };
        let mut addresses = BTreeSet::new();
        let mut problems = BTreeSet::new();
        let mut answered = true;
        for answer in [v4, v6] {
            match answer {
                Ok(lookup) => {
                    addresses.extend(lookup.answers().iter().filter_map(
                        |record| match &record.data {
                            RData::A(address) => Some(IpAddr::V4(address.0)),
                            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                            _ => None,
                        },
                    ))
                }
                Err(error) if error.is_nx_domain() => {
                    problems.insert("the name doesn't exist".to_owned());
                }
                Err(error) if error.is_no_records_found() => {
                    problems.insert("it has neither A nor AAAA records".to_owned());
                }
                Err(error) => {
                    answered = false;
                    problems.insert(error.to_string());
                }
            }
        }
        if addresses.is_empty() {
            let problems: Vec<String> = problems.into_iter().collect();
            let problems = problems.join("; ");
            return Err(match answered {
                true => Unresolved::None(problems),
                false => Unresolved::NoAnswer(problems),
            });
        }
        Ok(addresses)
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let on = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![on(ConnectionConfig::udp()), on(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
