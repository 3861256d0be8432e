package v1alpha1

import (
	"fmt"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Actions are what a person may ask of a shift, as fields of its spec. Each is also an annotation on the TrafficShift, sluice.dev/ACTION
// with the same value, which Sluice takes away once it is answered; a field stands where it is, and asks once for each value. What has been
// answered, and how, is in status.actions.
//
// Each value names the version that is meant, so that one that is left behind does nothing to the next release. "#" and up to 32 letters or
// digits at its end make a new question of the same: "v2#again".
type Actions struct {
	// abort ("v2") takes that candidate back to weight 0 and refuses it.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^v[1-9][0-9]{0,8}(#[A-Za-z0-9._-]{1,32})?$')",message="must be a version, such as v2"
	// +optional
	Abort string `json:"abort,omitempty"`
	// retry ("v2") tries a refused version again.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^v[1-9][0-9]{0,8}(#[A-Za-z0-9._-]{1,32})?$')",message="must be a version, such as v2"
	// +optional
	Retry string `json:"retry,omitempty"`
	// approve ("v2") answers the manual gates that hold that candidate.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^v[1-9][0-9]{0,8}(#[A-Za-z0-9._-]{1,32})?$')",message="must be a version, such as v2"
	// +optional
	Approve string `json:"approve,omitempty"`
	// promote takes that candidate on, past what it has earned: "v2" by one step, "v2@20" by one step if it stands at 20%, "v2/all" to 100
	// as soon as it has the pods. A gate that fails still takes it back; with "v2/skip-gates" none does, until it is promoted or aborted.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^v[1-9][0-9]{0,8}(@(100(\\\\.0)?|[0-9]{1,2}(\\\\.[0-9])?)%?|/all|/skip-gates)?(#[A-Za-z0-9._-]{1,32})?$')",message="must be a version, and how far: v2 (one step), v2@20 (one step, from 20%), v2/all, or v2/skip-gates"
	// +optional
	Promote string `json:"promote,omitempty"`
	// undo ("v1", or "previous") writes the template of that version into the Deployment again, and nothing else of it. What follows is a
	// release like any other, gated as one; of the stable version, in the middle of a shift, it is a cancel.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^(v[1-9][0-9]{0,8}|previous)(#[A-Za-z0-9._-]{1,32})?$')",message="must be a version, such as v1, or previous"
	// +optional
	Undo string `json:"undo,omitempty"`
	// restart ("v2") replaces the pods of the stable version, one after the other and each before the next goes.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^v[1-9][0-9]{0,8}(#[A-Za-z0-9._-]{1,32})?$')",message="must be a version, such as v2"
	// +optional
	Restart string `json:"restart,omitempty"`
}

// MostRevisions is how many versions a rollback window can have.
const MostRevisions = 10

// RollbackWindow says which versions go back to 100 without steps.
type RollbackWindow struct {
	// revisions is how many of the versions that were promoted before the stable one it has; one that somebody has gone back from since is
	// none of them. A template that equals one of them goes to 100 as soon as it has its pods, once nothing is seen to reach it before:
	// without steps, holds and proof. Every gate is asked all the same, before 100 those at the start and people, and after it all of them,
	// for bake, with the pause of the step to 100. A pause of the shift, a freeze, and what stands in the way of any release still hold it.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	Revisions int32 `json:"revisions"`
}

// Action is something that a person asks of a shift.
//
// +kubebuilder:validation:Enum=pause;resume;promote;abort;retry;approve;undo;restart
type Action string

// The actions.
const (
	ActionPause   Action = "pause"
	ActionResume  Action = "resume"
	ActionPromote Action = "promote"
	ActionAbort   Action = "abort"
	ActionRetry   Action = "retry"
	ActionApprove Action = "approve"
	ActionUndo    Action = "undo"
	ActionRestart Action = "restart"
)

// Source is where a request stands.
//
// +kubebuilder:validation:Enum=annotation;field;deployment
type Source string

// The sources.
const (
	SourceAnnotation Source = "annotation"
	SourceField      Source = "field"
	// SourceDeployment is the Deployment's own spec.paused.
	SourceDeployment Source = "deployment"
)

// Result is what became of a request.
//
// +kubebuilder:validation:Enum=Done;Refused
type Result string

// The results.
const (
	ResultDone    Result = "Done"
	ResultRefused Result = "Refused"
)

// ActionRecord is one request, who made it, and how it was answered.
type ActionRecord struct {
	// action is what was asked for.
	Action Action `json:"action"`
	// value is how it was written.
	// +optional
	Value string `json:"value,omitempty"`
	// version is the version that it was about.
	// +optional
	Version string `json:"version,omitempty"`
	// by is the field manager that wrote it: the tool, as managedFields knows it. The API server's audit log knows the person.
	// +optional
	By string `json:"by,omitempty"`
	// at is when it was answered.
	At metav1.Time `json:"at"`
	// result is Done or Refused.
	Result Result `json:"result"`
	// message says what it does, or why not.
	// +optional
	Message string `json:"message,omitempty"`
}

// Answered is a request that was answered already: it asks nothing more for as long as it stands where it is.
type Answered struct {
	// action is what it asks for.
	Action Action `json:"action"`
	// source is where it stands: annotation, field, or deployment (its own spec.paused).
	Source Source `json:"source"`
	// value is how it was written.
	// +optional
	Value string `json:"value,omitempty"`
}

// Order is what a candidate was told to do beyond what it has earned.
type Order struct {
	// to is how far: Step, All or SkipGates.
	To Extent `json:"to"`
	// by is who said so.
	// +optional
	By string `json:"by,omitempty"`
}

// Extent is how far an order goes.
//
// +kubebuilder:validation:Enum=Step;All;SkipGates
type Extent string

// The extents.
const (
	// ExtentStep is one step, or the end of the bake.
	ExtentStep Extent = "Step"
	// ExtentAll is 100, where a gate that fails still takes the candidate back.
	ExtentAll Extent = "All"
	// ExtentSkipGates is 100, whatever the gates say, and until the candidate is promoted or aborted.
	ExtentSkipGates Extent = "SkipGates"
)

// UndoState is a template that is on its way back into the Deployment.
type UndoState struct {
	// version is the one whose template it is.
	Version string `json:"version"`
	// generation is the Deployment's when this was asked for: a template that somebody else has changed since is not overwritten.
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// by is who asked for it.
	// +optional
	By string `json:"by,omitempty"`
}

// RestartState is a restart that was asked for and that its Deployment does not show yet.
type RestartState struct {
	// version is whose pods are replaced.
	Version string `json:"version"`
	// at tells it from the restart before.
	At string `json:"at"`
}

// Asked is what the value of a request says.
type Asked struct {
	// Version is the one that is meant, or Previous.
	Version string
	// From is the weight that a step is to lead away from; nil for any.
	From *Permille
	// Extent is how far a promotion goes.
	Extent Extent
}

// Previous stands, in an undo, for the version that users were on before.
const Previous = "previous"

var (
	tokenForm   = regexp.MustCompile(`^#[A-Za-z0-9._-]{1,32}$`)
	versionForm = regexp.MustCompile(`^v[1-9][0-9]{0,8}$`)
	weightForm  = regexp.MustCompile(`^(100(\.0)?|[0-9]{1,2}(\.[0-9])?)%?$`)
)

// ParseRequest reads the value of a request. The error says what is accepted.
func ParseRequest(action Action, value string) (Asked, error) {
	text := strings.TrimSpace(value)
	if i := strings.IndexByte(text, '#'); i >= 0 {
		if !tokenForm.MatchString(text[i:]) {
			return Asked{}, fmt.Errorf("%q: what follows # must be 1 to 32 of A-Z, a-z, 0-9, ., _ and -", clipped(value))
		}
		text = text[:i]
	}
	asked, ok := Asked{Version: text}, true
	switch action {
	case ActionUndo:
		if text == "" || text == "true" || text == Previous {
			return Asked{Version: Previous}, nil
		}
	case ActionPromote:
		asked, ok = parsePromote(text)
	}
	if !ok || !versionForm.MatchString(asked.Version) {
		return Asked{}, fmt.Errorf("%q is not such a request; accepted: %s", clipped(value), accepted(action))
	}
	return asked, nil
}

func parsePromote(text string) (asked Asked, ok bool) {
	if version, weight, found := strings.Cut(text, "@"); found {
		if !weightForm.MatchString(weight) {
			return Asked{}, false
		}
		from, err := parseWeight(weight)
		return Asked{Version: version, From: &from, Extent: ExtentStep}, err == nil
	}
	version, extent, _ := strings.Cut(text, "/")
	switch "/" + extent {
	case "/all":
		return Asked{Version: version, Extent: ExtentAll}, true
	case "/skip-gates":
		return Asked{Version: version, Extent: ExtentSkipGates}, true
	}
	return Asked{Version: text, Extent: ExtentStep}, true
}

// parseWeight reads a weight of which, unlike that of a step, 0 is one.
func parseWeight(text string) (Permille, error) {
	switch strings.TrimSuffix(text, "%") {
	case "0", "00", "0.0", "00.0":
		return 0, nil
	}
	return Percent(text).Permille()
}

// accepted are the forms of an action's value.
func accepted(action Action) string {
	switch action {
	case ActionPromote:
		return "a version, and how far: v2 (one step), v2@20 (one step, from 20%), v2/all, or v2/skip-gates"
	case ActionUndo:
		return "a version, such as v1, or previous"
	}
	return "a version, such as v2"
}

// clipped keeps a value short enough for a message.
func clipped(value string) string {
	const most = 80
	if r := []rune(value); len(r) > most {
		return string(r[:most]) + "..."
	}
	return value
}

// ByAction lists all actions with what is written for each, in the order in which they are answered: those that take a candidate back
// come first, so that what is asked at the same time does not raise it.
func (a *Actions) ByAction() []ActionValue {
	if a == nil {
		a = &Actions{}
	}
	return []ActionValue{
		{ActionAbort, a.Abort}, {ActionUndo, a.Undo}, {ActionRetry, a.Retry}, {ActionApprove, a.Approve}, {ActionPromote, a.Promote}, {ActionRestart, a.Restart},
	}
}

// ActionValue is an action and what is written for it, empty where nothing is.
type ActionValue struct {
	Action Action
	Value  string
}

func (a *Actions) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, asked := range a.ByAction() {
		if asked.Value == "" {
			continue
		}
		if _, err := ParseRequest(asked.Action, asked.Value); err != nil || strings.TrimSpace(asked.Value) != asked.Value || asked.Value == "true" {
			errs = append(errs, field.Invalid(path.Child(string(asked.Action)), clipped(asked.Value), "must be "+accepted(asked.Action)))
		}
	}
	return errs
}
