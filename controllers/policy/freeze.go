// Package policy reads ShiftPolicies: whether one can be followed, whom it is for, when it lets a shift start, and whose turn it is.
//
// The package is pure: no client, context, logger, clock or randomness. The present time is an argument.
package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // an image without a zone database must not read a schedule in another zone

	"github.com/robfig/cron/v3"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Frozen is what the freezes in force say together.
type Frozen struct {
	// Names are the freezes in force.
	Names []string
	// Until is when the last of them ends.
	Until time.Time
	// Hold is the freezes in force that hold shifts under way, HoldUntil when the last of those ends.
	Hold      []string
	HoldUntil time.Time
}

// most is how many beginnings of one schedule are looked at in one go: a freeze that begins again before it ends goes on for long.
const most = 500

// Freezes evaluates freezes at a time. One that cannot be read is not in force; Check reports it.
func Freezes(freezes []v1alpha1.Freeze, now time.Time) Frozen {
	var f Frozen
	for _, freeze := range freezes {
		w, err := windowOf(freeze)
		if err != nil {
			continue
		}
		end, in := w.in(now)
		if !in {
			continue
		}
		f.Names, f.Until = append(f.Names, freeze.Name), later(f.Until, end)
		if freeze.OnRunning == v1alpha1.OnRunningHold {
			f.Hold, f.HoldUntil = append(f.Hold, freeze.Name), later(f.HoldUntil, end)
		}
	}
	return f
}

// Changes is when the freezes in force are others than now; zero where that is never.
func Changes(freezes []v1alpha1.Freeze, now time.Time) time.Time {
	var next time.Time
	for _, freeze := range freezes {
		w, err := windowOf(freeze)
		if err != nil {
			continue
		}
		at, in := w.in(now)
		if !in {
			at = w.begins(now)
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// String says what is in force, and until when.
func (f Frozen) String() string {
	if len(f.Names) == 0 {
		return ""
	}
	return fmt.Sprintf("%s until %s", strings.Join(f.Names, ", "), Until(f.Until))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// window is a freeze that can be evaluated.
type window struct {
	schedule cron.Schedule
	duration time.Duration
	zone     *time.Location
}

var (
	fields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	form   = regexp.MustCompile(`^[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4}$`)
)

func windowOf(f v1alpha1.Freeze) (window, error) {
	schedule, err := scheduleOf(f.Schedule)
	if err != nil {
		return window{}, err
	}
	zone, err := zoneOf(f.TimeZone)
	if err != nil {
		return window{}, err
	}
	if f.Duration.Duration <= 0 || f.Duration.Duration > longest {
		return window{}, fmt.Errorf("a freeze must last more than 0s and at most %dh", longest/time.Hour)
	}
	return window{schedule, f.Duration.Duration, zone}, nil
}

// scheduleOf reads the five fields, in a zone without summer time: wall is read as if it were UTC.
func scheduleOf(text string) (cron.Schedule, error) {
	if !form.MatchString(text) {
		return nil, fmt.Errorf("must be the five fields of cron, such as \"0 17 * * FRI\"")
	}
	schedule, err := fields.Parse("TZ=UTC " + text)
	if err != nil {
		return nil, fmt.Errorf("%w; accepted are the five fields of cron (minute, hour, day of the month, month, day of the week), such as \"0 17 * * FRI\"", err)
	}
	return schedule, nil
}

func zoneOf(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("no such time zone; accepted are the names of the IANA database, such as Europe/Berlin")
	}
	return zone, nil
}

// leap is more than any clock is ever put forward or back.
const leap = 3 * time.Hour

// in reports whether a time lies in a window, and when that ends: with the last of those that begin before the one before has ended.
func (w window) in(now time.Time) (end time.Time, in bool) {
	wall := w.wall(now.Add(-w.duration)).Add(-leap)
	for range most {
		wall = w.schedule.Next(wall)
		begin := w.instant(wall)
		if wall.IsZero() || begin.After(now) && (!in || begin.After(end)) {
			return end, in
		}
		if e := begin.Add(w.duration); e.After(now) {
			end, in = later(end, e), true
		}
	}
	return end, in
}

// begins is when the next window begins after a time; zero where none ever does.
func (w window) begins(now time.Time) time.Time {
	wall := w.wall(now).Add(-leap)
	for {
		wall = w.schedule.Next(wall)
		if wall.IsZero() {
			return time.Time{}
		}
		if begin := w.instant(wall); begin.After(now) {
			return begin
		}
	}
}

// wall is what a clock in the window's zone shows, as if it were UTC.
func (w window) wall(t time.Time) time.Time {
	_, offset := t.In(w.zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// instant is when a clock in the window's zone shows a time: for the first time, where it does twice, and where it leaps over it when it
// leaps.
func (w window) instant(wall time.Time) time.Time {
	if wall.IsZero() {
		return wall
	}
	var shown []time.Time
	for _, around := range []time.Time{wall.Add(-24 * time.Hour), wall.Add(24 * time.Hour)} {
		_, offset := around.In(w.zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second)
		if w.wall(t).Equal(wall) {
			shown = append(shown, t)
		}
	}
	if len(shown) > 0 {
		return slices.MinFunc(shown, time.Time.Compare)
	}
	_, before := wall.Add(-24 * time.Hour).In(w.zone).Zone()
	leapt, _ := wall.Add(-time.Duration(before) * time.Second).In(w.zone).ZoneBounds()
	return leapt.UTC()
}
