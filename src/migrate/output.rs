//! A migration as text: values with comments for Helm, or JSON for machines. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::mapping::{Kind, Migration, Note};
use super::yaml::comment;

/// Headings of the notes.
const HEADINGS: [(Kind, &str); 5] = [
    (Kind::Hand, "By hand"),
    (Kind::Unknown, "Not understood"),
    (Kind::NoEquivalent, "No equivalent"),
    (Kind::Different, "Different on purpose"),
    (Kind::Idle, "Without effect in NTH too"),
];

/// A file of values for the chart.
pub fn helm(migration: &Migration) -> String {
    let mut out = String::new();
    comment(
        &mut out,
        "",
        "Values of spotwarden's chart that do what these values of aws-node-termination-handler (NTH) did. What is not here \
         is as by default. Notes are at the end; docs/migrate-from-nth.md explains them.",
    );
    out.push('\n');
    out.push_str(&migration.values.text());
    for (kind, heading) in HEADINGS {
        let notes: Vec<&Note> = migration.notes.iter().filter(|note| note.kind == kind).collect();
        if notes.is_empty() {
            continue;
        }
        _ = write!(out, "\n# {heading}\n");
        for note in notes {
            let place = note.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            let end = if note.text.ends_with('?') { "" } else { "." };
            comment(&mut out, "", &format!("- {}{place}: {}{end}", note.key, note.text));
        }
    }
    if !migration.idle.is_empty() {
        out.push('\n');
        comment(
            &mut out,
            "",
            &format!("Nothing to carry over, being NTH's default or always so here: {}.", migration.idle.join(", ")),
        );
    }
    out
}

/// One JSON object.
pub fn json(migration: &Migration) -> String {
    let notes: Vec<Value> = migration
        .notes
        .iter()
        .map(|note| {
            json!({
                "kind": note.kind.as_str(),
                "key": note.key,
                "file": note.place.as_ref().map(|place| &*place.file),
                "line": note.place.as_ref().map(|place| place.line),
                "text": note.text,
            })
        })
        .collect();
    let whole = json!({
        "values": migration.values.json(),
        "notes": notes,
        "at_default": migration.idle,
        "needs_a_hand": migration.needs_a_hand(),
    });
    format!("{whole:#}\n")
}
