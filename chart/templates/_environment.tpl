{{/*
The agent's settings as variables, so that `spotwarden check` in the pod sees them too. What is not set renders nothing:
the agent's own default applies. A JSON list of [name, value].
*/}}
{{- define "spotwarden.settings" -}}
{{- $v := .Values -}}
{{- $on := get $v.notifications "on" | default (get $v.notifications "true") -}}
{{- $headroom := $v.cni.headroom -}}
{{- if kindIs "bool" $headroom }}{{ $headroom = $headroom | ternary "auto" "off" }}{{ end -}}
{{- $ipamd := or $v.cni.introspectionAddress $v.cni.metricsAddress -}}
{{- if not (or $headroom $v.hostNetwork $ipamd) }}{{ $headroom = "off" }}{{ end -}}
{{- $settings := list
  (list "SPOTWARDEN_ON_SPOT_INTERRUPTION" $v.responses.spotInterruption)
  (list "SPOTWARDEN_ON_REBALANCE_RECOMMENDATION" $v.responses.rebalanceRecommendation)
  (list "SPOTWARDEN_ON_SCHEDULED_EVENT" $v.responses.scheduledEvent)
  (list "SPOTWARDEN_ON_ASG_TERMINATION" $v.responses.asgTermination)
  (list "SPOTWARDEN_REBALANCE_EXPIRY" $v.rebalance.expiry)
  (list "SPOTWARDEN_SCHEDULED_EVENT_LEAD" $v.scheduledEvents.lead)
  (list "SPOTWARDEN_ASG_HOOK_TIMEOUT" $v.asg.hookTimeout)
  (list "SPOTWARDEN_ON_BLOCKED_EVICTION" $v.drain.onBlockedEviction)
  (list "SPOTWARDEN_SHUTDOWN_TAIL" $v.drain.shutdownTail)
  (list "SPOTWARDEN_SAFETY_MARGIN" $v.drain.safetyMargin)
  (list "SPOTWARDEN_LOAD_BALANCER_WAIT" $v.drain.loadBalancerWait)
  (list "SPOTWARDEN_SHUTDOWN_GRACE_BY_PRIORITY" ($v.drain.shutdownGraceByPriority | empty | ternary "" (toJson $v.drain.shutdownGraceByPriority)))
  (list "SPOTWARDEN_SPOT_POLL_INTERVAL" $v.polling.spot)
  (list "SPOTWARDEN_REBALANCE_POLL_INTERVAL" $v.polling.rebalance)
  (list "SPOTWARDEN_ASG_POLL_INTERVAL" $v.polling.asg)
  (list "SPOTWARDEN_SCHEDULED_POLL_INTERVAL" $v.polling.scheduled)
  (list "SPOTWARDEN_NODE_MARKS" $v.nodeMarks)
  (list "SPOTWARDEN_TAINT_KEY" $v.taint.key)
  (list "SPOTWARDEN_TAINT_EFFECT" $v.taint.effect)
  (list "SPOTWARDEN_CNI_HEADROOM" $headroom)
  (list "SPOTWARDEN_CNI_INTROSPECTION_ADDRESS" $v.cni.introspectionAddress)
  (list "SPOTWARDEN_CNI_METRICS_ADDRESS" $v.cni.metricsAddress)
  (list "SPOTWARDEN_POD_IP_EXHAUSTION_TAINT" $v.cni.podIPExhaustionTaint)
  (list "SPOTWARDEN_ALERTMANAGER_URL" (join "," $v.notifications.alertmanager.urls))
  (list "SPOTWARDEN_WEBHOOK_CONTENT_TYPE" $v.notifications.webhook.contentType)
  (list "SPOTWARDEN_NOTIFY_ON" (kindIs "slice" $on | ternary (join "," (kindIs "slice" $on | ternary $on list)) $on))
  (list "SPOTWARDEN_NOTIFY_LINK" $v.notifications.link)
  (list "SPOTWARDEN_CLUSTER_NAME" $v.clusterName)
  (list "SPOTWARDEN_DRY_RUN" $v.dryRun)
  (list "SPOTWARDEN_LOG_FORMAT" $v.log.format)
  (list "SPOTWARDEN_LOG_LEVEL" $v.log.level)
  (list "AWS_EC2_METADATA_SERVICE_ENDPOINT" $v.imds.endpoint)
  (list "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE" $v.imds.endpointMode)
  (list "HTTPS_PROXY" $v.egress.httpsProxy)
  (list "HTTP_PROXY" $v.egress.httpProxy)
  (list "NO_PROXY" $v.egress.noProxy)
-}}
{{- range include "spotwarden.files" . | fromJsonArray -}}
{{- $folder := printf "/etc/spotwarden/%s" .volume -}}
{{- range .items }}{{ $settings = append $settings (list (index . 2) (printf "%s/%s" $folder (index . 1))) }}{{ end -}}
{{- end -}}
{{- $settings = concat $settings (include "spotwarden.otlp" . | fromJsonArray) -}}
{{- $set := list -}}
{{- range $settings }}{{ if index . 1 -}}
{{- $value := index . 1 -}}
{{- if kindIs "float64" $value }}{{ $value = int64 $value }}{{ end -}}
{{- $set = append $set (list (index . 0) (toString $value)) -}}
{{- end }}{{ end -}}
{{- toJson $set -}}
{{- end }}

{{/* The variables of OpenTelemetry but for files, as a JSON list of [name, value]. */}}
{{- define "spotwarden.otlp" -}}
{{- $otlp := .Values.otlp -}}
{{- $settings := list (list "OTEL_SDK_DISABLED" $otlp.disabled) (list "OTEL_SERVICE_NAME" $otlp.serviceName) -}}
{{- if or $otlp.endpoint $otlp.metrics.endpoint $otlp.traces.endpoint $otlp.resourceAttributes -}}
{{- $found := dict "k8s.daemonset.name" (include "spotwarden.fullname" .) -}}
{{- with .Values.clusterName }}{{ $_ := set $found "k8s.cluster.name" . }}{{ end -}}
{{- $attributes := merge (deepCopy $otlp.resourceAttributes) $found -}}
{{- $settings = append $settings (list "OTEL_RESOURCE_ATTRIBUTES" (include "spotwarden.pairs" $attributes)) -}}
{{- end -}}
{{- range $signal := list "" "metrics" "traces" -}}
{{- $of := ne $signal "" | ternary (get $otlp $signal) $otlp -}}
{{- $prefix := printf "OTEL_EXPORTER_OTLP_%s" (ne $signal "" | ternary (printf "%s_" (upper $signal)) "") -}}
{{- $settings = concat $settings (list
  (list (printf "%sENDPOINT" $prefix) $of.endpoint)
  (list (printf "%sPROTOCOL" $prefix) $of.protocol)
  (list (printf "%sHEADERS" $prefix) (include "spotwarden.pairs" $of.headers))
  (list (printf "%sTIMEOUT" $prefix) $of.timeout)
  (list (printf "%sCOMPRESSION" $prefix) $of.compression)) -}}
{{- end -}}
{{- $settings = concat $settings (list
  (list "OTEL_METRICS_EXPORTER" $otlp.metrics.exporter)
  (list "OTEL_TRACES_EXPORTER" $otlp.traces.exporter)
  (list "OTEL_METRIC_EXPORT_INTERVAL" $otlp.metrics.interval)
  (list "OTEL_METRIC_EXPORT_TIMEOUT" $otlp.metrics.exportTimeout)
  (list "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE" $otlp.metrics.temporality)) -}}
{{- toJson $settings -}}
{{- end }}

{{/* A map as name=value with commas between, percent-encoded. Variables such as $(NODE_NAME) stay for the kubelet. */}}
{{- define "spotwarden.pairs" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- $encoded := toString $value | urlquery | replace "+" "%20" -}}
{{- $encoded = regexReplaceAll "%24%28([A-Za-z_][A-Za-z0-9_]*)%29" $encoded "$$(${1})" -}}
{{- $pairs = append $pairs (printf "%s=%s" $name $encoded) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end }}

{{/* All variables. */}}
{{- define "spotwarden.env" -}}
{{- include "spotwarden.ownEnv" . -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Those that the chart sets. What others refer to stands before them. */}}
{{- define "spotwarden.ownEnv" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: HOST_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: SPOTWARDEN_ADMIN_ADDRESS
  value: "$(POD_IP):{{ int .Values.metrics.port }}"
{{- range include "spotwarden.settings" . | fromJsonArray }}
- name: {{ index . 0 }}
  value: {{ index . 1 | quote }}
{{- end }}
{{- end }}
