package mesh

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
)

// Proxies tell each other who they are in two headers that neither application sees, as Istio's do.
const (
	peerHeader   = "X-Envoy-Peer-Metadata"
	peerIDHeader = "X-Envoy-Peer-Metadata-Id"
)

// introduction is what one proxy tells the other.
type introduction struct {
	party
	// Asked is the host of the service that the caller addressed; a caller sets it, an answer does not.
	Asked string `json:"asked,omitempty"`
}

// introduce writes who is calling or answering.
func introduce(h http.Header, id string, in introduction) {
	raw, err := json.Marshal(in)
	if err != nil {
		return // strings always marshal
	}
	h.Set(peerHeader, base64.StdEncoding.EncodeToString(raw))
	h.Set(peerIDHeader, id)
}

// meet reads and removes the other proxy's introduction. What cannot be read was not written by a proxy and counts as none.
func meet(h http.Header) (introduction, bool) {
	value := h.Get(peerHeader)
	h.Del(peerHeader)
	h.Del(peerIDHeader)
	if value == "" {
		return introduction{}, false
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return introduction{}, false
	}
	var in introduction
	if err := json.Unmarshal(raw, &in); err != nil {
		return introduction{}, false
	}
	return in, true
}
