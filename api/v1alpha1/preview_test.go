package v1alpha1_test

import (
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func TestPreviewedAt(t *testing.T) {
	for name, tc := range map[string]struct{ host, name, want string }{
		"WholeLabel":   {"{{version}}.preview.example.com", "v12.preview.example.com", "v12"},
		"PartOfALabel": {"shop-{{version}}.example.com", "shop-v1.example.com", "v1"},
		"BetweenParts": {"a-{{version}}-b.example.com", "a-v3-b.example.com", "v3"},
		"CapitalName":  {"{{version}}.example.com", "V2.Example.com", "v2"},
		"NoVersion":    {"{{version}}.example.com", "vx.example.com", ""},
		"Zero":         {"{{version}}.example.com", "v0.example.com", ""},
		"LeadingZero":  {"{{version}}.example.com", "v01.example.com", ""},
		"Nothing":      {"shop-{{version}}.example.com", "shop-.example.com", ""},
		"Overlapping":  {"v1{{version}}v1.example.com", "v1v1.example.com", ""},
		"Another":      {"{{version}}.example.com", "v1.example.org", ""},
		"Wildcard":     {"{{version}}.example.com", "*.example.com", ""},
		"NoPlace":      {"v1.example.com", "v1.example.com", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := v1alpha1.PreviewedAt(tc.host, tc.name); got != tc.want {
				t.Errorf("PreviewedAt(%q, %q) = %q, want %q", tc.host, tc.name, got, tc.want)
			}
			if tc.want != "" && tc.name == v1alpha1.PreviewHost(tc.host, tc.want) != (name != "CapitalName") {
				t.Errorf("PreviewHost(%q, %q) = %q", tc.host, tc.want, v1alpha1.PreviewHost(tc.host, tc.want))
			}
		})
	}
}
