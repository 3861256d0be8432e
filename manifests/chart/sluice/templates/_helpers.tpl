{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "sluice.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sluice.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ include "sluice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* The value "sluice" of managed-by is what the controller marks its own objects with; those of the chart carry Helm's. */}}
{{- define "sluice.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "sluice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sluice.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sluice.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "sluice.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "sluice.serviceAccount" . }}
{{- end -}}

{{- define "sluice.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* What the pods of the controller and of the detach hook have in common. */}}
{{- define "sluice.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The file of --prometheus-config. It names files in a folder per connection, beside itself, and holds no secret. */}}
{{- define "sluice.connections" -}}
{{- $all := dict -}}
{{- range $name, $c := .Values.prometheus.connections -}}
{{- $http := dict -}}
{{- if $c.bearerToken -}}
{{- $_ := set $http "authorization" (dict "credentials_file" (printf "%s/token" $name)) -}}
{{- end -}}
{{- if $c.basicAuth -}}
{{- $_ := set $http "basic_auth" (dict "username_file" (printf "%s/username" $name) "password_file" (printf "%s/password" $name)) -}}
{{- end -}}
{{- $tls := dict -}}
{{- if $c.ca -}}
{{- $_ := set $tls "ca_file" (printf "%s/ca.crt" $name) -}}
{{- end -}}
{{- if $c.clientCertificate -}}
{{- $_ := set $tls "cert_file" (printf "%s/tls.crt" $name) -}}
{{- $_ := set $tls "key_file" (printf "%s/tls.key" $name) -}}
{{- end -}}
{{- with $c.serverName -}}
{{- $_ := set $tls "server_name" . -}}
{{- end -}}
{{- if $tls -}}
{{- $_ := set $http "tls_config" $tls -}}
{{- end -}}
{{- with $c.headers -}}
{{- $headers := dict -}}
{{- range $header, $value := . -}}
{{- $_ := set $headers $header (dict "values" (list $value)) -}}
{{- end -}}
{{- $_ := set $http "http_headers" $headers -}}
{{- end -}}
{{- with $c.proxyURL -}}
{{- $_ := set $http "proxy_url" . -}}
{{- end -}}
{{- $one := dict "url" $c.url -}}
{{- if $http -}}
{{- $_ := set $one "http" $http -}}
{{- end -}}
{{- if kindIs "slice" $c.namespaces -}}
{{- $_ := set $one "namespaces" $c.namespaces -}}
{{- end -}}
{{- $_ := set $all $name $one -}}
{{- end -}}
{{ toYaml (dict "connections" $all) }}
{{- end -}}

{{/* That file and those it names, as one volume: the kubelet brings them up to date, and the controller needs no right to read Secrets. */}}
{{- define "sluice.connectionsVolume" -}}
- name: prometheus
  projected:
    sources:
      - configMap:
          name: {{ include "sluice.fullname" . }}-prometheus
      {{- range $name, $c := .Values.prometheus.connections }}
      {{- with $c.bearerToken }}
      - secret:
          name: {{ .secretName }}
          items:
            - {key: {{ default "token" .key | quote }}, path: {{ $name }}/token}
      {{- end }}
      {{- with $c.basicAuth }}
      - secret:
          name: {{ .secretName }}
          items:
            - {key: {{ default "username" .usernameKey | quote }}, path: {{ $name }}/username}
            - {key: {{ default "password" .passwordKey | quote }}, path: {{ $name }}/password}
      {{- end }}
      {{- with $c.ca }}
      - {{ ternary "configMap" "secret" (hasKey . "configMapName") }}:
          name: {{ default .secretName .configMapName }}
          items:
            - {key: {{ default "ca.crt" .key | quote }}, path: {{ $name }}/ca.crt}
      {{- end }}
      {{- with $c.clientCertificate }}
      - secret:
          name: {{ .secretName }}
          items:
            - {key: tls.crt, path: {{ $name }}/tls.crt}
            - {key: tls.key, path: {{ $name }}/tls.key}
      {{- end }}
      {{- end }}
{{- end -}}
