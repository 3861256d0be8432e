package v1alpha1

import (
	"fmt"
	"regexp"
)

// CookieRegex matches a Cookie header that has a cookie with a value, which is a regular expression. Istio holds one against the whole of a
// header, and a request may bring other cookies before and after.
func CookieRegex(name, value string) string {
	return fmt.Sprintf(`(.*; *)?%s=%s(;.*)?`, regexp.QuoteMeta(name), value)
}
