{{/*
What is for the Prometheus operator. Arguments: root, the value's name, the kind.

A cluster tells helm (and Argo CD) which kinds it has, with names such as apps/v1/DaemonSet; `helm template` without a
cluster knows groups alone, and of the operator's nothing.
*/}}
{{- define "spotwarden.kindIsKnown" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 2 -}}
{{- $version := eq $kind "AlertmanagerConfig" | ternary "monitoring.coreos.com/v1alpha1" "monitoring.coreos.com/v1" -}}
{{- $apis := $root.Capabilities.APIVersions -}}
{{- if $apis.Has (printf "%s/%s" $version $kind) -}}
true
{{- else if and ($apis.Has $version) (not ($apis.Has "apps/v1/DaemonSet")) -}}
true
{{- end -}}
{{- end }}

{{/* "true" if it is known that the cluster has not got the kind. */}}
{{- define "spotwarden.kindIsMissing" -}}
{{- $root := index . 0 -}}
{{- if and ($root.Capabilities.APIVersions.Has "apps/v1/DaemonSet") (not (include "spotwarden.kindIsKnown" .)) (not $root.Values.assumeCRDs) -}}
true
{{- end -}}
{{- end }}

{{- define "spotwarden.isRendered" -}}
{{- $root := index . 0 -}}
{{- $enabled := (get $root.Values (index . 1)).enabled | toString -}}
{{- if eq $enabled "true" -}}
true
{{- else if eq $enabled "auto" -}}
{{- if or (include "spotwarden.kindIsKnown" .) $root.Values.assumeCRDs }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* Name, namespace and labels of what a monitoring stack reads. Arguments: root, the value, what is appended to the name. */}}
{{- define "spotwarden.monitoringMetadata" -}}
{{- $root := index . 0 -}}
{{- $value := index . 1 -}}
name: {{ include "spotwarden.fullname" $root }}{{ index . 2 }}
namespace: {{ $value.namespace | default (include "spotwarden.namespace" $root) }}
labels:
  {{- merge (dict) ($value.additionalLabels | default $value.labels | default dict) (include "spotwarden.labels" $root | fromYaml) | toYaml | nindent 2 }}
{{- end }}

{{/* What both kinds of monitors say about the scrape, after the port. Arguments: root, the value. */}}
{{- define "spotwarden.endpoint" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
path: /metrics
interval: {{ .interval }}
scrapeTimeout: {{ .scrapeTimeout }}
relabelings:
  {{- if ne (include "spotwarden.name" $root) "spotwarden" }}
  # The rules ask for this job, whatever the pods are called.
  - {targetLabel: job, replacement: spotwarden}
  {{- end }}
  # Not the address: the agent has that of its node, and the next node may get it.
  - {sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: instance}
  - {sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}
  {{- if (.attachMetadata | default dict).node }}
  - {sourceLabels: [__meta_kubernetes_node_label_topology_kubernetes_io_zone], targetLabel: zone}
  - {sourceLabels: [__meta_kubernetes_node_label_node_kubernetes_io_instance_type], targetLabel: instance_type}
  # Karpenter or a managed node group, as the agents name it in the alerts that they push.
  - {sourceLabels: [__meta_kubernetes_node_label_karpenter_sh_nodepool], regex: (.+), targetLabel: nodegroup}
  - {sourceLabels: [__meta_kubernetes_node_label_eks_amazonaws_com_nodegroup], regex: (.+), targetLabel: nodegroup}
  {{- end }}
  {{- with .relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* And about the targets. */}}
{{- define "spotwarden.targets" -}}
jobLabel: app.kubernetes.io/name
{{- with .attachMetadata }}
attachMetadata:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with int .sampleLimit }}
sampleLimit: {{ . }}
{{- end }}
{{- with int .labelLimit }}
labelLimit: {{ . }}
{{- end }}
{{- with .podTargetLabels }}
podTargetLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
