//! What the manifests grant and ask for.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, Subject};
use serde_json::Value;
use spotwarden::check::access::{RIGHTS, Right};
use spotwarden::config::settings::SETTINGS;

/// One permission: API group (empty for core), resource with its subresource (`pods/eviction`), verb.
pub(crate) type Permission = (String, String, String);

/// All documents of the kustomize base.
pub(crate) fn base() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base");
    let kustomization: Value = serde_saphyr::from_str(&read(&folder.join("kustomization.yaml"))).expect("YAML");
    let files = kustomization["resources"].as_array().expect("resources");
    files.iter().flat_map(|file| documents(&read(&folder.join(file.as_str().expect("a name"))))).collect()
}

pub(crate) fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

pub(crate) fn documents(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).expect("YAML documents")
}

fn of_kind<'a>(documents: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |document| document["kind"] == kind)
}

/// Every permission that the Roles and ClusterRoles in `manifest` (YAML, any number of documents) grant.
///
/// # Panics
/// On a rule that cannot be compared call by call: a wildcard, or a rule without resources.
pub(crate) fn rules_of(manifest: &str) -> BTreeSet<Permission> {
    rules_in(&documents(manifest))
}

/// Every permission that the kustomize base grants to the agent.
pub(crate) fn granted() -> BTreeSet<Permission> {
    rules_of(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base/rbac.yaml")))
}

fn rules_in(documents: &[Value]) -> BTreeSet<Permission> {
    let cluster = of_kind(documents, "ClusterRole").flat_map(|document| {
        let role: ClusterRole = serde_json::from_value(document.clone()).expect("a ClusterRole");
        assert!(role.aggregation_rule.is_none(), "an aggregated role grants what others decide");
        role.rules.unwrap_or_default()
    });
    let namespaced = of_kind(documents, "Role").flat_map(|document| {
        let role: Role = serde_json::from_value(document.clone()).expect("a Role");
        role.rules.unwrap_or_default()
    });
    cluster.chain(namespaced).flat_map(|rule| permissions(&rule)).collect()
}

fn permissions(rule: &PolicyRule) -> Vec<Permission> {
    let groups = rule.api_groups.as_deref().expect("apiGroups");
    let resources = rule.resources.as_deref().expect("resources");
    assert!(rule.non_resource_urls.is_none(), "the agent asks for resources only");
    assert!(rule.resource_names.is_none(), "a name makes a permission smaller; this comparison would not see it");
    let mut all = Vec::new();
    for group in groups {
        for resource in resources {
            for verb in &rule.verbs {
                assert!(![group, resource, verb].iter().any(|part| part.contains('*')), "a wildcard in {rule:?}");
                all.push((group.clone(), resource.clone(), verb.clone()));
            }
        }
    }
    all
}

fn daemon_set() -> DaemonSet {
    let documents = base();
    let mut found = of_kind(&documents, "DaemonSet");
    let one = serde_json::from_value(found.next().expect("a DaemonSet").clone()).expect("a DaemonSet");
    assert!(found.next().is_none(), "one DaemonSet");
    one
}

#[test]
fn rules_are_multiplied_out_over_groups_resources_and_verbs() {
    let manifest = "
kind: ClusterRole
rules:
  - {apiGroups: [''], resources: [pods, pods/eviction], verbs: [create, list]}
---
kind: ConfigMap
---
kind: Role
rules:
  - {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
";
    let expected = [
        ("", "pods", "create"),
        ("", "pods", "list"),
        ("", "pods/eviction", "create"),
        ("", "pods/eviction", "list"),
        ("events.k8s.io", "events", "create"),
    ];
    let expected: BTreeSet<Permission> =
        expected.iter().map(|(group, resource, verb)| ((*group).into(), (*resource).into(), (*verb).into())).collect();
    assert_eq!(rules_of(manifest), expected);
}

#[test]
#[should_panic(expected = "a wildcard")]
fn a_wildcard_is_not_a_rule_that_can_be_compared() {
    rules_of("{kind: Role, rules: [{apiGroups: [''], resources: [pods], verbs: ['*']}]}");
}

#[test]
fn all_rules_are_where_the_comparison_with_the_calls_looks_for_them() {
    assert_eq!(granted(), rules_in(&base()));
    assert!(!granted().is_empty());
}

#[test]
fn check_asks_for_exactly_the_rights_that_are_granted() {
    let asked: BTreeSet<Permission> =
        RIGHTS.iter().map(|right| (right.group.to_owned(), right.resource_path(), right.verb.to_owned())).collect();
    assert_eq!(asked, granted());
    let documents = base();
    let of_roles: BTreeSet<&str> =
        of_kind(&documents, "Role").filter_map(|role| role["metadata"]["namespace"].as_str()).collect();
    let of_rights: BTreeSet<&str> = RIGHTS.iter().map(Right::namespace).filter(|name| !name.is_empty()).collect();
    assert_eq!(of_rights, of_roles);
}

#[test]
fn nothing_is_granted_that_reaches_beyond_nodes_pods_and_events() {
    let resources: BTreeSet<String> = granted().into_iter().map(|(_, resource, _)| resource).collect();
    assert_eq!(Vec::from_iter(resources), ["events", "nodes", "pods", "pods/eviction", "pods/status"]);
    for (group, resource, verb) in granted() {
        assert!(!["update", "deletecollection", "escalate", "bind", "impersonate"].contains(&verb.as_str()), "{verb}");
        assert!(!(resource == "nodes" && verb == "delete"), "{group}/{resource} {verb}");
        assert!(!(resource == "pods" && ["create", "patch"].contains(&verb.as_str())), "{group}/{resource} {verb}");
    }
}

#[test]
fn every_role_is_bound_to_the_service_account_of_the_daemon_set_and_to_nobody_else() {
    let documents = base();
    let daemon_set = daemon_set();
    let pod = daemon_set.spec.expect("spec").template.spec.expect("pod spec");
    for (role, binding) in [("ClusterRole", "ClusterRoleBinding"), ("Role", "RoleBinding")] {
        for role in of_kind(&documents, role) {
            let bindings: Vec<&Value> = of_kind(&documents, binding)
                .filter(|binding| {
                    binding["roleRef"]["kind"] == role["kind"]
                        && binding["roleRef"]["name"] == role["metadata"]["name"]
                        && binding["metadata"]["namespace"] == role["metadata"]["namespace"]
                })
                .collect();
            assert_eq!(bindings.len(), 1, "bindings of {}", role["metadata"]["name"]);
            let subjects: Vec<Subject> = serde_json::from_value(bindings[0]["subjects"].clone()).expect("subjects");
            assert_eq!(subjects.len(), 1);
            assert_eq!(subjects[0].kind, "ServiceAccount");
            assert_eq!(Some(&subjects[0].name), pod.service_account_name.as_ref());
            assert_eq!(subjects[0].namespace, daemon_set.metadata.namespace);
        }
    }
    let account = of_kind(&documents, "ServiceAccount").next().expect("a ServiceAccount");
    assert_eq!(account["metadata"]["name"].as_str(), pod.service_account_name.as_deref());
    assert_eq!(account["automountServiceAccountToken"], false, "the token is for the agent's pods alone");
    assert_eq!(pod.automount_service_account_token, Some(true));
}

#[test]
fn the_pod_asks_for_nothing_beyond_the_restricted_level_but_the_host_network() {
    let pod = daemon_set().spec.expect("spec").template.spec.expect("pod spec");
    assert_eq!(pod.host_network, Some(true), "IMDS answers with a hop limit of 1");
    assert_ne!(pod.host_pid, Some(true));
    assert_ne!(pod.host_ipc, Some(true));
    assert!(pod.volumes.is_none(), "no hostPath, and nothing else either");
    let security = pod.security_context.expect("pod securityContext");
    assert_eq!(security.run_as_non_root, Some(true));
    assert!(security.run_as_user.is_some_and(|user| user > 0));
    assert_eq!(security.seccomp_profile.expect("seccompProfile").type_, "RuntimeDefault");
    assert_eq!(pod.containers.len(), 1);
    let container = pod.containers[0].security_context.clone().expect("container securityContext");
    assert_eq!(container.allow_privilege_escalation, Some(false));
    assert_eq!(container.read_only_root_filesystem, Some(true));
    assert_ne!(container.privileged, Some(true));
    let capabilities = container.capabilities.expect("capabilities");
    assert_eq!(capabilities.drop, Some(vec!["ALL".into()]));
    assert!(capabilities.add.is_none());
}

/// A term of the affinity that forgets the exclusion would put the agent on nodes that have no IMDS.
#[test]
fn every_way_to_recognise_a_spot_node_excludes_nodes_that_are_not_ours() {
    let pod = daemon_set().spec.expect("spec").template.spec.expect("pod spec");
    let affinity = pod.affinity.and_then(|a| a.node_affinity).expect("nodeAffinity");
    let terms = affinity.required_during_scheduling_ignored_during_execution.expect("required").node_selector_terms;
    let mut conventions = Vec::new();
    for term in terms {
        let expressions = term.match_expressions.expect("matchExpressions");
        let excluded = expressions.iter().find(|e| e.operator == "NotIn").expect("an exclusion");
        assert_eq!(excluded.key, "eks.amazonaws.com/compute-type");
        assert_eq!(excluded.values.as_deref().unwrap_or_default(), ["auto", "fargate", "hybrid"]);
        conventions.extend(expressions.into_iter().filter(|e| e.operator == "In").map(|e| e.key));
    }
    conventions.sort();
    assert_eq!(
        conventions,
        [
            "eks.amazonaws.com/capacityType",
            "karpenter.sh/capacity-type",
            "node-lifecycle",
            "node.kubernetes.io/lifecycle"
        ]
    );
}

/// A selector cannot be changed on a cluster that has it, and scrape jobs put every label of a pod on every series.
#[test]
fn the_selector_is_for_good_and_the_pods_carry_few_labels() {
    let spec = daemon_set().spec.expect("spec");
    let pairs = |keys: &[&str]| -> std::collections::BTreeMap<String, String> {
        let value = |key: &str| if key == "component" { "agent" } else { "spotwarden" };
        keys.iter().map(|key| (format!("app.kubernetes.io/{key}"), value(key).to_owned())).collect()
    };
    assert_eq!(spec.selector.match_labels, Some(pairs(&["name", "instance"])));
    assert_eq!(spec.selector.match_expressions, None);
    let labels = spec.template.metadata.and_then(|metadata| metadata.labels);
    assert_eq!(labels, Some(pairs(&["name", "instance", "component"])));
}

#[test]
fn image_and_crate_have_the_same_version() {
    let kustomization: Value =
        serde_saphyr::from_str(include_str!("../../manifests/base/kustomization.yaml")).expect("YAML");
    assert_eq!(kustomization["images"][0]["name"], "spotwarden");
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

/// The agent refuses to start with a variable of its own prefix that it does not know.
#[test]
fn every_variable_of_the_pod_is_a_setting_and_the_node_s_name_is_among_them() {
    let pod = daemon_set().spec.expect("spec").template.spec.expect("pod spec");
    let names: Vec<String> = pod.containers[0].env.iter().flatten().map(|variable| variable.name.clone()).collect();
    assert!(names.iter().any(|name| name == "NODE_NAME"));
    for name in names {
        let downward = ["POD_NAME", "POD_NAMESPACE", "POD_UID", "HOST_IP", "POD_IP"].contains(&name.as_str());
        assert!(downward || SETTINGS.iter().any(|setting| setting.env == name), "{name} is no setting");
    }
}
