package view

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files; commit only a difference that you can explain")

// worlds are the places where a shift can stand, each a file of testdata.
func worlds(t *testing.T) map[string]World {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no worlds: %v", err)
	}
	all := map[string]World{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var w World
		if err := yaml.UnmarshalStrict(raw, &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = w
	}
	return all
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// What a person reads of a shift, for each place where one can stand.
func TestScreens(t *testing.T) {
	for name, w := range worlds(t) {
		golden(t, filepath.Join("testdata", name+".txt"), Of(w).Screen(Style{Command: "kubectl sluice"}))
	}
}

func TestPast(t *testing.T) {
	all := worlds(t)
	for _, name := range []string{"refused", "paused", "baking", "new"} {
		w := all[name]
		if name == "new" {
			w.Records = nil
		}
		golden(t, filepath.Join("testdata", name+".history.txt"), Of(w).Past(Style{}))
	}
}

func TestList(t *testing.T) {
	all := worlds(t)
	var shifts []Shift
	for _, name := range []string{"stable", "holding", "paused", "refused", "new"} {
		s := Of(all[name])
		s.Name = name
		shifts = append(shifts, s)
	}
	golden(t, "testdata/list.txt", List(shifts, Style{}, false, true))
	golden(t, "testdata/list-all.txt", List(shifts[:2], Style{}, true, false))
}

// Colours are all that a terminal gets beside the text, and nothing that was read reaches it as a command.
func TestColours(t *testing.T) {
	paints := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[36m", "", "\x1b[0m", "")
	for name, w := range worlds(t) {
		plain, coloured := Of(w).Screen(Style{}), Of(w).Screen(Style{Colour: true})
		if steers(plain) {
			t.Errorf("%s: control characters without colour:\n%q", name, plain)
		}
		if coloured == plain {
			t.Errorf("%s: no colour at all", name)
		}
		if got := paints.Replace(coloured); got != plain {
			t.Errorf("%s: colours change more than the colour:\n%s", name, cmp.Diff(plain, got))
		}
	}
}

// steers reports whether a text has, beside its lines, what a terminal acts on or does not show.
func steers(text string) bool {
	return strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) })
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"one\r\ntwo\t three":                      "one two three",
		"\x1b[2Jgone\a":                           "[2Jgone",
		"image:1.\u202e3\u202c, \u2066x\u2069":    "image:1.3, x",
		"mi\u200bcro\u200d-\ufeffapi\u00ad\u200e": "micro-api",
		"two\u2028lines\u0085of it":               "two lines of it",
		"größer ✔ 日本":                             "größer ✔ 日本",
	} {
		if got := Clean(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
