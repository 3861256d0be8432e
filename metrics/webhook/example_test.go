package webhook_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/sluice-dev/sluice/metrics/webhook"
)

// A receiver: it answers signed requests alone, and lets the release go on outside of a freeze.
func ExampleVerify() {
	key, freeze := []byte("the key in the Secret"), false
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err == nil {
			err = webhook.Verify(r.Header.Get(webhook.SignatureHeader), body, key, time.Now(), 5*time.Minute)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		var question struct {
			ID   string        `json:"id"` // the same for retries
			Data webhook.Event `json:"data"`
		}
		if err := json.Unmarshal(body, &question); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if freeze {
			http.Error(w, "freeze until Monday", http.StatusConflict) // wait
		}
	})
	httptest.NewServer(handler).Close()
}
