//! What `spotwarden migrate` prints for people who come from the AWS node termination handler is what the chart takes.

use std::process::{Command, Stdio};

use super::{container, objects, of_kind};
use crate::peers::root;

#[rstest::rstest]
#[case("values.yaml", &[])]
#[case("values.yaml", &["--beside"])]
#[case("example.yaml", &[])]
#[case("example.yaml", &["--beside"])]
fn values_that_were_translated_render(#[case] file: &str, #[case] more: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_spotwarden"))
        .args(["migrate", "--values"])
        .arg(root().join("tests/golden/nth").join(file))
        .args(more)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let values = String::from_utf8(output.stdout).unwrap();
    assert!(!values.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects = objects(&values);
    let daemon_set = container(of_kind(&objects, "DaemonSet").unwrap());
    super::settings::judged(daemon_set).unwrap_or_else(|error| panic!("{error}:\n{values}"));
    let dry = daemon_set["env"].as_array().unwrap().iter().any(|variable| variable["name"] == "SPOTWARDEN_DRY_RUN");
    assert_eq!(dry, more.contains(&"--beside"));
}
