package webhook

import (
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
)

// What every event of ours says of itself. See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
const (
	// ContentType is CloudEvents' structured mode: the body holds the attributes and the data.
	ContentType = "application/cloudevents+json"
	// EventType names the form of the data. Another form gets another name; new fields do not.
	EventType = "dev.sluice.gate.v1"
)

// Event is the data of a question: may this candidate go on?
type Event struct {
	// Gate is the gate's name in the TrafficShift.
	Gate string `json:"gate"`
	// Namespace, Name and UID are the TrafficShift's.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// Run names this release: the same for every question about it, whichever replica of the controller asks, and never used again.
	Run string `json:"run"`
	// Stable and Candidate are versions, "v1" and "v2".
	Stable    string `json:"stable"`
	Candidate string `json:"candidate"`
	// Weight is the candidate's present share of the traffic, "20%".
	Weight string `json:"weight"`
	// Phase and Stage are where the release stands, and Step the rung of its ladder ("2/4"; empty where there is none).
	Phase string `json:"phase"`
	Stage string `json:"stage"`
	Step  string `json:"step"`
}

// envelope is a CloudEvent 1.0 in the JSON format.
type envelope struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Data            Event  `json:"data"`
}

// body is the event as it is sent. Its id is new: the retries of one question send the same body, so that a receiver can tell them
// from another question.
func body(e Event, now time.Time) ([]byte, error) {
	text, err := json.Marshal(envelope{
		SpecVersion: "1.0", ID: string(uuid.NewUUID()), Type: EventType, Subject: e.Gate,
		Source: fmt.Sprintf("/apis/sluice.dev/v1alpha1/namespaces/%s/trafficshifts/%s", e.Namespace, e.Name),
		Time:   now.UTC().Format(time.RFC3339Nano), DataContentType: "application/json", Data: e,
	})
	if err != nil {
		return nil, fmt.Errorf("writing the event: %w", err)
	}
	return text, nil
}
