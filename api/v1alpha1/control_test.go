package v1alpha1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestParseRequest(t *testing.T) {
	weight := func(w Permille) *Permille { return &w }
	for _, tc := range []struct {
		action Action
		value  string
		want   Asked
	}{
		{ActionAbort, "v2", Asked{Version: "v2"}},
		{ActionAbort, " v2#again ", Asked{Version: "v2"}},
		{ActionPromote, "v12", Asked{Version: "v12", Extent: ExtentStep}},
		{ActionPromote, "v2@20", Asked{Version: "v2", From: weight(200), Extent: ExtentStep}},
		{ActionPromote, "v2@0.5%#x", Asked{Version: "v2", From: weight(5), Extent: ExtentStep}},
		{ActionPromote, "v2@0", Asked{Version: "v2", From: weight(0), Extent: ExtentStep}},
		{ActionPromote, "v2/all", Asked{Version: "v2", Extent: ExtentAll}},
		{ActionPromote, "v2/skip-gates", Asked{Version: "v2", Extent: ExtentSkipGates}},
		{ActionUndo, "v1", Asked{Version: "v1"}},
		{ActionUndo, "", Asked{Version: Previous}},
		{ActionUndo, "true", Asked{Version: Previous}},
		{ActionUndo, "previous#2", Asked{Version: Previous}},
	} {
		got, err := ParseRequest(tc.action, tc.value)
		if err != nil {
			t.Errorf("%s=%q: %v", tc.action, tc.value, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s=%q (-want +got):\n%s", tc.action, tc.value, diff)
		}
	}
}

func TestParseRequestRefusesWithWhatIsAccepted(t *testing.T) {
	for value, action := range map[string]Action{
		"": ActionAbort, "v": ActionAbort, "v01": ActionRetry, "v2 v3": ActionApprove, "v2/all": ActionRestart, "previous": ActionRestart,
		"v2@": ActionPromote, "v2@200": ActionPromote, "v2/": ActionPromote, "@5": ActionPromote, "v2/all/": ActionPromote, "v2@5@6": ActionPromote,
		"v2#": ActionUndo, "v2#a b": ActionUndo, "v2##": ActionUndo, "stable": ActionUndo,
	} {
		asked, err := ParseRequest(action, value)
		if err == nil || !strings.Contains(err.Error(), "v2") && !strings.Contains(err.Error(), "1 to 32") && !strings.Contains(err.Error(), "v1") {
			t.Errorf("%s=%q is read as %+v, error %v; want it refused with what is accepted", action, value, asked, err)
		}
	}
	if _, err := ParseRequest(ActionAbort, strings.Repeat("é", 1000)); err == nil || len(err.Error()) > 300 {
		t.Errorf("a long value is refused at length: %v", err)
	}
}

func TestValidateNamesTheAction(t *testing.T) {
	s := TrafficShiftSpec{Actions: &Actions{Abort: "2", Promote: "v2/most", Undo: "true", Retry: "v1"}}
	s.Default()
	var got []string
	for _, err := range s.Validate(field.NewPath("spec")) {
		got = append(got, err.Error())
	}
	want := []string{
		`spec.actions.abort: Invalid value: "2": must be a version, such as v2`,
		`spec.actions.undo: Invalid value: "true": must be a version, such as v1, or previous`,
		`spec.actions.promote: Invalid value: "v2/most": must be a version, and how far: v2 (one step), v2@20 (one step, from 20%), v2/all, or v2/skip-gates`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
