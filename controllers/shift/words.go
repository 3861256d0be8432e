package shift

import (
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// counted is what users are counted by.
func (p *pass) counted() string { return Counted(p.obs.Connections) }

// Counted names what users are counted by: their connections, where nothing else of them is seen.
func Counted(connections bool) string {
	if connections {
		return "connections"
	}
	return "requests"
}

// worded says of connections what the gates say of requests. It is given their own sentences alone, and nothing that an owner wrote.
func (p *pass) worded(text string) string { return strings.ReplaceAll(text, "requests", p.counted()) }

// judged are the gates' verdicts in these words.
func (p *pass) judged(verdicts []analysis.Verdict) []analysis.Verdict {
	worded := slices.Clone(verdicts)
	for i := range worded {
		worded[i].Message = p.worded(worded[i].Message)
	}
	return worded
}
