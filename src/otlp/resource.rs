//! What the telemetry is about, in the words of the semantic conventions (1.44).
//!
//! Pure. What is not known is left out; what `OTEL_RESOURCE_ATTRIBUTES` says wins over what was found out, and
//! `OTEL_SERVICE_NAME` over that.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::config::otlp::ResourceConfig;
use crate::identity::NodeIdentity;

/// The conventions that the names are from.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Name of the container, as the shipped manifests have it.
const CONTAINER: &str = "spotwarden";

/// A text attribute.
pub fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// The resource of this agent as far as it is known now.
pub fn resource(config: &ResourceConfig, node: &NodeIdentity) -> Resource {
    let mut attributes = detected(config, node);
    let given = config.attributes.iter().map(|(key, value)| (key.clone(), value.clone()));
    let service = config.service_name.iter().map(|name| ("service.name".to_owned(), name.clone()));
    for (key, value) in given.chain(service) {
        attributes.retain(|(known, _)| *known != key);
        attributes.push((key, value));
    }
    let attributes = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    Resource { attributes, ..Resource::default() }
}

/// Who says all this.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "spotwarden".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}

fn detected(config: &ResourceConfig, node: &NodeIdentity) -> Vec<(String, String)> {
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    let (pod, namespace) = (config.pod_name.clone(), config.pod_namespace.clone());
    // Kubernetes' form of the conventions: it tells apart what runs at the same time, and a restart changes nothing.
    let instance = match (&namespace, &pod) {
        (Some(namespace), Some(pod)) => Some(format!("{namespace}.{pod}.{CONTAINER}")),
        _ => text(&node.node),
    };
    let on_ec2 = !node.instance_id.is_empty();
    let ec2 = |value: &str| text(value).filter(|_| on_ec2);
    let attributes = [
        ("service.name", text("spotwarden")),
        ("service.version", text(env!("CARGO_PKG_VERSION"))),
        ("service.namespace", namespace.clone()),
        ("service.instance.id", instance),
        ("k8s.node.name", text(&node.node)),
        ("k8s.node.uid", text(&node.node_uid)),
        ("k8s.namespace.name", namespace),
        ("k8s.container.name", pod.is_some().then(|| CONTAINER.to_owned())),
        ("k8s.pod.name", pod),
        ("k8s.pod.uid", config.pod_uid.clone()),
        ("cloud.provider", ec2("aws")),
        ("cloud.platform", ec2("aws_eks")),
        ("cloud.region", ec2(&node.region)),
        ("cloud.availability_zone", ec2(&node.zone)),
        ("cloud.account.id", ec2(&node.account_id)),
        ("host.id", ec2(&node.instance_id)),
        ("host.type", ec2(&node.instance_type)),
        ("host.name", ec2(&node.node)),
        ("host.image.id", ec2(&node.image_id)),
        ("host.arch", ec2(architecture(&node.architecture))),
    ];
    attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// From EC2's word to the conventions'.
fn architecture(word: &str) -> &str {
    match word {
        "x86_64" => "amd64",
        other => other,
    }
}
