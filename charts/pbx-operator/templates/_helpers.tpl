{{- define "pbx-operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "pbx-operator.selector" -}}
app.kubernetes.io/name: pbx-operator
app.kubernetes.io/component: manager
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pbx-operator.labels" -}}
{{ include "pbx-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The lease carries the name of the release, so that two of them can work side by side. */}}
{{- define "pbx-operator.lease" -}}
{{ include "pbx-operator.name" . }}-manager
{{- end }}

{{- define "pbx-operator.viewRules" -}}
- apiGroups: [pbx-operator.io]
  resources: [pbxintegrations, extensionmappings, calllegs]
  verbs: [get, list, watch]
{{- end }}

{{- define "pbx-operator.editRules" -}}
- apiGroups: [pbx-operator.io]
  resources: [pbxintegrations, extensionmappings]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
{{- end }}

{{/* Commands cost money, and their results may be listened to. */}}
{{- define "pbx-operator.callerRules" -}}
- apiGroups: [pbx-operator.io]
  resources: [callcommands]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
{{- end }}

{{/* The API server and the Services of receivers are never asked through a proxy. */}}
{{- define "pbx-operator.proxy" -}}
{{- with .Values.proxy.httpProxy }}
- {name: HTTP_PROXY, value: {{ . | quote }}}
{{- end }}
{{- with .Values.proxy.httpsProxy }}
- {name: HTTPS_PROXY, value: {{ . | quote }}}
{{- end }}
{{- if or .Values.proxy.httpProxy .Values.proxy.httpsProxy }}
- name: NO_PROXY
  value: "{{ with .Values.proxy.noProxy }}{{ . }},{{ end }}.svc,.cluster.local,localhost,127.0.0.1,$(KUBERNETES_SERVICE_HOST)"
{{- end }}
{{- end }}
