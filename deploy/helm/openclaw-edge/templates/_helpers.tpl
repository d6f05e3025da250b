{{- define "openclaw-edge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "openclaw-edge.fullname" -}}
{{- $name := include "openclaw-edge.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "openclaw-edge.selector" -}}
app.kubernetes.io/name: {{ include "openclaw-edge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "openclaw-edge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "openclaw-edge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "openclaw-edge.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "openclaw-edge.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "openclaw-edge.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* What no schema can say. */ -}}
{{- define "openclaw-edge.validate" -}}
{{- $deadline := .Values.config.drain.deadline -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add (trimSuffix "s" $deadline | int) 10 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d: it must be 10 s more than config.drain.deadline (%s), or kubelet kills a draining pod" (int .Values.terminationGracePeriodSeconds) $deadline) -}}
{{- end -}}
{{- if hasKey .Values.config "state_dir" -}}
{{- if ne .Values.config.state_dir "/var/lib/openclaw-edge" -}}
{{- fail "config.state_dir must be /var/lib/openclaw-edge, where state.hostPath is mounted" -}}
{{- end -}}
{{- end -}}
{{- $listen := .Values.config.admin.listen -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not (hasSuffix (printf ":%d" (int .Values.metrics.port)) $listen)) -}}
{{- fail (printf "metrics.port is %d, but config.admin.listen is %q" (int .Values.metrics.port) $listen) -}}
{{- end -}}
{{- end -}}

{{- /* Of the probes: the pod's own socket, so that a broken configuration fails none. */ -}}
{{- define "openclaw-edge.asked" -}}
command: [/usr/bin/openclaw-edge, healthcheck, --socket, {{ .Values.config.admin.socket }}]
{{- end -}}
