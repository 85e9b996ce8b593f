//! What becomes of each value of NTH's chart, and of each variable of its binary: the table `nth-values.txt`, which the
//! documentation shows too. Pure.

use serde_json::Value;

/// The table: plain text, so that a row is a line.
const TABLE: &str = include_str!("nth-values.txt");

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There is a value of the same name and meaning.
    Same,
    /// There is one of another name or form.
    Renamed,
    /// It is done otherwise, for a reason.
    Different,
    /// A person has to do something.
    Hand,
    /// There is none.
    None,
    /// It is for NTH's queue mode.
    Queue,
}

impl Fate {
    /// As the documentation has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Renamed => "renamed",
            Self::Different => "different on purpose",
            Self::Hand => "by hand",
            Self::None => "no equivalent",
            Self::Queue => "queue mode",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "same" => Self::Same,
            "renamed" => Self::Renamed,
            "different" => Self::Different,
            "hand" => Self::Hand,
            "none" => Self::None,
            "queue" => Self::Queue,
            _ => return None,
        })
    }
}

/// One value of NTH.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its path in the values of NTH's chart; in capitals the name of a variable that has none.
    pub key: &'static str,
    /// The variable that carries it.
    pub env: Option<&'static str>,
    /// NTH's default.
    pub default: Value,
    /// What becomes of it.
    pub fate: Fate,
    /// The value here that is about the same thing.
    pub ours: Option<&'static str>,
    /// What to know.
    pub note: &'static str,
}

/// Every row, in the order of the file.
pub fn rows() -> Vec<Row> {
    TABLE.lines().filter_map(row).collect()
}

fn row(line: &'static str) -> Option<Row> {
    let mut cells = line.splitn(6, " | ").map(str::trim);
    let (key, env, default) = (cells.next()?, cells.next()?, cells.next()?);
    let (fate, ours, note) = (cells.next()?, cells.next()?, cells.next()?);
    let some = |cell: &'static str| (cell != "-").then_some(cell);
    Some(Row {
        key,
        env: some(env),
        default: serde_json::from_str(default).ok()?,
        fate: Fate::parse(fate)?,
        ours: some(ours),
        note: some(note).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_row_and_none_comes_twice() {
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rows = rows();
        assert_eq!(lines.map(|line| line.split(" | ").next().unwrap()).collect::<Vec<_>>(), keys(&rows));
        let mut once = keys(&rows);
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), rows.len());
    }

    fn keys(rows: &[Row]) -> Vec<&'static str> {
        rows.iter().map(|row| row.key).collect()
    }

    #[test]
    fn a_row_says_what_it_promises() {
        for row in rows() {
            let places = matches!(row.fate, Fate::Same | Fate::Renamed | Fate::Hand);
            assert!(!places || row.ours.is_some(), "{}: no place here", row.key);
            assert!(matches!(row.fate, Fate::Same | Fate::Renamed) || !row.note.is_empty(), "{}: no reason", row.key);
        }
    }
}
