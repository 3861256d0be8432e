package query

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestWhyThereIsNoSeries(t *testing.T) {
	cases := map[string]struct {
		reason string
		// counts are scraped before the look.
		counts [][]string
		want   error
	}{
		"Nothing": {"a mesh that is not scraped", nil, ErrNoMetric},
		"Others":  {"others are counted", [][]string{{labelService, "other.shop.svc.cluster.local", labelWorkload, "other-v1"}}, ErrNoTraffic},
		"OtherPods": {"the Deployment's own pods, before it was taken over",
			[][]string{{labelWorkload, "micro-api"}}, ErrNoTraffic},
		"NoWorkload":  {"a tag that was removed", [][]string{{labelWorkload, ""}}, ErrNoLabels},
		"NoNamespace": {"a tag that was removed", [][]string{{labelNamespace, ""}}, ErrNoLabels},
		"NoReporter":  {"a tag that was removed", [][]string{{labelReporter, ""}}, ErrNoLabels},
		"NoService": {"told by its other names", [][]string{{labelWorkload, "", labelService, "", labelName, "micro-api", labelHome, "shop"}},
			ErrNoLabels},
		"SameNameElsewhere": {"another namespace's", [][]string{{labelWorkload, "", labelService, "", labelName, "micro-api", labelHome, "other"}},
			ErrNoTraffic},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := running()
			for _, changes := range tc.counts {
				p.count(tick(0), 1, changes...)
			}
			c := newWatching(t, p, shop, plain)
			c.look(t.Context(), tick(0))
			_, err := c.Since(t.Context(), microAPI, time.Time{})
			if !errors.Is(err, tc.want) || !errors.Is(err, ErrNoSeries) {
				t.Errorf("%s: %v; want %v", tc.reason, err, tc.want)
			}
		})
	}
}

// Why there is no series is asked while there is none, and whether there are any at all is not asked again at every look.
func TestWhySilenceCostsLittle(t *testing.T) {
	asked := func(p *fakePrometheus, part string) int {
		n := 0
		for _, q := range p.asked() {
			if strings.Contains(q, part) {
				n++
			}
		}
		return n
	}
	const everything, services = metricRequests + "{})", labelName
	p := running()
	p.count(tick(0), 1, labelService, "other.shop.svc.cluster.local", labelWorkload, "other-v1")
	c := newWatching(t, p, shop, plain)
	for n := range 4 {
		c.look(t.Context(), tick(n))
	}
	if n := asked(p, everything); n != 1 {
		t.Errorf("asked for everything %d times in four looks; want once", n)
	}
	p.count(tick(4), 1)
	c.look(t.Context(), tick(4))
	if n := asked(p, services); n != 0 {
		t.Errorf("asked %d times why there is no series where there is one", n)
	}
	if _, err := c.Since(t.Context(), microAPI, time.Time{}); err != nil {
		t.Errorf("evidence that is there: %v", err)
	}
}
