{{- define "type_members" -}}
{{- if eq .Name "metadata" -}}
As of every object.
{{- else -}}
{{ markdownRenderFieldDoc .Doc }}
{{- end -}}
{{- end -}}
