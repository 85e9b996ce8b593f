//! Files that are shipped in several places are copies of one: a chart and a kustomize component can read nothing outside
//! of their folders. `UPDATE_GOLDEN=1 cargo test --test it shared_files` makes the copies anew.

use std::path::Path;

/// What the copy has that its source has not.
enum Form {
    /// Nothing, byte for byte.
    Same,
    /// A resource around it: this before it, and each of its lines indented by so much.
    Within { head: &'static str, indent: usize },
}

/// Source, copy, how they differ.
const COPIES: &[(&str, &str, Form)] = &[
    ("monitoring/rules.yaml", "chart/files/rules.yaml", Form::Same),
    ("monitoring/dashboard.json", "chart/files/dashboard.json", Form::Same),
    ("monitoring/alertmanager.yaml", "chart/files/alertmanager.yaml", Form::Same),
    ("monitoring/collector/upstream.yaml", "chart/files/collector-upstream.yaml", Form::Same),
    ("monitoring/collector/adot.yaml", "chart/files/collector-adot.yaml", Form::Same),
    ("monitoring/dashboard.json", "manifests/components/grafana-dashboard/spotwarden.json", Form::Same),
    ("monitoring/collector/adot.yaml", "manifests/components/adot-collector/adot.yaml", Form::Same),
    (
        "monitoring/rules.yaml",
        "manifests/components/prometheusrule/prometheus-rule.yaml",
        Form::Within {
            head: "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: spotwarden\n  \
                   namespace: spotwarden\n  labels:\n    app.kubernetes.io/name: spotwarden\n    \
                   app.kubernetes.io/instance: spotwarden\n    app.kubernetes.io/part-of: spotwarden\nspec:\n",
            indent: 2,
        },
    ),
];

fn copied(source: &str, form: &Form) -> String {
    match form {
        Form::Same => source.to_owned(),
        Form::Within { head, indent } => {
            let lines = source.lines().map(|line| match line {
                "" => String::new(),
                line => format!("{:indent$}{line}", "", indent = *indent),
            });
            format!("{head}{}\n", lines.collect::<Vec<_>>().join("\n"))
        }
    }
}

#[test]
fn a_copy_within_a_resource_is_indented_and_its_empty_lines_stay_empty() {
    let form = Form::Within { head: "spec:\n", indent: 2 };
    assert_eq!(copied("a:\n\n  b: 1\n", &form), "spec:\n  a:\n\n    b: 1\n");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn every_copy_is_what_its_source_makes_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (source, copy, form) in COPIES {
        let text = std::fs::read_to_string(root.join(source)).unwrap_or_else(|error| panic!("{source}: {error}"));
        let (wanted, path) = (copied(&text, form), root.join(copy));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(&path, &wanted).unwrap_or_else(|error| panic!("{copy}: {error}"));
        }
        let found = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{copy}: {error}"));
        let how = "UPDATE_GOLDEN=1 cargo test --test it shared_files";
        assert!(found == wanted, "{copy} is not {source} any more; change the source, then {how}");
    }
}
