//! Brings what the agent needs onto a cluster, as it is shipped, and gives it a token as its pod has one.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use spotwarden::sim::objects::{Owner, PodSpec};
use tokio::time::{Instant, sleep};

use crate::controlplane::ControlPlane;
use crate::manifests::{base, documents, read};
use crate::peers::root;

/// Namespace and service account of the manifests.
pub(crate) const ACCOUNT: &str = "spotwarden";

/// The namespace, the service account and its rights.
pub(crate) fn rights() -> Vec<Value> {
    base().into_iter().filter(|document| document["kind"] != "DaemonSet" && !is_policy(document)).collect()
}

/// The policies that confine the token, and their bindings.
pub(crate) fn policies() -> Vec<Value> {
    base().into_iter().filter(is_policy).collect()
}

/// The policy of the component that confines evictions too, and its binding.
pub(crate) fn eviction_policy() -> Vec<Value> {
    documents(&read(&root().join("manifests/components/eviction-policy/admission-policy.yaml")))
}

fn is_policy(document: &Value) -> bool {
    document["apiVersion"].as_str().is_some_and(|version| version.starts_with("admissionregistration.k8s.io/"))
}

/// All that the agent needs but the agent itself: namespace, account, rights and policies. Returns when the policies are in
/// force.
pub(crate) async fn apply_access(admin: &kube::Client) {
    apply(admin, rights()).await;
    apply(admin, policies()).await;
    until_enforced(admin, ACCOUNT).await;
}

/// Server-side apply.
pub(crate) async fn apply(admin: &kube::Client, documents: Vec<Value>) {
    for document in documents {
        let object: DynamicObject = serde_json::from_value(document).expect("an object");
        let types = object.types.clone().expect("kind and version");
        let mut kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).expect("a group and version"));
        // The library guesses the plural.
        kind.plural = kind.plural.replace("policys", "policies");
        let name = object.metadata.name.clone().expect("a name");
        let api: Api<DynamicObject> = match object.metadata.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(admin.clone(), namespace, &kind),
            None => Api::all_with(admin.clone(), &kind),
        };
        let applied = api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
    }
}

/// Waits until the policies refuse what they have to, a moment after they are made. Asked as a dry run, by the agent's user
/// with all rights and without a node.
pub(crate) async fn until_enforced(admin: &kube::Client, account: &str) {
    let pod =
        json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "main", "image": "example.com/x"}]}});
    let probes = [
        ("/api/v1/nodes".to_owned(), json!({"metadata": {"name": "probe"}})),
        (format!("/api/v1/namespaces/{ACCOUNT}/pods"), pod),
    ];
    let end = Instant::now() + Duration::from_secs(60);
    for (path, object) in probes {
        loop {
            let request = http::Request::post(format!("{path}?dryRun=All"))
                .header("content-type", "application/json")
                .header("impersonate-user", format!("system:serviceaccount:{ACCOUNT}:{account}"))
                .header("impersonate-group", "system:masters")
                .body(object.to_string().into_bytes())
                .expect("a request");
            match admin.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => break,
                answer => assert!(Instant::now() < end, "no policy refuses to POST {path}: {answer:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A token as the DaemonSet's pod on this node has it, with the rights of the manifests and confined by their policies.
pub(crate) async fn agent_token(plane: &ControlPlane, node: &str) -> String {
    apply_access(&plane.admin_client()).await;
    token_on(plane, ACCOUNT, node).await
}

/// The token of a pod of the account on this node, whether the node exists or not.
pub(crate) async fn token_on(plane: &ControlPlane, account: &str, node: &str) -> String {
    let mut pod = PodSpec::new(ACCOUNT, &format!("{account}-{node}")).on(node).owned_by(Owner::DaemonSet).build();
    pod.spec.as_mut().expect("a spec").service_account_name = Some(account.into());
    let pods = Api::<Pod>::namespaced(plane.admin_client(), ACCOUNT);
    let pod = pods.create(&PostParams::default(), &pod).await.expect("a pod");
    let (name, uid) = (pod.metadata.name.expect("a name"), pod.metadata.uid.expect("a UID"));
    plane.pod_token(ACCOUNT, account, &name, &uid).await
}

/// A second account whose policies are the same but for the lists that the component `nth-compatible-taints` replaces.
pub(crate) async fn apply_access_of_termination_handler(admin: &kube::Client, account: &str) {
    let mut all = rights();
    all.retain(|document| {
        document["kind"] == "ServiceAccount" || document["kind"].as_str().unwrap_or_default().ends_with("Binding")
    });
    for document in &mut all {
        document["metadata"]["name"] = account.into();
        if document["subjects"].is_array() {
            document["subjects"][0]["name"] = account.into();
        }
    }
    let component: Value =
        documents(&read(&root().join("manifests/components/nth-compatible-taints/kustomization.yaml"))).remove(0);
    let lists = component["patches"][1]["patch"].as_str().expect("a patch of the policy");
    let lists: Vec<Value> = serde_saphyr::from_str(lists).expect("a JSON Patch");
    let mut policies = policies();
    for document in &mut policies {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().replace(ACCOUNT, account);
        document["metadata"]["name"] = name.clone().into();
        if document["kind"] == "ValidatingAdmissionPolicyBinding" {
            document["spec"]["policyName"] = name.into();
            continue;
        }
        document["spec"]["matchConditions"][0]["expression"] =
            format!("request.userInfo.username == 'system:serviceaccount:{ACCOUNT}:{account}'").into();
        for operation in &lists {
            let path = operation["path"].as_str().unwrap_or_default();
            match (operation["op"].as_str(), document.pointer_mut(path)) {
                (Some("replace"), Some(expression)) if name.ends_with("own-node") => {
                    *expression = operation["value"].clone();
                }
                (Some("test"), Some(there)) if name.ends_with("own-node") => assert_eq!(*there, operation["value"]),
                _ => {}
            }
        }
    }
    apply(admin, all).await;
    apply(admin, policies).await;
    until_enforced(admin, account).await;
}
