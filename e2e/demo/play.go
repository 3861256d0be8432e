package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// microAPI and kubia are the Deployments of the two examples, and of their TrafficShifts.
const (
	microAPI = "micro-api"
	kubia    = "kubia-deploy-canary"
)

var names = []string{microAPI, kubia}

// rate is how many requests a second each client sends: enough to judge by, little for two cores.
const rate = 40

// demo is the play and everything that was seen of it.
type demo struct {
	*scene.Scene
	board *board
	say   func(string)

	mu       sync.Mutex
	services map[string]*service
}

// service is one of the two, with its clients and its weights over time.
type service struct {
	name string
	// url is the Service's own, host the external one.
	url, host string
	clients   map[string]*load.Source
	weights   []point
	last      *v1alpha1.TrafficShift
	acts      []act
}

// point is a weight that was seen for the first time.
type point struct {
	at      time.Time
	version string
	weight  string
}

// act is one release, and how it should end.
type act struct {
	title, image string
	version      string
	want         func(*v1alpha1.TrafficShift) bool
	reasons      []string
	outcome      *v1alpha1.Outcome
}

func (d *demo) play(ctx context.Context) error {
	d.say("installing Sluice from its chart")
	if err := d.Install(ctx, d.Values()); err != nil {
		return err
	}
	d.services = map[string]*service{
		microAPI: {name: microAPI, url: "http://micro-api.shop.svc.cluster.local:19090/", host: "micro-api.example.com", clients: map[string]*load.Source{}, acts: []act{
			{title: "micro-api 1.3", image: "micro-api:1.3", version: "v2", want: scene.Stable("v2"), reasons: []string{v1alpha1.ReasonPromoted}},
		}},
		kubia: {name: kubia, url: "http://kubia.shop.svc.cluster.local/", host: "kubia.example.com", clients: map[string]*load.Source{}, acts: []act{
			{title: "kubia v3", image: "kubia:v3", version: "v2", want: scene.Rejected("v2"), reasons: []string{v1alpha1.ReasonCandidateUnstable}},
			{title: "kubia v3-users", image: "kubia:v3-users", version: "v3", want: scene.Rejected("v3"),
				reasons: []string{v1alpha1.ReasonErrorRate, v1alpha1.ReasonErrorRateVsStable}},
			{title: "kubia v4", image: "kubia:v4", version: "v4", want: scene.Stable("v4"), reasons: []string{v1alpha1.ReasonPromoted}},
		}},
	}
	for _, folder := range []string{"examples/micro-api", "examples/kubia"} {
		d.say("kubectl apply -f " + folder)
		if err := d.Apply(ctx, folder); err != nil {
			return err
		}
	}
	watching, done := context.WithCancel(ctx)
	defer done()
	go d.watch(watching)
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range d.services {
		g.Go(func() error { return d.perform(gctx, s) })
	}
	err := g.Wait()
	for _, s := range d.services {
		for _, c := range s.clients {
			c.Stop()
		}
	}
	return err
}

// perform adopts one service under load and releases its acts one after the other.
func (d *demo) perform(ctx context.Context, s *service) error {
	if err := d.startClient(ctx, s, "in the mesh"); err != nil {
		return err
	}
	if _, err := d.Await(ctx, 2*time.Minute, s.name, "to be adopted", scene.Stable("v1")); err != nil {
		return err
	}
	if err := d.startClient(ctx, s, "at the gateway"); err != nil {
		return err
	}
	for i := range s.acts {
		a := &s.acts[i]
		d.mark(s, a.title)
		d.board.tell(fmt.Sprintf("kubectl set image deployment/%s *=%s", s.name, a.image))
		if err := d.SetImage(ctx, s.name, registry+a.image); err != nil {
			return err
		}
		ts, err := d.Await(ctx, 3*time.Minute, s.name, "to bring "+a.title+" to its end", func(ts *v1alpha1.TrafficShift) bool {
			return ended(ts, a.version) != nil && a.want(ts)
		})
		if ts != nil {
			a.outcome = ended(ts, a.version)
		}
		if err != nil {
			return err
		}
		d.board.tell(fmt.Sprintf("%s: %s: %s", a.title, a.outcome.Reason, a.outcome.Message))
	}
	return nil
}

// registry is where the examples' images are from.
const registry = "docker.io/sluice-dev/"

// startClient starts a client of one kind: the one in the mesh before adoption, so that adoption is under load too.
func (d *demo) startClient(ctx context.Context, s *service, kind string) error {
	var source *load.Source
	var err error
	if kind == "in the mesh" {
		if err = d.awaitPods(ctx, s.name); err == nil {
			source, err = d.Within(ctx, s.name+"-client", s.url, rate)
		}
	} else {
		source, err = d.Through(ctx, s.host, rate)
	}
	if err != nil {
		return err
	}
	source.Mark("adoption")
	d.mu.Lock()
	defer d.mu.Unlock()
	s.clients[kind] = source
	return nil
}

func (d *demo) awaitPods(ctx context.Context, name string) error {
	for {
		dep := &appsv1.Deployment{}
		if err := d.Client.Get(ctx, types.NamespacedName{Namespace: scene.Shop, Name: name}, dep); err != nil {
			return err
		}
		if dep.Status.ReadyReplicas > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demo) mark(s *service, title string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range s.clients {
		c.Mark(title)
	}
}

// ended finds what became of a version.
func ended(ts *v1alpha1.TrafficShift, version string) *v1alpha1.Outcome {
	for _, o := range ts.Status.History {
		if o.Version == version {
			return &o
		}
	}
	return nil
}

// watch reads both shifts four times a second, keeps every new weight, and draws.
func (d *demo) watch(ctx context.Context) {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var rows []row
		for _, name := range names {
			ts, err := d.Shift(ctx, name)
			if err != nil || ts == nil {
				continue
			}
			rows = append(rows, d.see(d.services[name], ts))
		}
		d.board.draw(rows)
	}
}

func (d *demo) see(s *service, ts *v1alpha1.TrafficShift) row {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.last = ts
	version, weight := ts.Status.Candidate, ts.Status.Weight
	if version == "" {
		version, weight = ts.Status.Stable, "100%"
	}
	if n := len(s.weights); n > 0 && s.weights[n-1].version != version && s.weights[n-1].version == ts.Status.Rejected {
		s.point(ts.Status.Rejected, "0%") // it may be back at 0, and gone, between two looks
	}
	s.point(version, weight)
	requests, failures := 0, 0
	for _, c := range s.clients {
		r := c.Report()
		requests, failures = requests+r.Total, failures+r.Failed
	}
	return rowOf(ts, requests, failures)
}

// point keeps a weight that is new.
func (s *service) point(version, weight string) {
	if n := len(s.weights); version != "" && (n == 0 || s.weights[n-1].version != version || s.weights[n-1].weight != weight) {
		s.weights = append(s.weights, point{time.Now(), version, weight})
	}
}
