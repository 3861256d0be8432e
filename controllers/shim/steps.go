package shim

import (
	"fmt"
	"regexp"
	"strings"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// percentOf is a weight or a share as steps write it, rungForm one item of their list:
//
//	steps  = "auto" | item { "," item }
//	item   = ( weight | range | mirror ) [ "@" hold ]
//	range  = weight ".." weight "/" weight      from, to and by how much: "10..100/10"
//	mirror = "mirror:" weight
//
// Mirrors come before weights.
const percentOf = `((?:100(?:\.0)?|[0-9]{1,2}(?:\.[0-9])?)%?)`

var rungForm = regexp.MustCompile(`^(mirror:)?` + percentOf + `(?:\.\.` + percentOf + `/` + percentOf + `)?(?:@(.*))?$`)

// mostSteps is what the schema allows.
const mostSteps = 50

// parseSteps reads "mirror:10%@5m,5,20..100/20@1m". A whole percent becomes an integer and any other a string, as people write them in
// YAML. With auto there are no steps: pacing says so, and a list that was applied before goes.
func parseSteps(s string) (any, error) {
	if s == string(sluice.PacingAuto) {
		return other{"pacing", s}, nil
	}
	var steps []any
	for text := range strings.SplitSeq(s, ",") {
		rungs, err := parseRung(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		steps = append(steps, rungs...)
	}
	if len(steps) > mostSteps {
		return nil, fmt.Errorf("there are %d steps, more than %d", len(steps), mostSteps)
	}
	return steps, nil
}

// parseRung reads one item, which is several steps where it is a range.
func parseRung(text string) ([]any, error) {
	m := rungForm.FindStringSubmatch(text)
	if m == nil || m[1] != "" && m[3] != "" {
		return nil, fmt.Errorf("%q is not such a step", clip(text))
	}
	step := map[string]any{}
	if _, hold, held := strings.Cut(text, "@"); held {
		d, err := parseDuration(hold)
		if err != nil {
			return nil, fmt.Errorf("%q: the hold %q is %w", clip(text), clip(hold), err)
		}
		step["hold"] = d
	}
	if m[1] != "" {
		step["mirror"] = m[2]
		return []any{step}, nil
	}
	weights, err := weightsOf(m[2], m[3], m[4])
	if err != nil {
		return nil, fmt.Errorf("%q: %w", clip(text), err)
	}
	steps := make([]any, 0, len(weights))
	for _, w := range weights {
		one := map[string]any{"weight": weightValue(w)}
		if hold, ok := step["hold"]; ok {
			one["hold"] = hold
		}
		steps = append(steps, one)
	}
	return steps, nil
}

// weightsOf are the weights from one to another, both included; to and by are empty for a single one.
func weightsOf(from, to, by string) ([]sluice.Permille, error) {
	if to == "" {
		to, by = from, "1"
	}
	var ends [3]sluice.Permille
	for i, text := range []string{from, to, by} {
		p, err := sluice.Percent(text).Permille()
		if err != nil {
			return nil, err
		}
		ends[i] = p
	}
	first, last, stride := ends[0], ends[1], ends[2]
	if stride == 0 || last < first || (last-first)%stride != 0 {
		return nil, fmt.Errorf("no number of steps of %s leads from %s to %s", stride, first, last)
	}
	var weights []sluice.Permille
	for w := first; w <= last; w += stride {
		weights = append(weights, w)
	}
	return weights, nil
}

func weightValue(p sluice.Permille) any {
	if p%10 == 0 {
		return int64(p / 10)
	}
	return strings.TrimSuffix(p.String(), "%")
}
