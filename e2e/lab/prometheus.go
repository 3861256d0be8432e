package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/e2e/lab/ports"
)

// prometheusConfig scrapes every second what the two files list. Series keep the labels they come with, as a scrape of every pod
// and the chart's monitors give them: the controller's carry the namespace of their shift, not its own. What they lack they get
// from the list.
const prometheusConfig = `global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
scrape_configs:
- job_name: data-plane
  honor_labels: true
  file_sd_configs:
  - files: ["%[1]s/data-plane.json"]
- job_name: others
  honor_labels: true
  file_sd_configs:
  - files: ["%[1]s/others.json"]
`

// dataPlane is the job whose targets label their own series.
const dataPlane = "data-plane"

// targets are what Prometheus scrapes, in the files from which it learns that.
type targets struct {
	mu   sync.Mutex
	dir  string
	list []target
}

// target is an element of Prometheus' file-based service discovery.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func (t target) is(job, address string) bool {
	return t.Labels["job"] == job && t.Targets[0] == address
}

// AddScrapeTarget makes Prometheus scrape http://address+path every second. The job "data-plane" labels its own series; to
// those of other jobs labels are added. Prometheus notices within a second or two.
func (l *Lab) AddScrapeTarget(job, address, path string, labels map[string]string) error {
	t := target{Targets: []string{address}, Labels: maps.Clone(labels)}
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	t.Labels["job"], t.Labels["__metrics_path__"] = job, path
	return l.targets.change(func(list []target) []target { return append(list, t) })
}

// RemoveScrapeTarget undoes AddScrapeTarget; its series become stale.
func (l *Lab) RemoveScrapeTarget(job, address string) error {
	return l.targets.change(func(list []target) []target {
		return slices.DeleteFunc(list, func(t target) bool { return t.is(job, address) })
	})
}

// scrapeController follows the controller's pods.
func (l *Lab) scrapeController(pod types.NamespacedName, address string, up bool) {
	const job = "sluice"
	var err error
	if up {
		err = l.AddScrapeTarget(job, address, "/metrics", map[string]string{"namespace": pod.Namespace, "pod": pod.Name})
	} else {
		err = l.RemoveScrapeTarget(job, address)
	}
	if err != nil {
		l.fail(fmt.Errorf("scrape pod %s: %w", pod, err))
	}
}

// change changes the list and, once there is a directory for them, the files.
func (t *targets) change(f func([]target) []target) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = f(t.list)
	if t.dir == "" {
		return nil
	}
	return t.write()
}

func (t *targets) write() error {
	files := map[string][]target{"data-plane.json": {}, "others.json": {}}
	for _, target := range t.list {
		file := "others.json"
		if target.Labels["job"] == dataPlane {
			file = "data-plane.json"
		}
		files[file] = append(files[file], target)
	}
	for name, list := range files {
		text, err := json.Marshal(list)
		if err != nil {
			return fmt.Errorf("scrape targets: %w", err)
		}
		// Prometheus watches the directory: it must see a whole file or none.
		tmp := filepath.Join(t.dir, name+".tmp")
		if err := os.WriteFile(tmp, text, 0o644); err != nil {
			return fmt.Errorf("scrape targets: %w", err)
		}
		if err := os.Rename(tmp, filepath.Join(t.dir, name)); err != nil {
			return fmt.Errorf("scrape targets: %w", err)
		}
	}
	return nil
}

func (t *targets) open(dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dir = dir
	return t.write()
}

func (l *Lab) startPrometheus(ctx context.Context) error {
	dir := filepath.Join(l.Dir, "prometheus")
	if err := os.MkdirAll(filepath.Join(dir, "targets"), 0o755); err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	if err := l.targets.open(filepath.Join(dir, "targets")); err != nil {
		return err
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, prometheusConfig, filepath.Join(dir, "targets")), 0o644); err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	port, err := l.ports.Next()
	if err != nil {
		return err
	}
	l.PrometheusURL = "http://" + ports.Loopback(port)
	l.metrics = l.component("prometheus", l.Binaries.Prometheus, []string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + ports.Loopback(port),
		"--scrape.discovery-reload-interval=1s", // five by default, which a test would wait for at every change of targets
	}, nil, answers(http.DefaultClient, l.PrometheusURL+"/-/ready"))
	return l.launch(ctx, l.metrics)
}

// StopPrometheus kills Prometheus.
func (l *Lab) StopPrometheus() { l.metrics.kill() }

// StartPrometheus starts Prometheus again where it was, with the data it had.
func (l *Lab) StartPrometheus(ctx context.Context) error { return l.metrics.start(ctx) }
