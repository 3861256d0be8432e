package v1alpha1

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestPercentIsReadOrRefused(t *testing.T) {
	tests := map[Percent]struct {
		want    Permille
		refused bool
	}{
		"5":      {want: 50},
		"5%":     {want: 50},
		"0.5":    {want: 5},
		"0.5%":   {want: 5},
		"0.1":    {want: 1},
		"0":      {want: 0},
		"99.9":   {want: 999},
		"33.3%":  {want: 333},
		"100":    {want: Whole},
		"100.0%": {want: Whole},
		"0.55":   {refused: true}, // finer than 0.1%: rounding it would give another share than was written
		"0.01%":  {refused: true},
		"100.1":  {refused: true},
		"101":    {refused: true},
		"-1":     {refused: true},
		"":       {refused: true},
		"%":      {refused: true},
		"5%%":    {refused: true},
		"5 %":    {refused: true},
		"five":   {refused: true},
		"NaN":    {refused: true},
		"Inf":    {refused: true},
		"-Inf":   {refused: true},
	}
	for in, tc := range tests {
		t.Run(string(in), func(t *testing.T) {
			got, err := in.Permille()
			if (err != nil) != tc.refused || got != tc.want {
				t.Errorf("%q is %d, %v; want %d, refused %t", in, got, err, tc.want, tc.refused)
			}
		})
	}
}

func TestPermilleIsWrittenAsPercent(t *testing.T) {
	for in, want := range map[Permille]string{0: "0%", 1: "0.1%", 5: "0.5%", 50: "5%", 334: "33.4%", 999: "99.9%", Whole: "100%"} {
		if got := in.String(); got != want {
			t.Errorf("%d is written %q; want %q", int32(in), got, want)
		}
	}
}

// What is written is read back as the same share: status shows shares in the form that a spec takes.
func TestEveryPermilleComesBack(t *testing.T) {
	for p := Permille(0); p <= Whole; p++ {
		if got, err := Percent(p.String()).Permille(); err != nil || got != p {
			t.Fatalf("%d is written %q and read as %d, %v", int32(p), p, int32(got), err)
		}
		if got, err := (Step{Weight: new(intstr.FromString(p.String()))}).Permille(); err != nil || got != p {
			t.Fatalf("a step of %q is %d, %v", p, int32(got), err)
		}
	}
}
