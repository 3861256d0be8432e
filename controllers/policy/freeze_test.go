package policy_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/policy"
)

func freeze(name, schedule, duration, zone string) v1alpha1.Freeze {
	d, err := time.ParseDuration(duration)
	if err != nil {
		panic(err)
	}
	return v1alpha1.Freeze{Name: name, Schedule: schedule, Duration: metav1.Duration{Duration: d}, TimeZone: zone}
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestFreezes(t *testing.T) {
	weekend := freeze("weekend", "0 17 * * FRI", "63h", "Europe/Berlin") // to Monday at 8
	night := freeze("night", "30 22 * * *", "8h", "UTC")
	tests := map[string]struct {
		reason  string
		freezes []v1alpha1.Freeze
		now     string
		want    string // the names and the end; empty where nothing is frozen
	}{
		"None":            {"nothing is frozen without a freeze", nil, "2026-11-20T16:00:00Z", ""},
		"Before":          {"a second before it begins", []v1alpha1.Freeze{weekend}, "2026-11-20T15:59:59Z", ""},
		"Begins":          {"at 17:00 in Berlin", []v1alpha1.Freeze{weekend}, "2026-11-20T16:00:00Z", "weekend until 2026-11-23T07:00:00Z"},
		"LastSecond":      {"the end is not in it", []v1alpha1.Freeze{weekend}, "2026-11-23T06:59:59Z", "weekend until 2026-11-23T07:00:00Z"},
		"Ends":            {"the end is not in it", []v1alpha1.Freeze{weekend}, "2026-11-23T07:00:00Z", ""},
		"BeforeMidnight":  {"a window may span midnight", []v1alpha1.Freeze{night}, "2026-11-20T22:30:00Z", "night until 2026-11-21T06:30:00Z"},
		"AfterMidnight":   {"and its second half is in it", []v1alpha1.Freeze{night}, "2026-12-31T23:59:59Z", "night until 2027-01-01T06:30:00Z"},
		"NewYear":         {"in the new year as well", []v1alpha1.Freeze{night}, "2027-01-01T06:29:59Z", "night until 2027-01-01T06:30:00Z"},
		"BothAtOnce":      {"the later end counts", []v1alpha1.Freeze{weekend, night}, "2026-11-20T23:00:00Z", "weekend, night until 2026-11-23T07:00:00Z"},
		"OneAfterAnother": {"one that begins before the last one of it ends goes on", []v1alpha1.Freeze{freeze("daily", "0 0 1-3 * *", "25h", "UTC")}, "2026-11-01T12:00:00Z", "daily until 2026-11-04T01:00:00Z"},
		"BackToBack":      {"and one that begins when it ends", []v1alpha1.Freeze{freeze("daily", "0 0 1-3 * *", "24h", "UTC")}, "2026-11-01T12:00:00Z", "daily until 2026-11-04T00:00:00Z"},
		"SummerEnds":      {"63 hours by a stopwatch end an hour early by the clock", []v1alpha1.Freeze{weekend}, "2026-10-25T12:00:00Z", "weekend until 2026-10-26T06:00:00Z"},
		"SummerBegins":    {"and an hour late", []v1alpha1.Freeze{weekend}, "2027-03-28T12:00:00Z", "weekend until 2027-03-29T07:00:00Z"},
		"LeaptOver":       {"02:30 is not on that day: it begins when the clock leaps", []v1alpha1.Freeze{freeze("gap", "30 2 * * *", "30m", "Europe/Berlin")}, "2027-03-28T01:00:00Z", "gap until 2027-03-28T01:30:00Z"},
		"LeaptOverBefore": {"and not before", []v1alpha1.Freeze{freeze("gap", "30 2 * * *", "30m", "Europe/Berlin")}, "2027-03-28T00:59:59Z", ""},
		"FirstOfTwo":      {"02:30 comes twice: the first counts", []v1alpha1.Freeze{freeze("fold", "30 2 * * *", "30m", "Europe/Berlin")}, "2026-10-25T00:30:00Z", "fold until 2026-10-25T01:00:00Z"},
		"SecondOfTwo":     {"and the second does not", []v1alpha1.Freeze{freeze("fold", "30 2 * * *", "30m", "Europe/Berlin")}, "2026-10-25T01:30:00Z", ""},
		"FarZone":         {"Monday in Auckland is Sunday in London", []v1alpha1.Freeze{freeze("monday", "0 0 * * MON", "1h", "Pacific/Auckland")}, "2026-11-22T11:30:00Z", "monday until 2026-11-22T12:00:00Z"},
		"NoZone":          {"without a zone it is UTC", []v1alpha1.Freeze{freeze("noon", "0 12 * * *", "1h", "")}, "2026-11-22T12:00:00Z", "noon until 2026-11-22T13:00:00Z"},
		"LeapDay":         {"once in four years", []v1alpha1.Freeze{freeze("leap", "0 0 29 2 *", "24h", "UTC")}, "2028-02-29T12:00:00Z", "leap until 2028-03-01T00:00:00Z"},
		"Unreadable":      {"what cannot be read is reported, and freezes nothing", []v1alpha1.Freeze{freeze("bad", "61 * * * *", "1h", "UTC")}, "2026-11-20T16:00:00Z", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := policy.Freezes(tc.freezes, at(tc.now)).String(); got != tc.want {
				t.Errorf("at %s: %q, want %q: %s", tc.now, got, tc.want, tc.reason)
			}
		})
	}
}

func TestAFreezeThatNeverEndsIsAnswered(t *testing.T) {
	f := policy.Freezes([]v1alpha1.Freeze{freeze("always", "* * * * *", "1h", "UTC")}, at("2026-11-20T16:00:30Z"))
	if f.Until.Before(at("2026-11-20T17:00:00Z")) {
		t.Errorf("until %s; want later: it begins again every minute", f.Until)
	}
}

func TestOnlyFreezesThatHoldHoldWhatIsUnderWay(t *testing.T) {
	hold, finish := freeze("incident", "0 12 * * *", "2h", "UTC"), freeze("lunch", "0 12 * * *", "3h", "UTC")
	hold.OnRunning = v1alpha1.OnRunningHold
	f := policy.Freezes([]v1alpha1.Freeze{hold, finish}, at("2026-11-20T12:30:00Z"))
	if len(f.Hold) != 1 || f.Hold[0] != "incident" || !f.HoldUntil.Equal(at("2026-11-20T14:00:00Z")) || !f.Until.Equal(at("2026-11-20T15:00:00Z")) {
		t.Errorf("%+v; want incident alone to hold, until 14:00, and both to freeze until 15:00", f)
	}
}

// Changes is exact: between now and then nothing changes, and then something does. Frozen minutes are those of a clock that is looked at
// every minute.
func TestChangesIsWhenSomethingChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var freezes []v1alpha1.Freeze
		for i := range rapid.IntRange(1, 3).Draw(t, "freezes") {
			schedule := rapid.SampledFrom([]string{"0 17 * * FRI", "30 2 * * *", "*/20 * * * *", "0 0 1 * *", "15 1-3 * * SUN"}).Draw(t, "schedule")
			duration := rapid.SampledFrom([]string{"7m", "11m"}).Draw(t, "duration") // short of the shortest schedule: it ends
			zone := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"}).Draw(t, "zone")
			freezes = append(freezes, freeze(strings.Repeat("x", i+1), schedule, duration, zone))
		}
		start := rapid.SampledFrom([]string{"2026-10-24T20:00:00Z", "2027-03-27T22:00:00Z", "2026-11-01T03:00:00Z", "2026-07-03T14:00:00Z"}).Draw(t, "from")
		now := at(start).Add(time.Duration(rapid.IntRange(0, 8*60).Draw(t, "minutes")) * time.Minute)
		names := func(at time.Time) string { return strings.Join(policy.Freezes(freezes, at).Names, ",") }
		next := policy.Changes(freezes, now)
		if !next.After(now) {
			t.Fatalf("at %s the next change is at %s", now, next)
		}
		for m := now; m.Before(next) && m.Before(now.Add(4*time.Hour)); m = m.Add(time.Minute) {
			if names(m) != names(now) {
				t.Fatalf("%q at %s, %q at %s, and the next change is said to be at %s", names(now), now, names(m), m, next)
			}
		}
		if names(next) == names(now) {
			t.Fatalf("nothing has changed at %s: %q", next, names(now))
		}
	})
}

func TestCheckNamesWhatCannotBeFollowed(t *testing.T) {
	ok := freeze("f", "0 17 * * FRI", "1h", "Europe/Berlin")
	with := func(change func(*v1alpha1.Freeze)) v1alpha1.ShiftPolicySpec {
		f := ok
		change(&f)
		return v1alpha1.ShiftPolicySpec{Freezes: []v1alpha1.Freeze{f}}
	}
	none := int32(0)
	tests := map[string]struct {
		spec v1alpha1.ShiftPolicySpec
		want []string // parts of the one mistake; empty where there is none
	}{
		"Nothing":     {v1alpha1.ShiftPolicySpec{}, nil},
		"Fine":        {with(func(*v1alpha1.Freeze) {}), nil},
		"Minute61":    {with(func(f *v1alpha1.Freeze) { f.Schedule = "61 * * * *" }), []string{"spec.freezes[0].schedule", "61 * * * *", "five fields of cron"}},
		"SixFields":   {with(func(f *v1alpha1.Freeze) { f.Schedule = "0 0 17 * * FRI" }), []string{"spec.freezes[0].schedule", "five fields of cron"}},
		"Daily":       {with(func(f *v1alpha1.Freeze) { f.Schedule = "@daily" }), []string{"spec.freezes[0].schedule", "five fields of cron"}},
		"ZoneInCron":  {with(func(f *v1alpha1.Freeze) { f.Schedule = "TZ=0 * * * *" }), []string{"spec.freezes[0].schedule"}},
		"NoSuchDay":   {with(func(f *v1alpha1.Freeze) { f.Schedule = "0 0 31 2 *" }), []string{"spec.freezes[0].schedule", "names no day that there is"}},
		"Zone":        {with(func(f *v1alpha1.Freeze) { f.TimeZone = "Mars/Olympus" }), []string{"spec.freezes[0].timeZone", "Mars/Olympus", "Europe/Berlin"}},
		"LocalZone":   {with(func(f *v1alpha1.Freeze) { f.TimeZone = "Local" }), []string{"spec.freezes[0].timeZone", "Local"}},
		"NoDuration":  {with(func(f *v1alpha1.Freeze) { f.Duration.Duration = 0 }), []string{"spec.freezes[0].duration", "0s", "8784h"}},
		"Forever":     {with(func(f *v1alpha1.Freeze) { f.Duration.Duration = 9000 * time.Hour }), []string{"spec.freezes[0].duration", "8784h"}},
		"OnRunning":   {with(func(f *v1alpha1.Freeze) { f.OnRunning = "abort" }), []string{"spec.freezes[0].onRunning", "abort", "finish"}},
		"SameName":    {v1alpha1.ShiftPolicySpec{Freezes: []v1alpha1.Freeze{ok, ok}}, []string{"spec.freezes[1].name", "Duplicate"}},
		"NoneAtOnce":  {v1alpha1.ShiftPolicySpec{MaxConcurrent: &none}, []string{"spec.maxConcurrent", "use a freeze"}},
		"Selector":    {v1alpha1.ShiftPolicySpec{Namespaces: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Like"}}}}, []string{"spec.namespaces", "Like"}},
		"BadDefault":  {v1alpha1.ShiftPolicySpec{Defaults: v1alpha1.ShiftDefaults{MaxIncrease: "0.1%"}}, []string{"spec.defaults.maxIncrease", "above 0.1%"}},
		"GoodDefault": {v1alpha1.ShiftPolicySpec{Defaults: v1alpha1.ShiftDefaults{Gateways: []string{"public"}, Pacing: v1alpha1.PacingLadder}}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			errs := policy.Check(&tc.spec, field.NewPath("spec"))
			if len(errs) != min(1, len(tc.want)) {
				t.Fatalf("%d mistakes: %v", len(errs), errs)
			}
			for _, part := range tc.want {
				if !strings.Contains(errs[0].Error(), part) {
					t.Errorf("%q does not say %q", errs[0], part)
				}
			}
		})
	}
}

func TestGrants(t *testing.T) {
	team := &v1alpha1.ShiftPolicySpec{Namespaces: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}}
	for _, tc := range []struct {
		spec   *v1alpha1.ShiftPolicySpec
		labels map[string]string
		want   bool
	}{
		{&v1alpha1.ShiftPolicySpec{}, nil, true},
		{&v1alpha1.ShiftPolicySpec{Namespaces: &metav1.LabelSelector{}}, nil, true},
		{team, map[string]string{"team": "a", "x": "y"}, true},
		{team, map[string]string{"team": "b"}, false},
		{team, nil, false},
	} {
		if got := policy.Grants(tc.spec, tc.labels); got != tc.want {
			t.Errorf("%v for %v: %t, want %t", tc.spec.Namespaces, tc.labels, got, tc.want)
		}
	}
}
