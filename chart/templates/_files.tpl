{{/*
Files that the agent reads: what is secret comes from an existing Secret and never through a value. A JSON list of volumes,
each with its source, its items (key, path, variable) and whether the pod may start without it. It may, as the agent says
what is missing and reads it again: a node without its warden is worse than one whose warden cannot post to Slack.
*/}}
{{- define "spotwarden.files" -}}
{{- $values := .Values -}}
{{- $files := list -}}
{{- with $values.kubeconfigSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" "kubeconfig" "secret" .name "required" true "items" (list (list .key "kubeconfig" "KUBECONFIG"))) -}}
{{- end }}{{ end -}}
{{- with $values.notifications.alertmanager.authSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" "alertmanager" "secret" .name "items" (list (list .key "authorization" "SPOTWARDEN_ALERTMANAGER_AUTH_FILE"))) -}}
{{- end }}{{ end -}}
{{- with $values.notifications.slack.webhookUrlSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" "slack" "secret" .name "items" (list (list .key "url" "SPOTWARDEN_SLACK_WEBHOOK_URL_FILE"))) -}}
{{- end }}{{ end -}}
{{- with $values.notifications.webhook.urlSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" "webhook" "secret" .name "items" (list (list .key "url" "SPOTWARDEN_WEBHOOK_URL_FILE"))) -}}
{{- end }}{{ end -}}
{{- if $values.notifications.webhook.template -}}
{{- $files = append $files (dict "volume" "webhook-template" "configMap" (include "spotwarden.webhookTemplateName" .) "required" true "items" (list (list "template" "template" "SPOTWARDEN_WEBHOOK_TEMPLATE_FILE"))) -}}
{{- end -}}
{{- with $values.egress.caConfigMap }}{{ if .name -}}
{{- $files = append $files (dict "volume" "ca" "configMap" .name "items" (list (list .key "ca.crt" "SSL_CERT_FILE"))) -}}
{{- end }}{{ end -}}
{{- with $values.otlp.headersSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" "otlp-headers" "secret" .name "items" (list (list .key "headers" "SPOTWARDEN_OTLP_HEADERS_FILE"))) -}}
{{- end }}{{ end -}}
{{- range $signal := list "" "metrics" "traces" -}}
{{- $of := ne $signal "" | ternary (get $values.otlp $signal) $values.otlp -}}
{{- $volume := printf "otlp%s" (ne $signal "" | ternary (printf "-%s" $signal) "") -}}
{{- $variable := printf "OTEL_EXPORTER_OTLP_%s" (ne $signal "" | ternary (printf "%s_" (upper $signal)) "") -}}
{{- with $of.tls.caConfigMap }}{{ if .name -}}
{{- $files = append $files (dict "volume" (printf "%s-ca" $volume) "configMap" .name "items" (list (list .key "ca.crt" (printf "%sCERTIFICATE" $variable)))) -}}
{{- end }}{{ end -}}
{{- with $of.tls.caSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" (printf "%s-ca" $volume) "secret" .name "items" (list (list .key "ca.crt" (printf "%sCERTIFICATE" $variable)))) -}}
{{- end }}{{ end -}}
{{- with $of.tls.clientSecret }}{{ if .name -}}
{{- $files = append $files (dict "volume" (printf "%s-client" $volume) "secret" .name "items" (list
  (list .certificateKey "tls.crt" (printf "%sCLIENT_CERTIFICATE" $variable))
  (list .privateKeyKey "tls.key" (printf "%sCLIENT_KEY" $variable)))) -}}
{{- end }}{{ end -}}
{{- end -}}
{{- toJson $files -}}
{{- end }}

{{- define "spotwarden.webhookTemplateName" -}}
{{ include "spotwarden.fullname" . }}-webhook-template
{{- end }}

{{- define "spotwarden.volumes" -}}
{{- $volumes := list -}}
{{- range include "spotwarden.files" . | fromJsonArray -}}
{{- $items := list -}}
{{- range .items }}{{ $items = append $items (dict "key" (index . 0) "path" (index . 1)) }}{{ end -}}
{{- $source := dict "optional" (not .required) "items" $items -}}
{{- if .secret -}}
{{- $volumes = append $volumes (dict "name" .volume "secret" (merge (dict "secretName" .secret) $source)) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" .volume "configMap" (merge (dict "name" .configMap) $source)) -}}
{{- end -}}
{{- end -}}
{{- with concat $volumes .Values.extraVolumes }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "spotwarden.volumeMounts" -}}
{{- $mounts := list -}}
{{- range include "spotwarden.files" . | fromJsonArray -}}
{{- $mounts = append $mounts (dict "name" .volume "mountPath" (printf "/etc/spotwarden/%s" .volume) "readOnly" true) -}}
{{- end -}}
{{- with concat $mounts .Values.extraVolumeMounts }}{{ toYaml . }}{{ end -}}
{{- end }}
