package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v2"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// DefaultConnection is the connection of a shift that names none.
const DefaultConnection = "default"

// Connection is one Prometheus, how it is reached, and whose shifts may ask it.
type Connection struct {
	// URL is where it answers, http or https.
	URL string `yaml:"url"`
	// Namespaces are globs ("team-*") of the namespaces whose shifts may use the connection. Where the list is missing, these are
	// all of them for the default connection and none for any other; an empty list is none.
	Namespaces []string `yaml:"namespaces"`
	// HTTP is credentials, TLS, proxy and headers, as Prometheus itself is configured. Files are read again when they change.
	HTTP config.HTTPClientConfig `yaml:"http"`
}

// UnmarshalYAML gives HTTP its defaults.
func (c *Connection) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Connection
	*c = Connection{HTTP: config.DefaultHTTPClientConfig}
	return unmarshal((*plain)(c))
}

// ConnectionTo is a connection without credentials, through the proxy that the environment names.
func ConnectionTo(url string) Connection {
	c := Connection{URL: url, HTTP: config.DefaultHTTPClientConfig}
	c.HTTP.ProxyFromEnvironment = true
	return c
}

// ReadConnections reads a file of connections by name:
//
//	connections:
//	  default:
//	    url: https://prometheus.monitoring:9090
//	    namespaces: ["*"]
//	    http:
//	      authorization: {credentials_file: token}
//	      tls_config: {ca_file: ca.crt}
//
// Files in it are relative to its folder. No error shows a value of the file.
func ReadConnections(file string) (map[string]Connection, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("connections to Prometheus: %w", err)
	}
	var content struct {
		Connections map[string]Connection `yaml:"connections"`
	}
	if err := yaml.UnmarshalStrict(raw, &content); err != nil {
		return nil, fmt.Errorf("connections to Prometheus: %s: %s", file, withoutValues(err))
	}
	for name, c := range content.Connections {
		c.HTTP.SetDirectory(filepath.Dir(file))
		content.Connections[name] = c
	}
	return content.Connections, nil
}

var yamlValue = regexp.MustCompile("`[^`]*`|\"[^\"]*\"")

// withoutValues hides what a YAML error quotes: a secret in the wrong place is still one.
func withoutValues(err error) string {
	return strings.Join(strings.Fields(yamlValue.ReplaceAllString(err.Error(), "a value")), " ")
}

// Connections are the collectors of all connections, and which of them counts for which key. It is a Runnable for
// controller-runtime's manager, for the leader only.
type Connections struct {
	collectors map[string]*Collector
	namespaces map[string][]string
	updates    chan Key

	mu sync.Mutex
	at map[Key]*Collector
}

var connectionName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// NewConnections makes a collector for each connection, all with the same options. Nothing is asked before Start, but the files
// that a connection's TLS names are read.
func NewConnections(connections map[string]Connection, options Options) (*Connections, error) {
	all := &Connections{
		collectors: map[string]*Collector{}, namespaces: map[string][]string{}, updates: make(chan Key, room), at: map[Key]*Collector{},
	}
	for _, name := range slices.Sorted(maps.Keys(connections)) {
		c := connections[name]
		client, err := c.client(name)
		if err != nil {
			return nil, fmt.Errorf("connection %q: %w", name, err)
		}
		if c.Namespaces == nil && name == DefaultConnection {
			c.Namespaces = []string{"*"}
		}
		all.collectors[name], all.namespaces[name] = newCollector(client, options, all.updates), c.Namespaces
	}
	return all, nil
}

func (c Connection) client(name string) (*Client, error) {
	if !connectionName.MatchString(name) {
		return nil, errors.New("accepted is a name of at most 63 of a-z, 0-9 and -, which begins and ends with none of the last")
	}
	for _, glob := range c.Namespaces {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return nil, fmt.Errorf("namespaces: %q: accepted is a namespace, or a pattern such as team-* or *", glob)
		}
	}
	if err := c.HTTP.Validate(); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	h, err := config.NewClientFromConfig(c.HTTP, name, config.WithUserAgent("sluice"))
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	client, err := newClient(c.URL, *h)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	return client, nil
}

// For returns the collector of a connection, where the namespace may use it; an empty name is DefaultConnection. The error wraps
// ErrNoConnection and says which connections it may use; it does not say which others there are.
func (c *Connections) For(namespace, name string) (*Collector, error) {
	name = cmp.Or(name, DefaultConnection)
	if !c.allows(namespace, name) {
		return nil, fmt.Errorf("connection %q for namespace %s: %w; accepted: %s", name, namespace, ErrNoConnection, c.accepted(namespace))
	}
	return c.collectors[name], nil
}

// Check is For without the collector.
func (c *Connections) Check(namespace, name string) error {
	_, err := c.For(namespace, name)
	return err
}

func (c *Connections) allows(namespace, name string) bool {
	return slices.ContainsFunc(c.namespaces[name], func(glob string) bool {
		matches, err := path.Match(glob, namespace)
		return matches && err == nil
	})
}

func (c *Connections) accepted(namespace string) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.collectors)) {
		if c.allows(namespace, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none, until the administrator allows one"
	}
	return strings.Join(names, ", ")
}

// Watch has the key's subject looked at through that connection, as Collector.Watch does. A key that was watched through another
// one begins anew.
func (c *Connections) Watch(key Key, connection string, subject Subject) error {
	to, err := c.For(key.Namespace, connection)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if from := c.at[key]; from != nil && from != to {
		from.Unwatch(key)
	}
	c.at[key] = to
	to.Watch(key, subject)
	return nil
}

// Unwatch ends it, whatever the connection.
func (c *Connections) Unwatch(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from := c.at[key]; from != nil {
		from.Unwatch(key)
		delete(c.at, key)
	}
}

// Updates gives each key that has news at any connection, as Collector.Updates does.
func (c *Connections) Updates() <-chan Key { return c.updates }

// Since is Collector.Since at the connection through which the key is watched.
func (c *Connections) Since(ctx context.Context, key Key, from time.Time) (analysis.Sample, error) {
	collector, err := c.watching(key)
	if err != nil {
		return analysis.Sample{}, err
	}
	return collector.Since(ctx, key, from)
}

// History is Collector.History there.
func (c *Connections) History(ctx context.Context, key Key, until time.Time) ([]analysis.Sample, error) {
	collector, err := c.watching(key)
	if err != nil {
		return nil, err
	}
	return collector.History(ctx, key, until)
}

// Readings is Collector.Readings there.
func (c *Connections) Readings(key Key) []Reading {
	collector, err := c.watching(key)
	if err != nil {
		return nil
	}
	return collector.Readings(key)
}

func (c *Connections) watching(key Key) (*Collector, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if collector := c.at[key]; collector != nil {
		return collector, nil
	}
	return nil, fmt.Errorf("evidence of %s: it is not watched: %w", key, ErrNotYet)
}

// Addresses are where the connections lead, by name and without passwords.
func (c *Connections) Addresses() map[string]string {
	all := map[string]string{}
	for name, collector := range c.collectors {
		all[name] = collector.client.Address()
	}
	return all
}

// Start looks through every connection until ctx ends. One Prometheus that hangs delays no other.
func (c *Connections) Start(ctx context.Context) error {
	var group sync.WaitGroup
	for _, collector := range c.collectors {
		group.Go(func() { _ = collector.Start(ctx) }) // it ends with ctx alone
	}
	group.Wait()
	return nil
}

// NeedLeaderElection keeps followers from asking.
func (c *Connections) NeedLeaderElection() bool { return true }
