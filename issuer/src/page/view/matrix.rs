//! Certificates by hosts: a table as long as one can read it, then a line for each certificate with what isn't well.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::v1;
use jiff::Timestamp;

use super::{
    cell::Cell,
    mark::{Mark, Tone},
};

/// More columns don't fit a screen.
const COLUMNS: usize = 6;
/// More rows aren't read.
const ROWS: usize = 30;
/// Of one certificate, of those that aren't well.
const TROUBLES: usize = 8;

/// All cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matrix {
    /// No certificate is declared, or no host is to serve one.
    Empty,
    /// Each cell is shown.
    Grid(Grid),
    /// Only what isn't well is shown cell by cell.
    Summary(Vec<Line>),
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Whether a row is a host; else it is a certificate.
    pub rows_are_hosts: bool,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Name, and a cell for each column; `None`: it isn't wanted there.
    pub rows: Vec<(String, Vec<Option<Cell>>)>,
}

/// One certificate in a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub certificate: String,
    /// How many hosts are in which state, the worst first.
    pub counts: Vec<(Mark, usize)>,
    /// Those that aren't well, the worst first.
    pub troubles: Vec<Cell>,
    /// How many more there are.
    pub more: usize,
}

impl Matrix {
    /// Of all certificates, as large as it stays legible.
    pub fn new(certificates: &[v1::CertificateStatus], now: Timestamp) -> Self {
        let hosts: BTreeSet<&str> = certificates
            .iter()
            .flat_map(|certificate| &certificate.hosts)
            .map(|host| host.host.as_str())
            .collect();
        if hosts.is_empty() {
            return Self::Empty;
        }
        let (many, few) = (
            hosts.len().max(certificates.len()),
            hosts.len().min(certificates.len()),
        );
        if few > COLUMNS || many > ROWS {
            return Self::Summary(summary(certificates, now));
        }
        let mut cells: BTreeMap<(&str, &str), Cell> = BTreeMap::new();
        for certificate in certificates {
            for host in &certificate.hosts {
                cells.insert(
                    (&certificate.name, &host.host),
                    Cell::new(&certificate.name, host, now),
                );
            }
        }
        let names = certificates.iter().map(|one| one.name.as_str());
        let rows_are_hosts = hosts.len() > COLUMNS;
        let (rows, columns): (Vec<&str>, Vec<&str>) = if rows_are_hosts {
            (hosts.into_iter().collect(), names.collect())
        } else {
            (names.collect(), hosts.into_iter().collect())
        };
        let mut take = |row, column| {
            cells.remove(&if rows_are_hosts {
                (column, row)
            } else {
                (row, column)
            })
        };
        let rows = rows
            .into_iter()
            .map(|row| {
                let cells = columns.iter().map(|column| take(row, *column)).collect();
                (row.to_owned(), cells)
            })
            .collect();
        Self::Grid(Grid {
            rows_are_hosts,
            columns: columns.into_iter().map(str::to_owned).collect(),
            rows,
        })
    }
}

fn summary(certificates: &[v1::CertificateStatus], now: Timestamp) -> Vec<Line> {
    let mut lines: Vec<Line> = certificates
        .iter()
        .map(|certificate| line(certificate, now))
        .collect();
    // Stable: of equal weight by name.
    lines.sort_by_key(|line| std::cmp::Reverse(worst(line)));
    lines
}

fn worst(line: &Line) -> Option<Tone> {
    line.counts.iter().map(|(mark, _)| mark.tone).max()
}

fn line(certificate: &v1::CertificateStatus, now: Timestamp) -> Line {
    let mut counts: BTreeMap<Mark, usize> = BTreeMap::new();
    let mut troubles = Vec::new();
    for host in &certificate.hosts {
        let cell = Cell::new(&certificate.name, host, now);
        *counts.entry(cell.mark).or_default() += 1;
        if !cell.is_well() {
            troubles.push(cell);
        }
    }
    troubles.sort_by_key(|cell| std::cmp::Reverse(cell.mark.tone));
    let more = troubles.len().saturating_sub(TROUBLES);
    troubles.truncate(TROUBLES);
    Line {
        certificate: certificate.name.clone(),
        counts: counts.into_iter().rev().collect(),
        troubles,
        more,
    }
}

#[cfg(test)]
mod tests {
    use v1::HostState;

    use super::{
        super::cell::tests::{host, now},
        *,
    };

    fn certificate(name: &str, hosts: &[(&str, HostState)]) -> v1::CertificateStatus {
        v1::CertificateStatus {
            name: name.into(),
            generation: 7,
            hosts: hosts
                .iter()
                .map(|(name, state)| host(name, *state, 6, Some(7)))
                .collect(),
            ..v1::CertificateStatus::default()
        }
    }

    fn many(certificates: usize, hosts: usize) -> Vec<v1::CertificateStatus> {
        let names: Vec<String> = (0..hosts).map(|n| format!("edge-{n:03}")).collect();
        let all: Vec<(&str, HostState)> = names
            .iter()
            .map(|name| (name.as_str(), HostState::Converged))
            .collect();
        (0..certificates)
            .map(|n| certificate(&format!("c{n:02}"), &all))
            .collect()
    }

    #[test]
    fn the_fewer_are_the_columns_and_where_neither_is_few_there_is_a_summary() {
        for (certificates, hosts, expected) in [
            (1, 4, "certificates in rows"),
            (30, 6, "certificates in rows"),
            (6, 30, "hosts in rows"),
            (1, 30, "hosts in rows"),
            (7, 7, "summary"),
            (1, 31, "summary"),
            (50, 200, "summary"),
            (0, 0, "empty"),
            (3, 0, "empty"),
        ] {
            let found = match Matrix::new(&many(certificates, hosts), now()) {
                Matrix::Empty => "empty",
                Matrix::Summary(_) => "summary",
                Matrix::Grid(grid) => {
                    let size = (grid.rows.len(), grid.columns.len());
                    if grid.rows_are_hosts {
                        assert_eq!(size, (hosts, certificates));
                        "hosts in rows"
                    } else {
                        assert_eq!(size, (certificates, hosts));
                        "certificates in rows"
                    }
                }
            };
            assert_eq!(found, expected, "{certificates} × {hosts}");
        }
    }

    #[test]
    fn a_cell_stands_where_its_names_cross_and_nowhere_else() {
        let certificates = [
            certificate(
                "a",
                &[("x", HostState::Converged), ("y", HostState::Failed)],
            ),
            certificate("b", &[("y", HostState::Silent)]),
        ];
        let Matrix::Grid(grid) = Matrix::new(&certificates, now()) else {
            panic!("a grid")
        };
        let words: Vec<Vec<Option<&str>>> = grid
            .rows
            .iter()
            .map(|(_, cells)| {
                let word = |cell: &Option<Cell>| cell.as_ref().map(|cell| cell.mark.word);
                cells.iter().map(word).collect()
            })
            .collect();
        assert_eq!(
            words,
            [[Some("converged"), Some("failed")], [None, Some("silent")]]
        );
    }

    #[test]
    fn a_summary_shows_the_worst_first_and_counts_what_it_leaves_out() {
        let mut all = many(50, 200);
        for host in all[9].hosts.iter_mut().take(20) {
            host.state = HostState::Failed.into();
        }
        all[3].hosts[5].state = HostState::Held.into();
        let Matrix::Summary(lines) = Matrix::new(&all, now()) else {
            panic!("a summary")
        };
        assert_eq!(lines.len(), 50);
        assert_eq!(lines[0].certificate, "c09");
        assert_eq!((lines[0].troubles.len(), lines[0].more), (TROUBLES, 12));
        let counts: Vec<(&str, usize)> = lines[0]
            .counts
            .iter()
            .map(|(mark, count)| (mark.word, *count))
            .collect();
        assert_eq!(counts, [("failed", 20), ("converged", 180)]);
        assert_eq!(lines[1].certificate, "c03");
        assert_eq!(lines[2].certificate, "c00");
        assert!(lines[2].troubles.is_empty());
    }
}
