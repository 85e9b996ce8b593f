//! The table of attempts in docs/permissions.md is made of the cases that the real API server judges.

use std::path::Path;

use super::case::{Case, Outcome};
use super::{evictions, nodes, pods};

const PAGE: &str = "docs/permissions.md";
const BEGIN: &str = "<!-- attempts: written by UPDATE_GOLDEN=1 cargo test --test it admission -->\n";
const END: &str = "<!-- end of attempts -->\n";

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "possible",
        Outcome::NoRight => "no right",
        Outcome::Policy(_) => "**refused**",
        Outcome::Fails(_) => "fails",
    }
}

fn row(case: &Case, last: &str) -> Option<String> {
    Some(format!("| {} | {} | {last} |\n", case.page?, word(&case.rights)))
}

fn table() -> String {
    let head = "| with the agent's token | RBAC alone | with the policies |\n| --- | --- | --- |\n".to_owned();
    let confined = [nodes::cases(), pods::cases()].concat();
    let confined = confined.iter().filter_map(|case| row(case, word(&case.policies)));
    let evictions = evictions::cases();
    let evictions = evictions.iter().filter_map(|case| match &case.policies {
        Outcome::Policy(_) => row(case, "possible; **refused** with `eviction-policy`"),
        other => row(case, word(other)),
    });
    confined.chain(evictions).fold(head, |table, row| table + &row)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn the_page_on_permissions_tells_what_becomes_of_each_attempt() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let how = "look at it, then UPDATE_GOLDEN=1 cargo test --test it admission";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), wanted, "{PAGE} is not what the cases make it: {how}");
}
