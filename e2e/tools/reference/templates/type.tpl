{{- define "type" -}}
{{- $type := . -}}
{{- if markdownShouldRenderType $type }}
### {{ $type.Name }}

{{ $type.Doc }}
{{ if $type.Validation }}
{{ range $type.Validation -}}
- {{ markdownRenderFieldDoc . }}
{{ end -}}
{{ end -}}
{{ if $type.References }}
In: {{ range $i, $ref := $type.SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $ref }}{{ end }}.
{{ end -}}
{{ if $type.Members }}
| field | meaning | default | accepted |
|---|---|---|---|
{{ range $type.Members -}}
| `{{ .Name }}` {{ template "fieldType" . }} | {{ template "type_members" . }} | {{ markdownRenderDefault .Default }} | {{ range .Validation }}{{ if not (hasPrefix "Optional" .) }}{{ markdownRenderFieldDoc . }}<br />{{ end }}{{ end }} |
{{ end -}}
{{ end -}}
{{ if $type.EnumValues }}
| value | meaning |
|---|---|
{{ range $type.EnumValues -}}
| `{{ .Name }}` | {{ markdownRenderFieldDoc .Doc }} |
{{ end -}}
{{ end -}}
{{ end -}}
{{- end -}}
{{- define "fieldType" -}}
{{- $link := markdownRenderType .Type -}}
{{- if contains "#duration-v1" $link }}_duration_
{{- else if contains "#json-v1" $link }}_object{{ if hasSuffix "array" $link }} array{{ end }}_
{{- else }}_{{ $link }}_
{{- end -}}
{{- end -}}
