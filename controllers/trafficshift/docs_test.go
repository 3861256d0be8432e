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

// foreign are the words of others that pages quote.
var foreign = []string{
	"AlertProvider", "AnalysisTemplate", "Canary", "Decide", "Experiment", "FailedCreate", "Host", "ImagePullBackOff", "Job", "MetricTemplate", "Rollout",
	"ScaledObject", "ScalingDisabled", "True",
}

// A word in CamelCase that a page has in backticks is a type or a value of the API as it is read in a status, such as a reason, and not the name
// that the code has for it.
func TestPagesNameWhatAStatusSays(t *testing.T) {
	known := wordsOf(t)
	for _, w := range foreign {
		known[w] = true
	}
	quoted := map[string]bool{}
	for _, pattern := range []string{"README.md", "docs/*.md", "examples/*.md", "examples/*/*.md", "manifests/chart/sluice/README.md"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(file) == "api.md" {
				continue // generated
			}
			for _, m := range regexp.MustCompile("`([A-Z][A-Za-z]*[a-z][A-Za-z]*)`").FindAllStringSubmatch(string(text), -1) {
				if quoted[m[1]] = true; !known[m[1]] {
					t.Errorf("%s has `%s`, which no status says; if it is somebody else's word, list it as foreign", strings.TrimPrefix(file, "../../"), m[1])
				}
			}
		}
	}
	for _, w := range foreign {
		if !quoted[w] {
			t.Errorf("no page has `%s`: take it off the list", w)
		}
	}
}

// wordsOf are the types of the API and the values of its string constants.
func wordsOf(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "api", "v1alpha1", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				words[n.Name.Name] = true
			case *ast.ValueSpec:
				for _, v := range n.Values {
					if literal, ok := v.(*ast.BasicLit); ok && literal.Kind == token.STRING {
						words[strings.Trim(literal.Value, `"`)] = true
					}
				}
			}
			return true
		})
	}
	return words
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
