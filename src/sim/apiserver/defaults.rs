//! What the server adds to a new object: the defaults of its type and of the admission plug-ins that are always on.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    object::{meta_str, set, set_meta, stamp, suffix, uid},
    resource::{BUDGETS, NAMESPACES, NODES, PODS, Resource, ResourceId},
    store::Store,
};

/// Identity and bookkeeping of a new object. Whatever the creator sent of it is replaced.
pub(super) fn stamp_new(store: &mut Store, resource: &Resource, wall: Timestamp, object: &mut Value) {
    let serial = store.next_serial();
    if meta_str(object, "name").is_empty() && !meta_str(object, "generateName").is_empty() {
        let name = format!("{}{}", meta_str(object, "generateName"), suffix(serial));
        set_meta(object, "name", json!(name));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "managedFields"] {
        set_meta(object, field, Value::Null);
    }
    set_meta(object, "uid", json!(uid(serial)));
    set_meta(object, "creationTimestamp", json!(stamp(wall)));
    set_meta(object, "generation", if resource.has_generation { json!(1) } else { Value::Null });
}

/// Defaults by type.
pub(super) fn fill(id: ResourceId, resource: &Resource, object: &mut Value) {
    if resource.has_status && !resource.keeps_status_on_create {
        put(object, "status", json!({}));
    }
    match id {
        PODS => fill_pod(object),
        NODES => fill_node(object),
        NAMESPACES => {
            let name = meta_str(object, "name").to_owned();
            put(object, "status", json!({"phase": "Active"}));
            set(object, "spec", "finalizers", json!(["kubernetes"]));
            let mut labels = object.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
            if let Some(labels) = labels.as_object_mut() {
                labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
            }
            set_meta(object, "labels", labels);
        }
        BUDGETS => {
            put(
                object,
                "status",
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
            );
        }
        _ => {}
    }
}

fn fill_pod(pod: &mut Value) {
    put(pod, "status", json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let host_network = pod.pointer("/spec/hostNetwork") == Some(&json!(true));
    let spec = json!({
        "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0, "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
        "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
    });
    default_fields(pod, "spec", &spec);
    let account = pod.pointer("/spec/serviceAccountName").cloned().unwrap_or(Value::Null);
    set(pod, "spec", "serviceAccount", account);
    default_tolerations(pod);
    let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        let policy = pull_policy(container);
        let fields = json!({
            "imagePullPolicy": policy, "resources": {}, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        });
        extend_missing(container, &fields);
    }
    if host_network {
        set(pod, "spec", "hostNetwork", json!(true));
    }
}

/// `Always` for `latest` and untagged images.
fn pull_policy(container: &Map<String, Value>) -> &'static str {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map_or("latest", |(_, tag)| tag);
    if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" }
}

fn default_tolerations(pod: &mut Value) {
    let mut tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|toleration| {
            let effect = toleration.get("effect").and_then(Value::as_str).unwrap_or_default();
            let own = toleration.get("key").and_then(Value::as_str).unwrap_or_default();
            (own == key || own.is_empty()) && (effect.is_empty() || effect == "NoExecute")
        });
        if !covered {
            let toleration = json!({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300});
            tolerations.push(toleration);
        }
    }
    set(pod, "spec", "tolerations", Value::Array(tolerations));
}

fn fill_node(node: &mut Value) {
    default_fields(node, "spec", &json!({}));
    let fields = [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ];
    let info: Map<String, Value> = fields.iter().map(|&field| (field.to_owned(), json!(""))).collect();
    let status = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": info});
    default_fields(node, "status", &status);
}

fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(root) = object.as_object_mut() {
        root.insert(field.to_owned(), value);
    }
}

fn default_fields(object: &mut Value, section: &str, defaults: &Value) {
    let Some(root) = object.as_object_mut() else { return };
    let section = root.entry(section).or_insert_with(|| json!({}));
    if let Some(section) = section.as_object_mut() {
        extend_missing(section, defaults);
    }
}

fn extend_missing(map: &mut Map<String, Value>, defaults: &Value) {
    for (key, value) in defaults.as_object().into_iter().flatten() {
        map.entry(key.clone()).or_insert_with(|| value.clone());
    }
}
