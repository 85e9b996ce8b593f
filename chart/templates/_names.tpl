{{/* Names, namespace, labels. The selector's labels never change: a DaemonSet cannot be given others. */}}

{{- define "spotwarden.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "spotwarden.fullname" -}}
{{- $name := include "spotwarden.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "spotwarden.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{- define "spotwarden.serviceAccountName" -}}
{{- default (include "spotwarden.fullname" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "spotwarden.selectorLabels" -}}
app.kubernetes.io/name: {{ include "spotwarden.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of every object: a parent's own labels come first, and ours win over them. */}}
{{- define "spotwarden.labels" -}}
{{- $version := .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" (include "spotwarden.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" $version
  "app.kubernetes.io/part-of" "spotwarden"
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- merge $ours .Values.commonLabels | toYaml -}}
{{- end }}

{{/* Registry, repository, tag and digest. */}}
{{- define "spotwarden.image" -}}
{{- $image := .Values.image -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- $tag := toString $image.tag -}}
{{- if and (not $tag) (not $image.digest) }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{/* Pull secrets, given as names or as references. */}}
{{- define "spotwarden.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with $secrets | uniq }}{{ toYaml . }}{{ end -}}
{{- end }}
