package trafficshift

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reasonsOf reads the constants of the groups of api/v1alpha1/reasons.go whose comment begins so: identifiers by value.
func reasonsOf(t *testing.T, groups ...string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "api", "v1alpha1", "reasons.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || !slices.ContainsFunc(groups, func(g string) bool { return strings.HasPrefix(group.Doc.Text(), g) }) {
			continue
		}
		for _, s := range group.Specs {
			constant := s.(*ast.ValueSpec)
			value, err := strconv.Unquote(constant.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons[value] = constant.Names[0].Name
		}
	}
	delete(reasons, "Accepted")
	delete(reasons, "AcceptedWithAdvice")
	return reasons
}

// docs/preflight.md has a row for each reason of a condition, and none for what is no reason; and each is made to happen by a test.
func TestEveryReasonHasARowAndATest(t *testing.T) {
	reasons := reasonsOf(t, "Reasons a TrafficShift is not accepted for", "Reasons of advice", "Reasons that there is no evidence for")
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "preflight.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, row[1])
	}
	for reason := range reasons {
		want = append(want, reason)
	}
	slices.Sort(rows)
	slices.Sort(want)
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("reasons, and rows of docs/preflight.md (-reasons +rows):\n%s", diff)
	}
	tested := ""
	for _, pattern := range []string{"*_test.go", "../shim/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tested += string(source)
		}
	}
	for reason, name := range reasons {
		if !regexp.MustCompile(`\bv1alpha1\.`+name+`\b`).MatchString(tested) && !strings.Contains(tested, reason) {
			t.Errorf("no test speaks of %s", name)
		}
	}
}
