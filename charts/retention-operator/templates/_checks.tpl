{{- /* What a schema cannot say of values that must fit each other: each message says what to write instead. */}}
{{- define "retention-operator.checks" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
{{- fail (printf "replicas: %d needs leaderElection.enabled: true, so that only one of them works" (int .Values.replicas)) }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create: false needs serviceAccount.name: the account that exists already" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled: true needs metrics.service.enabled: true: a ServiceMonitor finds the pods by their Service" }}
{{- end }}
{{- if .Values.watchNamespaces }}
{{- range $namespace := keys .Values.allowAmbientArchive | sortAlpha }}
{{- if not (has $namespace $.Values.watchNamespaces) }}
{{- fail (printf "allowAmbientArchive: the namespace %s is not one of watchNamespaces: its policies are never seen" $namespace) }}
{{- end }}
{{- end }}
{{- range $namespace := .Values.secrets.namespaces }}
{{- if not (has $namespace $.Values.watchNamespaces) }}
{{- fail (printf "secrets.namespaces: the namespace %s is not one of watchNamespaces: its Secrets are never needed" $namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
