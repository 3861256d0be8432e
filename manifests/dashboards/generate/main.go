// Generate writes the Grafana dashboards of this repository.
//
//	go run ./manifests/dashboards/generate manifests/dashboards
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	for name, d := range all() {
		text, err := render(d)
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], name), text, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func all() map[string]dashboard {
	return map[string]dashboard{"shift.json": shiftDashboard()}
}

func render(d dashboard) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // expressions stay readable
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("cannot write dashboard %s: %w", d.UID, err)
	}
	return out.Bytes(), nil
}
