{{- define "retention-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The name of the release's objects: at most 53 characters, so that suffixes fit. */}}
{{- define "retention-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- $name := include "retention-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "retention-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "retention-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "retention-operator.labels" -}}
{{ include "retention-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "retention-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "retention-operator.fullname" .) }}
{{- end }}

{{- define "retention-operator.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "retention-operator.fullname" .) }}
{{- end }}

{{- define "retention-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* The operator as the subject of a role binding. */}}
{{- define "retention-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "retention-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* What the operator may do with policies, in one namespace or in all. */}}
{{- define "retention-operator.policyRules" -}}
- apiGroups: [retention-operator.io]
  resources: [retentionpolicies]
  verbs: [get, list, watch]
- apiGroups: [retention-operator.io]
  resources: [retentionpolicies/status]
  verbs: [get, patch, update]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* Secrets are read by name only: never listed, never watched. */}}
{{- define "retention-operator.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}

{{- /* NAMESPACE=PREFIX pairs, in a stable order. */}}
{{- define "retention-operator.ambientArchive" -}}
{{- $pairs := list }}
{{- range $namespace := keys .Values.allowAmbientArchive | sortAlpha }}
{{- range get $.Values.allowAmbientArchive $namespace }}
{{- $pairs = append $pairs (printf "%s=%s" $namespace .) }}
{{- end }}
{{- end }}
{{- join "," $pairs }}
{{- end }}
