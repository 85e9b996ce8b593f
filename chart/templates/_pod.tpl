{{/* What the agent's pods and the test's pod have in common: where and as whom they run. */}}
{{- define "spotwarden.pod" -}}
serviceAccountName: {{ include "spotwarden.serviceAccountName" . }}
automountServiceAccountToken: true
{{- with include "spotwarden.imagePullSecrets" . }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- if .Values.hostNetwork }}
hostNetwork: true
{{- end }}
dnsPolicy: {{ include "spotwarden.dnsPolicy" . }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "spotwarden.volumes" . }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* And in which container. */}}
{{- define "spotwarden.container" -}}
image: {{ include "spotwarden.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "spotwarden.env" . | nindent 2 }}
{{- with include "spotwarden.volumeMounts" . }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
