// Command meshcheck holds Kubernetes objects to what Istio itself says of mesh configuration. It reads a stream of YAML documents,
// as kubectl get -o yaml writes them, and runs every analyzer of istioctl analyze over all of them together. Among those is one for
// each kind of Istio's that runs the validation of istiod's admission webhook (IST0106, and IST0133 for its warnings). Objects of
// kinds that no analyzer asks for are passed over.
//
// Each finding is a line of JSON. The exit code is 0 where none is worse than Info, 1 where one is, 2 where there was nothing to
// check or it could not be read.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/diag"
	"istio.io/istio/pkg/config/analysis/local"
	"istio.io/istio/pkg/config/resource"
	"istio.io/istio/pkg/log"
)

const (
	clean    = 0
	found    = 1
	unusable = 2
)

func main() {
	flags := flag.NewFlagSet("meshcheck", flag.ExitOnError)
	suppress := flags.String("suppress", "", "comma-separated `codes` to say nothing of, such as IST0102")
	root := flags.String("root-namespace", "istio-system", "Istio's own namespace")
	_ = flags.Parse(os.Args[1:]) // it exits where there is an error

	code, err := run(os.Stdin, os.Stdout, *root, strings.Split(*suppress, ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, "meshcheck:", err)
	}
	os.Exit(code)
}

// finding is a line of the output.
type finding struct {
	Code     string `json:"code"`
	Level    string `json:"level"`
	Resource string `json:"resource,omitempty"`
	Message  string `json:"message"`
}

func run(in io.Reader, out io.Writer, root string, suppressed []string) (int, error) {
	// Istio's packages log what they also return as an error.
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
	messages, err := analyze(in, root)
	if err != nil {
		return unusable, err
	}
	code := clean
	encoder := json.NewEncoder(out)
	for _, m := range messages {
		if slices.Contains(suppressed, m.Type.Code()) {
			continue
		}
		if m.Type.Level().IsWorseThanOrEqualTo(diag.Warning) {
			code = found
		}
		if err := encoder.Encode(say(m)); err != nil {
			return unusable, err
		}
	}
	return code, nil
}

// analyze runs every analyzer over the objects of a stream.
func analyze(in io.Reader, root string) (diag.Messages, error) {
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil, errors.New("no objects on standard input")
	}
	analyzer := local.NewIstiodAnalyzer(analyzers.AllCombined(), "", resource.Namespace(root), nil)
	// The source made for tests is the one that does not leave out Pods and Namespaces.
	source := local.ReaderSource{Name: "stdin", Reader: strings.NewReader(string(text))}
	if err := analyzer.AddTestReaderKubeSource([]local.ReaderSource{source}); err != nil {
		return nil, err
	}
	// Istio's own stand-in for the ingress gateway, which istioctl analyze adds as well where it is given files alone.
	if err := analyzer.AddDefaultResources(); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	defer close(stop)
	result, err := analyzer.Analyze(stop)
	if err != nil {
		return nil, err
	}
	return result.Messages, nil
}

func say(m diag.Message) finding {
	f := finding{Code: m.Type.Code(), Level: m.Type.Level().String(), Message: fmt.Sprintf(m.Type.Template(), m.Parameters...)}
	if m.Resource != nil {
		f.Resource = m.Resource.Origin.FriendlyName()
	}
	return f
}
