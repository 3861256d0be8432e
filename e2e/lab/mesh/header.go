package mesh

import (
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// headerEdits is one level (weighted cluster, route, virtual host, route configuration) of header changes.
type headerEdits struct {
	add    []*corev3.HeaderValueOption
	remove []string
}

// requestEdits returns the levels in the order in which Envoy applies them.
func requestEdits(rs *routes, vh *virtualHost, r *route, c choice) []headerEdits {
	return []headerEdits{
		{c.entry.GetRequestHeadersToAdd(), c.entry.GetRequestHeadersToRemove()},
		{r.config.GetRequestHeadersToAdd(), r.config.GetRequestHeadersToRemove()},
		{vh.config.GetRequestHeadersToAdd(), vh.config.GetRequestHeadersToRemove()},
		{rs.config.GetRequestHeadersToAdd(), rs.config.GetRequestHeadersToRemove()},
	}
}

func responseEdits(rs *routes, vh *virtualHost, r *route, c choice) []headerEdits {
	return []headerEdits{
		{c.entry.GetResponseHeadersToAdd(), c.entry.GetResponseHeadersToRemove()},
		{r.config.GetResponseHeadersToAdd(), r.config.GetResponseHeadersToRemove()},
		{vh.config.GetResponseHeadersToAdd(), vh.config.GetResponseHeadersToRemove()},
		{rs.config.GetResponseHeadersToAdd(), rs.config.GetResponseHeadersToRemove()},
	}
}

// edit applies the levels. Within a level Envoy removes before it adds.
func edit(h http.Header, levels []headerEdits) {
	for _, level := range levels {
		for _, name := range level.remove {
			h.Del(name)
		}
		for _, option := range level.add {
			addHeader(h, option)
		}
	}
}

func addHeader(h http.Header, option *corev3.HeaderValueOption) {
	name, value := option.GetHeader().GetKey(), literal(option.GetHeader().GetValue())
	if value == "" && !option.GetKeepEmptyValue() {
		return
	}
	present := len(h.Values(name)) > 0
	action := option.GetAppendAction()
	if old := option.GetAppend(); old != nil && !old.GetValue() { //nolint:staticcheck // istiod may still send the older field
		action = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	}
	switch action {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		h.Add(name, value)
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		if !present {
			h.Set(name, value)
		}
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		if present {
			h.Set(name, value)
		}
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		h.Set(name, value)
	}
}

// literal reads a header value's format string: only the escaped percent sign is known here.
func literal(format string) string { return strings.ReplaceAll(format, "%%", "%") }

// hopByHop are the headers that belong to one connection only.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Trailer", "Transfer-Encoding", "Upgrade",
}

// dropHopByHop removes what must not be passed on. TE stays where it says "trailers", which gRPC needs.
func dropHopByHop(h http.Header) {
	for _, names := range h.Values("Connection") {
		for name := range strings.SplitSeq(names, ",") {
			if name = strings.TrimSpace(name); !strings.EqualFold(name, "te") {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
	if te := h.Get("Te"); te != "" && te != "trailers" {
		h.Del("Te")
	}
}
