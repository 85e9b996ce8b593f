//! Helm itself on a real API server: both majors install, upgrade, roll back and remove the chart.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client};

use super::MAJORS;
use super::cluster::{Cluster, runtime};

/// Everything that carries the label of a release, by kind and name.
async fn left(client: &Client, release: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (group, version, kind) in [
        ("apps", "v1", "DaemonSet"),
        ("", "v1", "ServiceAccount"),
        ("", "v1", "ConfigMap"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io", "v1", "Role"),
        ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
        ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
        ("monitoring.coreos.com", "v1", "PodMonitor"),
        ("monitoring.coreos.com", "v1", "PrometheusRule"),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let selector = format!("app.kubernetes.io/instance={release},app.kubernetes.io/managed-by=Helm");
        let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let list = objects.list(&ListParams::default().labels(&selector)).await.unwrap();
        found.extend(list.into_iter().map(|object| format!("{kind}/{}", object.metadata.name.unwrap())));
    }
    found
}

#[test]
fn both_majors_of_helm_install_upgrade_and_remove_it() {
    let cluster = Cluster::shared();
    for helm in MAJORS {
        // Each its own release, so that names that reach over the cluster differ.
        let (release, place) = (format!("spotwarden-{}", helm.0), format!("install-{}", helm.0));
        let run = |arguments: &[&str]| {
            let said = cluster.helm(helm, &[arguments, &["--namespace", &place]].concat());
            assert!(said.passed, "{helm:?} {arguments:?}: {}", said.err);
            said.out
        };
        let daemon_set = || {
            runtime().block_on(async {
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "DaemonSet"));
                let api = Api::<DynamicObject>::namespaced_with(cluster.plane.admin_client(), &place, &resource);
                api.get(&release).await.unwrap()
            })
        };
        let notes = run(&["install", &release, "chart", "--create-namespace", "--set=podMonitor.enabled=auto"]);
        assert!(notes.contains(&format!("kubectl rollout status daemonset/{release} -n {place}")), "{notes}");
        assert!(!notes.contains("Left out"), "the cluster has the kind: {notes}");
        let before = daemon_set();
        let installed = runtime().block_on(async { left(&cluster.plane.admin_client(), &release).await });
        assert!(installed.contains(&format!("PodMonitor/{release}")), "{installed:?}");

        // The same again changes nothing, so that whoever compares sees no drift.
        run(&["upgrade", &release, "chart", "--reuse-values"]);
        assert_eq!(daemon_set().metadata.generation, before.metadata.generation, "{helm:?}");
        let values = ["--values=chart/ci/prometheus-operator-values.yaml", "--set=dryRun=true,image.tag=0.2.0"];
        run(&[&["upgrade", &release, "chart"], &values[..]].concat());
        let after = daemon_set();
        assert_ne!(after.metadata.generation, before.metadata.generation);
        assert_eq!(after.data["spec"]["selector"], before.data["spec"]["selector"]);
        assert_eq!(after.data["spec"]["template"]["spec"]["containers"][0]["image"], "spotwarden:0.2.0");
        run(&["rollback", &release, "1"]);
        assert_eq!(daemon_set().data["spec"]["template"], before.data["spec"]["template"]);

        run(&["uninstall", &release]);
        let left = runtime().block_on(async { left(&cluster.plane.admin_client(), &release).await });
        assert!(left.is_empty(), "{helm:?} leaves {left:?}");
    }
}

/// A cluster without the Prometheus operator: monitors are left out and that is said, or insisted on and refused before
/// anything is made.
#[test]
fn a_cluster_without_the_operator_gets_no_monitors_or_an_error() {
    let cluster = Cluster::start();
    for helm in MAJORS {
        let install = |values: &str, more: &[&str]| {
            let arguments =
                ["install", "spotwarden", "chart", "--namespace=bare", "--create-namespace", "--set", values];
            cluster.helm(helm, &[&arguments[..], more].concat())
        };
        let said = install("podMonitor.enabled=true,prometheusRule.enabled=true", &[]);
        assert!(!said.passed);
        for key in ["podMonitor.enabled is true, and the cluster has no PodMonitor", "prometheusRule.enabled is true"] {
            assert!(said.err.contains(key), "{helm:?}: {}", said.err);
        }
        let said = install("podMonitor.enabled=auto", &[]);
        assert!(said.passed, "{}", said.err);
        assert!(
            said.out.contains("Left out: podMonitor, as this cluster is not known to have the kind PodMonitor"),
            "{}",
            said.out
        );
        assert!(cluster.helm(helm, &["uninstall", "spotwarden", "--namespace=bare"]).passed);
    }
}
