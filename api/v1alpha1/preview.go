package v1alpha1

import (
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// PreviewPlace stands for the version in a preview's host. It stands in the first label, because certificates, DNS and Gateways have
// wildcards for that one alone.
const PreviewPlace = "{{version}}"

// longestVersion is the longest name of a version that a host must have room for.
const longestVersion = "v999999"

var versionName = regexp.MustCompile(`^v[1-9][0-9]*$`)

// PreviewsEach reports whether a preview's host is one for each version.
func PreviewsEach(host string) bool { return strings.Contains(host, PreviewPlace) }

// PreviewWildcard is the name of all hosts of versions, where the version is a whole label; empty where it is not.
func PreviewWildcard(host string) string {
	if rest, whole := strings.CutPrefix(host, PreviewPlace); whole && strings.HasPrefix(rest, ".") {
		return "*" + rest
	}
	return ""
}

// PreviewHost is the host of one version.
func PreviewHost(host, version string) string { return strings.Replace(host, PreviewPlace, version, 1) }

// PreviewedAt is the version that a name is the host of; empty where it is none.
func PreviewedAt(host, name string) string {
	before, after, each := strings.Cut(host, PreviewPlace)
	name = strings.ToLower(name)
	if !each || len(name) < len(before)+len(after) || !strings.HasPrefix(name, before) || !strings.HasSuffix(name, after) {
		return ""
	}
	if version := name[len(before) : len(name)-len(after)]; versionName.MatchString(version) {
		return version
	}
	return ""
}

// IsPreviewHost reports whether a preview can have this host.
func IsPreviewHost(host string) bool {
	if !PreviewsEach(host) {
		return len(validation.IsDNS1123Subdomain(host)) == 0
	}
	first, rest, _ := strings.Cut(host, ".")
	return len(host) <= validation.DNS1123SubdomainMaxLength && PreviewsEach(first) &&
		len(validation.IsDNS1123Label(PreviewHost(first, longestVersion))) == 0 && len(validation.IsDNS1123Subdomain(rest)) == 0
}
