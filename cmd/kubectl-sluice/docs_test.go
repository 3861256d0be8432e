package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func page(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/cli.md has every command as it is used, every flag of its own, every goal and every exit code, and none that there is not.
func TestThePageHasEveryCommand(t *testing.T) {
	text := page(t, "cli.md")
	root := newPlugin(genericiooptions.IOStreams{}).command()
	var used, flags []string
	for _, c := range root.Commands() {
		use := strings.ReplaceAll(strings.ReplaceAll(c.Use, "bash|zsh|fish|powershell|kubectl", "SHELL"), " [NAME...]", "")
		used = append(used, command+" "+use)
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				flags = append(flags, f.Name)
			}
		})
		for _, a := range c.Aliases {
			if !strings.Contains(text, "`"+a+"`") && a != "ls" {
				t.Errorf("%s is also %s, which the page does not say", c.Name(), a)
			}
		}
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "context" || f.Name == "no-color" || f.Name == "as" {
			flags = append(flags, f.Name)
		}
	})
	var has []string
	for _, m := range regexp.MustCompile("`("+command+" [^`]+)`").FindAllStringSubmatch(text, -1) {
		if m[1] != command+" get NAME" {
			has = append(has, m[1])
		}
	}
	for what, pair := range map[string][2][]string{
		"commands":   {used, has},
		"flags":      {flags, found(text, "`[^`\n]*--([a-z-]+)[^`\n]*`")},
		"goals":      {{"promoted", "stable", "paused", "rejected"}, found(text[strings.Index(text, "| `--for`"):strings.Index(text, "## To steer")], "(?m)^\\| `([a-z]+)`")},
		"exit codes": {codes(exitError, exitEnded, exitTimeout, exitPaused, exitBlocked), found(text, `(?m)^\| ([0-9]) \|`)},
	} {
		if diff := cmp.Diff(sorted(pair[0]), sorted(pair[1])); diff != "" {
			t.Errorf("%s, and those of docs/cli.md (-there are +the page has):\n%s", what, diff)
		}
	}
}

func found(text, pattern string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

func codes(some ...int) []string {
	all := []string{"0"}
	for _, c := range some {
		all = append(all, strconv.Itoa(c))
	}
	return all
}

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

// docs/control.md names, beside each annotation that the plugin writes, the command that writes it.
func TestControlHasThePluginsForm(t *testing.T) {
	text := page(t, "control.md")
	for _, v := range verbs {
		if verb := "`" + command + " " + string(v.action); !strings.Contains(text, verb) {
			t.Errorf("docs/control.md does not say %s", verb)
		}
	}
}

// Every command says what it is for, with an example that has its own name in it.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, c := range newPlugin(genericiooptions.IOStreams{}).command().Commands() {
		if c.Short == "" || !strings.Contains(c.Example, command+" "+c.Name()) {
			t.Errorf("%s: short %q, examples %q", c.Name(), c.Short, c.Example)
		}
		for line := range strings.Lines(c.Example) {
			args := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), command))
			if strings.Contains(line, "#") || len(args) == 0 {
				continue
			}
			if i := slices.IndexFunc(args, func(a string) bool { return a == ">" }); i >= 0 {
				args = args[:i]
			}
			parses(t, c.Root(), args)
		}
	}
	help, _, _ := newPlugin(genericiooptions.IOStreams{}).command().Find([]string{"promote"})
	if !strings.Contains(help.UsageString(), "kubectl sluice promote NAME [VERSION]") {
		t.Errorf("how it is called:\n%s", help.UsageString())
	}
}

// parses fails the test where a command line of an example would not be taken.
func parses(t *testing.T, root *cobra.Command, args []string) {
	t.Helper()
	c, rest, err := root.Find(args)
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err == nil {
		err = c.ValidateArgs(c.Flags().Args())
	}
	if err != nil {
		t.Errorf("%v: %v", args, err)
	}
}
