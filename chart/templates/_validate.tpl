{{/*
What a schema cannot say: values that contradict each other, and secrets where they do not belong. Everything that is wrong is
told at once, each with its key. Types and names are the schema's (values.schema.json).
*/}}
{{- define "spotwarden.validate" -}}
{{- $problems := concat
  (include "spotwarden.validate.secrets" . | fromJsonArray)
  (include "spotwarden.validate.decisions" . | fromJsonArray)
  (include "spotwarden.validate.telling" . | fromJsonArray)
  (include "spotwarden.validate.pod" . | fromJsonArray)
  (include "spotwarden.validate.monitoring" . | fromJsonArray) -}}
{{- with $problems -}}
{{- fail (printf "these values cannot be used:\n- %s" (join "\n- " .)) -}}
{{- end -}}
{{- end }}

{{/* None of these messages repeats the value. */}}
{{- define "spotwarden.validate.secrets" -}}
{{- $problems := list -}}
{{- $n := .Values.notifications -}}
{{- $remedy := "is a secret and not read from values: put it into a Secret, and name that in" -}}
{{- range $key := list "webhookUrl" "webhookURL" "url" -}}
{{- if hasKey $n.slack $key }}{{ $problems = append $problems (printf "notifications.slack.%s %s notifications.slack.webhookUrlSecret.name" $key $remedy) }}{{ end -}}
{{- if hasKey $n.webhook $key }}{{ $problems = append $problems (printf "notifications.webhook.%s %s notifications.webhook.urlSecret.name" $key $remedy) }}{{ end -}}
{{- end -}}
{{- range $key := list "webhookUrl" "webhookURL" -}}
{{- if hasKey $.Values $key }}{{ $problems = append $problems (printf "%s %s notifications.slack.webhookUrlSecret.name or notifications.webhook.urlSecret.name" $key $remedy) }}{{ end -}}
{{- end -}}
{{- $names := dict
  "kubeconfigSecret.name" .Values.kubeconfigSecret.name
  "notifications.alertmanager.authSecret.name" $n.alertmanager.authSecret.name
  "notifications.slack.webhookUrlSecret.name" $n.slack.webhookUrlSecret.name
  "notifications.webhook.urlSecret.name" $n.webhook.urlSecret.name
  "otlp.headersSecret.name" .Values.otlp.headersSecret.name
  "alertmanagerConfig.slack.webhookUrlSecret.name" .Values.alertmanagerConfig.slack.webhookUrlSecret.name -}}
{{- range $key, $name := $names -}}
{{- if and $name (not (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" $name)) -}}
{{- $problems = append $problems (printf "%s is not the name of a Secret (lower-case letters, digits, - and .); what is secret stays in the Secret" $key) -}}
{{- end -}}
{{- end -}}
{{- $addresses := dict "otlp.endpoint" .Values.otlp.endpoint "otlp.metrics.endpoint" .Values.otlp.metrics.endpoint "otlp.traces.endpoint" .Values.otlp.traces.endpoint "egress.httpsProxy" .Values.egress.httpsProxy "egress.httpProxy" .Values.egress.httpProxy "notifications.alertmanager.urls" (join " " $n.alertmanager.urls) "notifications.link" $n.link -}}
{{- range $key, $address := $addresses -}}
{{- if regexMatch "//[^/ ]*@" $address -}}
{{- $how := "leave them out" -}}
{{- if hasPrefix "otlp" $key }}{{ $how = "put them into a header, and name its Secret in otlp.headersSecret.name" }}{{ end -}}
{{- if hasPrefix "notifications.alert" $key }}{{ $how = "put the Authorization header into a Secret, and name that in notifications.alertmanager.authSecret.name" }}{{ end -}}
{{- if hasPrefix "egress" $key }}{{ $how = "set the variable in extraEnv, with a secretKeyRef" }}{{ end -}}
{{- $problems = append $problems (printf "%s holds credentials: %s" $key $how) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "hooks\\.slack\\.com/" (toJson (list .Values.extraArgs .Values.extraEnv)) -}}
{{- $problems = append $problems "extraArgs or extraEnv holds the URL of a webhook: put it into a Secret, and name that in notifications.slack.webhookUrlSecret.name" -}}
{{- end -}}
{{- range $of := list "otlp" "otlp.metrics" "otlp.traces" -}}
{{- $headers := (eq $of "otlp" | ternary $.Values.otlp (get $.Values.otlp (trimPrefix "otlp." $of))).headers -}}
{{- range $name, $_ := $headers -}}
{{- if regexMatch "(?i)auth|key|token|secret|password|cookie" $name -}}
{{- $problems = append $problems (printf "%s.headers has %q, which looks like a secret: put it into a Secret, and name that in otlp.headersSecret.name" $of $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "spotwarden.validate.decisions" -}}
{{- $problems := list -}}
{{- $v := .Values -}}
{{- if and (eq $v.nodeMarks "aws-node-termination-handler") $v.taint.key (ne $v.taint.key "spotwarden/interruption") -}}
{{- $problems = append $problems "taint.key has no effect beside nodeMarks aws-node-termination-handler, which has a key for each kind: set one of the two" -}}
{{- end -}}
{{- $headroom := toString $v.cni.headroom -}}
{{- if and $v.cni.podIPExhaustionTaint (has $headroom (list "off" "false")) -}}
{{- $problems = append $problems "cni.podIPExhaustionTaint needs the headroom of pod addresses, and cni.headroom is off: set cni.headroom to auto" -}}
{{- else if and $v.cni.podIPExhaustionTaint (not $v.hostNetwork) (not $v.cni.introspectionAddress) -}}
{{- $problems = append $problems "cni.podIPExhaustionTaint needs ipamd, which listens on the node's loopback, and hostNetwork is false: set cni.introspectionAddress, or hostNetwork to true" -}}
{{- end -}}
{{- $more := toJson (list $v.extraArgs $v.extraEnv) -}}
{{- range $key, $names := dict "taint.key" "--taint-key\\b|SPOTWARDEN_TAINT_KEY\\b" "nodeMarks" "--node-marks\\b|SPOTWARDEN_NODE_MARKS\\b" -}}
{{- if and $v.admissionPolicy.enabled (regexMatch $names $more) -}}
{{- $problems = append $problems (printf "extraArgs or extraEnv sets what the value %s is for: the admission policy has to know the keys, and would refuse the agent's own fence" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $v.admissionPolicy.evictions (not $v.admissionPolicy.enabled) -}}
{{- $problems = append $problems "admissionPolicy.evictions has no effect while admissionPolicy.enabled is false: set both or none" -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "spotwarden.validate.telling" -}}
{{- $problems := list -}}
{{- $n := .Values.notifications -}}
{{- if and $n.alertmanager.authSecret.name (not $n.alertmanager.urls) -}}
{{- $problems = append $problems "notifications.alertmanager.authSecret.name has no effect without notifications.alertmanager.urls: set both or none" -}}
{{- end -}}
{{- range $key := list "template" "contentType" -}}
{{- if and (get $n.webhook $key) (not $n.webhook.urlSecret.name) -}}
{{- $problems = append $problems (printf "notifications.webhook.%s has no effect without notifications.webhook.urlSecret.name" $key) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $n "true") (get $n "on") -}}
{{- $problems = append $problems "notifications has both \"on\" and a bare on, which YAML takes for true: keep the quoted one" -}}
{{- end -}}
{{- $otlp := .Values.otlp -}}
{{- $pushes := or $otlp.endpoint $otlp.metrics.endpoint $otlp.traces.endpoint -}}
{{- range $key := list "headersSecret" "headers" -}}
{{- $set := eq $key "headersSecret" | ternary $otlp.headersSecret.name $otlp.headers -}}
{{- if and $set (not $pushes) }}{{ $problems = append $problems (printf "otlp.%s has no effect without otlp.endpoint: nothing is pushed" $key) }}{{ end -}}
{{- end -}}
{{- range $of := list "otlp" "otlp.metrics" "otlp.traces" -}}
{{- $tls := (eq $of "otlp" | ternary $otlp (get $otlp (trimPrefix "otlp." $of))).tls -}}
{{- if and $tls.caConfigMap.name $tls.caSecret.name -}}
{{- $problems = append $problems (printf "%s.tls.caConfigMap.name and %s.tls.caSecret.name are both set: the certificates come from one" $of $of) -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "spotwarden.validate.pod" -}}
{{- $problems := list -}}
{{- $v := .Values -}}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- $problems = append $problems "serviceAccount.name is empty and serviceAccount.create is false: name the account that is there" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled $v.hostNetwork -}}
{{- $problems = append $problems "networkPolicy.enabled has no effect on pods with hostNetwork: set hostNetwork to false, or leave it to the node's security group" -}}
{{- end -}}
{{- if and $v.hostNetwork (eq $v.dnsPolicy "ClusterFirst") -}}
{{- $problems = append $problems "dnsPolicy ClusterFirst means Default for pods with hostNetwork: set ClusterFirstWithHostNet, or Default" -}}
{{- end -}}
{{- if and (not $v.hostNetwork) (eq $v.dnsPolicy "ClusterFirstWithHostNet") -}}
{{- $problems = append $problems "dnsPolicy ClusterFirstWithHostNet is for pods with hostNetwork, which is false: set ClusterFirst" -}}
{{- end -}}
{{- if and (eq $v.dnsPolicy "None") (not (get ($v.dnsConfig | default dict) "nameservers")) -}}
{{- $problems = append $problems "dnsPolicy None needs dnsConfig.nameservers" -}}
{{- end -}}
{{- if and $v.hostNetwork (has (int $v.metrics.port) (list 10248 10250 10256 50051 61678 61679)) -}}
{{- $problems = append $problems (printf "metrics.port %d is taken on every EKS node, by the kubelet, kube-proxy or the VPC CNI, and hostNetwork is true: set another port" (int $v.metrics.port)) -}}
{{- end -}}
{{- $set := dict -}}
{{- range include "spotwarden.ownEnv" . | fromYamlArray }}{{ $_ := set $set .name true }}{{ end -}}
{{- range $v.extraEnv -}}
{{- if hasKey $set .name }}{{ $problems = append $problems (printf "extraEnv has %s, which another value sets already" .name) }}{{ end -}}
{{- $_ := set $set .name true -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "spotwarden.validate.monitoring" -}}
{{- $problems := list -}}
{{- $v := .Values -}}
{{- if and (include "spotwarden.isRendered" (list . "podMonitor" "PodMonitor")) (include "spotwarden.isRendered" (list . "serviceMonitor" "ServiceMonitor")) -}}
{{- $problems = append $problems "podMonitor.enabled and serviceMonitor.enabled are both set, which would scrape every agent twice: set one of the two" -}}
{{- end -}}
{{- range $name, $kind := dict "podMonitor" "PodMonitor" "serviceMonitor" "ServiceMonitor" "prometheusRule" "PrometheusRule" "alertmanagerConfig" "AlertmanagerConfig" -}}
{{- if and (eq (toString (get $v $name).enabled) "true") (include "spotwarden.kindIsMissing" (list $ $name $kind)) -}}
{{- $problems = append $problems (printf "%s.enabled is true, and the cluster has no %s of monitoring.coreos.com: install the Prometheus operator's definitions first, set it to auto or false, or set assumeCRDs to true" $name $kind) -}}
{{- end -}}
{{- end -}}
{{- if and (include "spotwarden.isRendered" (list . "alertmanagerConfig" "AlertmanagerConfig")) (not $v.alertmanagerConfig.slack.webhookUrlSecret.name) -}}
{{- $problems = append $problems "alertmanagerConfig.enabled needs alertmanagerConfig.slack.webhookUrlSecret.name, the Secret with the URL to post to" -}}
{{- end -}}
{{- $alerts := list -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups }}{{ range .rules }}{{ with .alert }}{{ $alerts = append $alerts . }}{{ end }}{{ end }}{{ end -}}
{{- range $name, $_ := $v.prometheusRule.rules -}}
{{- if not (has $name $alerts) }}{{ $problems = append $problems (printf "prometheusRule.rules has %q, and there is no alert of that name: docs/alerts.md lists them" $name) }}{{ end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
