package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// stamp is a hash of everything that decides what a build makes.
func (b binary) stamp(ctx context.Context, root string, flags []string) (string, error) {
	toolchain, err := exec.CommandContext(ctx, "go", "env", "-C", b.dir(root), "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	files := []string{filepath.Join(b.dir(root), "go.mod"), filepath.Join(b.dir(root), "go.sum")}
	if src := b.sources(root); src != "" {
		own, err := goFiles(src)
		if err != nil {
			return "", err
		}
		files = append(files, own...)
	}
	return digest(files, b.pkg, strings.Join(flags, " "), string(toolchain))
}

// digest hashes files, by name and content, and words.
func digest(files []string, words ...string) (string, error) {
	h := sha256.New()
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", filepath.Base(f), len(text), text)
	}
	for _, w := range words {
		fmt.Fprintf(h, "%d %s\n", len(w), w)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// goFiles lists a folder's Go files, tests left out, in a fixed order.
func goFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	return files, err
}
