package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/cmd/internal/view"
)

// verb is something that a person may ask of a shift.
type verb struct {
	action                    v1alpha1.Action
	key                       string
	use, short, long, example string
	// version is the one that is meant where none is given. The word is for the error where there is none.
	version func(v1alpha1.TrafficShiftStatus) string
	word    string
}

func candidateOf(s v1alpha1.TrafficShiftStatus) string { return s.Candidate }
func stableOf(s v1alpha1.TrafficShiftStatus) string    { return s.Stable }
func rejectedOf(s v1alpha1.TrafficShiftStatus) string  { return s.Rejected }

const sayVersion = "\n\nWithout VERSION it is the one that the status shows. A script that knows which it means had better say so."

var verbs = []verb{
	{
		action: v1alpha1.ActionPause, key: v1alpha1.AnnotationPaused, use: "pause NAME", short: "Keep the weights where they are",
		long:    "Keep the weights where they are, until resume. A bad candidate is still taken back.",
		example: example("pause micro-api", "stop at the present weight"),
	},
	{
		action: v1alpha1.ActionResume, key: v1alpha1.AnnotationPaused, use: "resume NAME", short: "Go on after a pause",
		long:    "Go on after a pause: by this plugin, by annotation or by spec.paused. A Deployment that is paused itself goes on with kubectl rollout resume.",
		example: example("resume micro-api", "go on from the present weight"),
	},
	{
		action: v1alpha1.ActionPromote, key: v1alpha1.AnnotationPromote, use: "promote NAME [VERSION]", short: "Take the candidate on, past what it has earned",
		long: "Take the candidate on by one step, now: past hold, proof, approval and pause, and never past pods that are not there. At 100 it ends the bake.\n" +
			"The request names the weight that the candidate stands at, so that it takes one step, and not two." + sayVersion,
		example: example(
			"promote micro-api", "one step",
			"promote micro-api --all", "to 100; a gate that fails still takes it back",
			"promote micro-api --skip-gates", "to 100 whatever the gates say: for an emergency"),
		version: candidateOf, word: "candidate",
	},
	{
		action: v1alpha1.ActionAbort, key: v1alpha1.AnnotationAbort, use: "abort NAME [VERSION]", short: "Take the candidate back, and refuse it",
		long: "Take the candidate back to 0, at once, and refuse it." + sayVersion, example: example("abort micro-api", "take the candidate back"),
		version: candidateOf, word: "candidate",
	},
	{
		action: v1alpha1.ActionRetry, key: v1alpha1.AnnotationRetry, use: "retry NAME [VERSION]", short: "Try a refused version again",
		long: "Try the version again that was refused last." + sayVersion, example: example("retry micro-api", "from the first step, gated as before"),
		version: rejectedOf, word: "refused version",
	},
	{
		action: v1alpha1.ActionApprove, key: v1alpha1.AnnotationApprove, use: "approve NAME [VERSION]", short: "Answer the manual gates that hold the candidate",
		long: "Answer the manual gates and pauses that hold the candidate." + sayVersion, example: example("approve micro-api", "let it go on"),
		version: candidateOf, word: "candidate",
	},
	{
		action: v1alpha1.ActionUndo, key: v1alpha1.AnnotationUndo, use: "undo NAME", short: "Release an earlier version again",
		long: "Write the template of an earlier version into the Deployment again: a release, gated as any other; of the stable version, in the middle of a release, a cancel.\n" +
			"Where git owns the template, change it there as well.",
		example: example("undo micro-api", "back to what users were on before", "undo micro-api --to v1", "back to v1"),
		version: func(v1alpha1.TrafficShiftStatus) string { return v1alpha1.Previous },
	},
	{
		action: v1alpha1.ActionRestart, key: v1alpha1.AnnotationRestart, use: "restart NAME [VERSION]", short: "Replace the pods of the stable version",
		long: "Replace the pods of the version that users are on, each before the next goes. It is no release." + sayVersion, example: example("restart micro-api", "replace the pods"),
		version: stableOf, word: "stable version",
	},
}

// askOptions are how something is asked.
type askOptions struct {
	version        string
	all, skipGates bool
	yes, noWait    bool
	dryRun         string
	timeout        time.Duration
}

func (p *plugin) askCommand(v verb) *cobra.Command {
	o := &askOptions{}
	most := 1
	if strings.Contains(v.use, "[VERSION]") {
		most = 2
	}
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Example: v.example, Args: cobra.RangeArgs(1, most), ValidArgsFunction: p.names(1),
		Long: v.long + fmt.Sprintf("\n\nIt writes the annotation %s on the TrafficShift, waits for the controller's answer, and prints it. It exits with 0 for Done, 2 for Refused, and 3 if no\n"+
			"answer comes in time; the request then stands until it is answered.", v.key),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				o.version = args[1]
			}
			c, namespace, err := p.connect()
			if err != nil {
				return err
			}
			return p.ask(cmd.Context(), c, keyOf(namespace, args[0]), v, o)
		},
	}
	f := cmd.Flags()
	addWrite(cmd, o)
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for the answer")
	switch v.action {
	case v1alpha1.ActionPromote:
		f.BoolVar(&o.all, "all", false, "to 100 in one step, with every gate armed")
		f.BoolVar(&o.skipGates, "skip-gates", false, "to 100 and to the end of the bake, whatever the gates say; asks back, or takes --yes")
		f.BoolVarP(&o.yes, "yes", "y", false, "do not ask back")
		cmd.MarkFlagsMutuallyExclusive("all", "skip-gates")
	case v1alpha1.ActionUndo:
		f.StringVar(&o.version, "to", "", "the version to go back to (the one that users were on before)")
		_ = cmd.RegisterFlagCompletionFunc("to", p.versions)
	}
	return cmd
}

// addWrite adds the flags of whatever writes.
func addWrite(cmd *cobra.Command, o *askOptions) {
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait for the answer")
	cmd.Flags().StringVar(&o.dryRun, "dry-run", "none", "none, client (print what would be written) or server (have it checked, and not kept)")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = "client"
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]cobra.Completion{"none", "client", "server"}, cobra.ShellCompDirectiveNoFileComp))
}

// ask puts a request to a shift, and tells the answer.
func (p *plugin) ask(ctx context.Context, c client.WithWatch, key client.ObjectKey, v verb, o *askOptions) error {
	ts, err := read(ctx, c, key)
	if err != nil {
		return err
	}
	value, err := v.value(ts, o)
	if err != nil {
		return err
	}
	if value = unanswered(ts, v, value); value == "" {
		p.say("Done: it has been asked for already, and stands")
		return nil
	}
	if err := p.confirm(ts, v, o); err != nil {
		return err
	}
	if kept, err := p.annotate(ctx, c, ts, map[string]string{v.key: value}, o.dryRun); err != nil || !kept || o.noWait {
		return err
	}
	return p.answered(ctx, c, ts, v, value, o.timeout)
}

// value is what is written. It names the version that is meant, so that what is left behind does nothing to the next release.
func (v verb) value(ts *v1alpha1.TrafficShift, o *askOptions) (string, error) {
	switch v.action {
	case v1alpha1.ActionPause:
		return "true", nil
	case v1alpha1.ActionResume:
		return "false", nil
	}
	value := o.version
	if value == "" {
		value = v.version(ts.Status)
	}
	if value == "" {
		return "", failed(exitEnded, "%s has no %s: it is %s, and %s", ts.Name, v.word, orUnknown(ts.Status.Phase), orUnseen(ts.Status.Message))
	}
	switch {
	case o.all:
		value += "/all"
	case o.skipGates:
		value += "/skip-gates"
	case v.action == v1alpha1.ActionPromote && value == ts.Status.Candidate:
		value += "@" + strings.TrimSuffix(ts.Status.State.Weight.String(), "%")
	}
	if _, err := v1alpha1.ParseRequest(v.action, value); err != nil {
		return "", err
	}
	return value, nil
}

func orUnknown(phase v1alpha1.Phase) string {
	if phase == "" {
		return "new"
	}
	return string(phase)
}

func orUnseen(message string) string {
	if message == "" {
		return "the controller has not looked at it yet"
	}
	return message
}

// unanswered makes a new question of one that stands there or was answered already, and nothing of a pause that is in force.
func unanswered(ts *v1alpha1.TrafficShift, v verb, value string) string {
	stands := func(value string) bool {
		return ts.Annotations[v.key] == value || slices.Contains(ts.Status.State.Answered, v1alpha1.Answered{Action: v.action, Source: v1alpha1.SourceAnnotation, Value: value})
	}
	if v.action == v1alpha1.ActionPause || v.action == v1alpha1.ActionResume {
		answered := slices.Contains(ts.Status.State.Answered, v1alpha1.Answered{Action: v.action, Source: v1alpha1.SourceAnnotation, Value: value})
		if ts.Annotations[v.key] == value && answered {
			return ""
		}
		return value
	}
	asked := value
	for n := 2; stands(asked); n++ {
		asked = fmt.Sprintf("%s#%d", value, n)
	}
	return asked
}

// confirm asks back before the gates are skipped.
func (p *plugin) confirm(ts *v1alpha1.TrafficShift, v verb, o *askOptions) error {
	if !o.skipGates || o.yes || o.dryRun != "none" {
		return nil
	}
	version := o.version
	if version == "" {
		version = v.version(ts.Status)
	}
	return p.asksFor(version, fmt.Sprintf("%s of %s/%s goes to 100%% whatever the gates say, and nothing that is measured takes it back.", version, ts.Namespace, ts.Name))
}

// asksFor goes on only if somebody types a word, or has said --yes.
func (p *plugin) asksFor(word, what string) error {
	if !p.asksBack {
		return errors.New(what + " Where nobody can be asked back, --yes says that this is meant")
	}
	p.write(view.Clean(fmt.Sprintf("%s Type %s to go on:", what, word)) + " ")
	line, _ := bufio.NewReader(p.streams.In).ReadString('\n')
	if strings.TrimSpace(line) != word {
		return errors.New("nothing was asked for")
	}
	return nil
}

// annotate writes annotations, and nothing else; an empty value takes one away. kept is false where it was only tried. ts is afterwards what the API server has.
func (p *plugin) annotate(ctx context.Context, c client.Client, ts *v1alpha1.TrafficShift, annotations map[string]string, dryRun string) (kept bool, err error) {
	patch := map[string]any{}
	var written []string
	for key, value := range annotations {
		if value == "" {
			patch[key], written = nil, append(written, key+"-")
			continue
		}
		patch[key], written = value, append(written, key+"="+value)
	}
	slices.Sort(written)
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": patch}})
	if err != nil {
		return false, err
	}
	what := fmt.Sprintf("TrafficShift %s/%s annotated: %s", ts.Namespace, ts.Name, strings.Join(written, " "))
	options := []client.PatchOption{client.FieldOwner(fieldManager)}
	switch dryRun {
	case "none":
	case "client":
		p.say("%s (dry run)", what)
		return false, nil
	case "server":
		options, what = append(options, client.DryRunAll), what+" (server dry run)"
	default:
		return false, fmt.Errorf("--dry-run=%q is not accepted: write none, client or server", dryRun)
	}
	if err := c.Patch(ctx, ts, client.RawPatch(types.MergePatchType, raw), options...); err != nil {
		return false, explained(err)
	}
	p.say("%s", what)
	return dryRun == "none", nil
}

// answered waits for the controller's answer, and tells it. asked is the shift right after it was asked.
func (p *plugin) answered(ctx context.Context, c client.WithWatch, asked *v1alpha1.TrafficShift, v verb, value string, timeout time.Duration) error {
	key := client.ObjectKeyFromObject(asked)
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	err := one(c, key, func(ts *v1alpha1.TrafficShift) (bool, error) {
		if ts == nil {
			return true, fmt.Errorf("TrafficShift %s is gone", key)
		}
		for _, a := range newer(asked.Status.Actions, ts.Status.Actions) {
			if a.Action != v.action || a.Value != value {
				continue
			}
			if a.Result == v1alpha1.ResultRefused {
				return true, failed(exitEnded, "Refused: %s", a.Message)
			}
			p.say("Done: %s", a.Message)
			return true, nil
		}
		if now := ts.Annotations[v.key]; now != "" && now != value {
			return true, failed(exitEnded, "%s=%s was overwritten by another request (%s) before it was answered, and does nothing", v.key, value, now)
		}
		return false, nil
	}).run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return failed(exitTimeout, "%s was not answered within %s: is the controller running? The request stands, and is answered when it looks", key.Name, timeout)
	}
	return err
}

// newer are the answers that have come since: a status has the newest first, and forgets the oldest.
func newer(before, now []v1alpha1.ActionRecord) []v1alpha1.ActionRecord {
	for n := range now {
		if rest := now[n:]; len(rest) <= len(before) && slices.EqualFunc(rest, before[:len(rest)], sameAnswer) {
			return now[:n]
		}
	}
	return now
}

func sameAnswer(a, b v1alpha1.ActionRecord) bool {
	at := a.At.Equal(&b.At) // times that are the same may differ in form
	a.At = b.At
	return at && a == b
}

// versions completes the versions that were promoted before.
func (p *plugin) versions(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	c, namespace, err := p.connect()
	if err != nil || len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	ts, err := read(ctx, c, keyOf(namespace, args[0]))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found := []cobra.Completion{v1alpha1.Previous}
	for _, r := range around(ctx, c, ts).Records {
		if r.Verdict == v1alpha1.ReasonPromoted {
			found = append(found, cobra.CompletionWithDesc(view.Clean(r.Version), view.Clean(strings.Join(r.Images, ", "))))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
