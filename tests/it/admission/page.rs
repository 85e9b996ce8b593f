//! The table of attempts in docs/permissions.md is made of the cases that the real API server judges.

use std::path::Path;

use serde_json::Value;

use super::case::{Case, Outcome};
use super::{evictions, nodes, pods};
use crate::kustomize::{Copy, parsed, render};

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

/// Blocks of YAML on the page, in order.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

#[test]
fn what_the_page_has_for_another_namespace_and_another_taint_works() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let blocks = blocks(&page);
    assert_eq!(blocks.len(), 2);
    let copy = Copy::new("permissions");
    let built = |name: &str, text: &str| parsed(&render(&copy.with(name, text)).unwrap());
    let policies = |documents: &[Value]| -> Vec<Value> {
        documents.iter().filter(|one| one["kind"] == "ValidatingAdmissionPolicy").cloned().collect()
    };
    let elsewhere = built("elsewhere", blocks[0]);
    let account = elsewhere.iter().find(|one| one["kind"] == "ServiceAccount").unwrap();
    assert_eq!(account["metadata"]["namespace"], "node-agents");
    for policy in policies(&elsewhere) {
        assert_eq!(
            policy["spec"]["matchConditions"][0]["expression"],
            "request.userInfo.username == 'system:serviceaccount:node-agents:spotwarden'"
        );
    }
    let retainted = policies(&built("retainted", &format!("resources: [../base]\n{}", blocks[1])));
    assert_eq!(retainted.len(), 2);
    let keys = &retainted.iter().find(|one| one["metadata"]["name"] == "spotwarden-own-node").unwrap()["spec"];
    assert_eq!(keys["variables"][0]["expression"], "['example.com/going', 'spotwarden/pod-ips-exhausted']");
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
