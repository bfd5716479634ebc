{{- define "auditlake.image" -}}
{{- $repository := required "image.repository is required" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "auditlake.labels" -}}
app.kubernetes.io/name: auditlake
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The part of a pod that all have: what the restricted level of Pod Security demands, and no token. */}}
{{- define "auditlake.pod" -}}
automountServiceAccountToken: false
# Otherwise Kubernetes sets variables that begin with AUDITLAKE_ and DAGSTER_ for each Service.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "auditlake.container" -}}
image: {{ include "auditlake.image" . }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "auditlake.dagsterEnvironment" -}}
- {name: DAGSTER_HOME, value: /etc/dagster}
- {name: DAGSTER_CODE_HOST, value: {{ .Release.Name }}-code}
- {name: DAGSTER_POSTGRES_HOST, value: {{ required "postgres.host is required" .Values.postgres.host | quote }}}
- {name: DAGSTER_POSTGRES_PORT, value: {{ .Values.postgres.port | quote }}}
- {name: DAGSTER_POSTGRES_DB, value: {{ .Values.postgres.database | quote }}}
- {name: DAGSTER_POSTGRES_USER, value: {{ .Values.postgres.username | quote }}}
- name: DAGSTER_POSTGRES_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.postgres }}, key: password}}
{{- end -}}

{{/* What reads and writes the lake: its volume and the configuration. */}}
{{- define "auditlake.lakeMounts" -}}
- {name: auditlake, mountPath: /var/lib/auditlake}
- {name: config, mountPath: /etc/auditlake}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "auditlake.lakeVolumes" -}}
- name: auditlake
  persistentVolumeClaim: {claimName: {{ default (printf "%s-data" .Release.Name) .Values.volume.existingClaim }}}
- name: config
  configMap: {name: {{ .Release.Name }}-config}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- end -}}

{{- define "auditlake.vendors" -}}
- name: vendors
  secret: {secretName: {{ .Values.secrets.vendors }}, defaultMode: 0440}
{{- end -}}

{{- define "auditlake.dagsterVolumes" -}}
- name: dagster
  configMap: {name: {{ .Release.Name }}-dagster}
{{- end -}}
