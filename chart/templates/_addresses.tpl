{{/* Every address among the values that the agent itself connects to, as a JSON list. Those of webhooks are secrets. */}}
{{- define "spotwarden.addresses" -}}
{{- $values := .Values -}}
{{- $otlp := list $values.otlp.endpoint $values.otlp.metrics.endpoint $values.otlp.traces.endpoint -}}
{{- $proxies := list $values.egress.httpsProxy $values.egress.httpProxy -}}
{{- concat $otlp $proxies $values.notifications.alertmanager.urls | compact | toJson -}}
{{- end }}

{{/* "true" if one of them can only be looked up in the cluster's DNS: by its suffix, or a name without a dot. */}}
{{- define "spotwarden.needsClusterDNS" -}}
{{- range include "spotwarden.addresses" . | fromJsonArray -}}
{{- $host := regexReplaceAll "^[A-Za-z]+://" . "" | regexFind "^[^/?#]*" | regexFind "^(\\[.*\\]|\\$\\([^)]*\\)|[^:]*)" | lower -}}
{{- $other := or (hasPrefix "[" $host) (hasPrefix "$(" $host) (eq $host "localhost") -}}
{{- if not $other -}}
{{- if or (not (contains "." $host)) (regexMatch "\\.svc(\\.|$)|\\.cluster\\.local\\.?$" $host) }}true{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "spotwarden.dnsPolicy" -}}
{{- if .Values.dnsPolicy -}}
{{- .Values.dnsPolicy -}}
{{- else if include "spotwarden.needsClusterDNS" . -}}
{{- .Values.hostNetwork | ternary "ClusterFirstWithHostNet" "ClusterFirst" -}}
{{- else -}}
Default
{{- end -}}
{{- end }}

{{/* The ports of these addresses, as a JSON list without repetitions. */}}
{{- define "spotwarden.ports" -}}
{{- $ports := list -}}
{{- range include "spotwarden.addresses" . | fromJsonArray -}}
{{- $authority := regexReplaceAll "^[A-Za-z]+://" . "" | regexFind "^[^/?#]*" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" | int -}}
{{- $ports = append $ports ($port | default (hasPrefix "https://" . | ternary 443 80)) -}}
{{- end -}}
{{- $ports | uniq | sortAlpha | toJson -}}
{{- end }}
