package webhook

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// room is how many keys with news may wait to be read.
const room = 1024

// Caller asks the questions that are watched, each on a schedule of its own, and keeps the latest answers. A slow endpoint holds up
// nobody but the shift that asks it. It is a Runnable for controller-runtime's manager, for the leader only.
type Caller struct {
	reach   reach
	client  *http.Client
	options Options
	updates chan Key
	slots   chan struct{}
	loops   sync.WaitGroup

	mu      sync.Mutex
	running context.Context // nil before Start and after its end
	watches map[Key]*watch
}

// watch is what is kept of one shift: its gates, in the order of the spec.
type watch struct {
	slots chan struct{}
	gates []*gate
}

// gate is one question and the latest answer to it. Its fields are guarded by Caller.mu.
type gate struct {
	question Question
	answer   Answer
	stop     context.CancelFunc
	// owed says that there is news that found no room.
	owed bool
}

// NewCaller returns a caller. It does nothing before Start.
func NewCaller(options Options) *Caller {
	options = options.withDefaults()
	r := reach{Hosts: options.Hosts, domain: options.ClusterDomain, cname: net.DefaultResolver.LookupCNAME}
	return &Caller{
		reach: r,
		client: &http.Client{
			Transport:     transport(r),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		options: options, updates: make(chan Key, room), slots: make(chan struct{}, options.Total), watches: map[Key]*watch{},
	}
}

// NeedLeaderElection keeps followers from asking.
func (c *Caller) NeedLeaderElection() bool { return true }

// Updates gives each key that has news: an answer that differs from the one before it. It never blocks a question: news for which there
// is no room is offered again after the next answer.
func (c *Caller) Updates() <-chan Key { return c.updates }

// Watch has exactly these questions asked for the key, from now on. A question that was asked before keeps its answer and its schedule,
// and is told the present weight the next time; one that has another URL, or speaks of another release, starts anew.
func (c *Caller) Watch(key Key, questions []Question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil {
		w = &watch{slots: make(chan struct{}, c.options.PerShift)}
		c.watches[key] = w
	}
	old := w.gates
	w.gates = make([]*gate, 0, len(questions))
	for _, q := range questions {
		w.gates = append(w.gates, c.take(key, w, old, q))
	}
	for _, g := range old {
		if !slices.Contains(w.gates, g) {
			g.end()
		}
	}
}

// take returns the gate that asks the question: the one that does already, or a new one.
func (c *Caller) take(key Key, w *watch, old []*gate, q Question) *gate {
	i := slices.IndexFunc(old, func(g *gate) bool { return g.question.same(q) })
	if i >= 0 && old[i].question.paced(q) {
		old[i].question = q
		return old[i]
	}
	g := &gate{question: q, answer: Answer{Gate: q.Event.Gate, Outcome: analysis.Inconclusive, Message: "no answer yet"}}
	if i >= 0 {
		g.answer = old[i].answer
	}
	c.begin(key, w, g)
	return g
}

// Unwatch ends it: nothing of the key is asked or remembered.
func (c *Caller) Unwatch(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.watches[key]; w != nil {
		for _, g := range w.gates {
			g.end()
		}
		delete(c.watches, key)
	}
}

// Answers returns the latest answer to each question that is watched, in the order in which they were given to Watch. One that is older
// than three intervals and the time that the next question may take is Inconclusive, whatever it was.
func (c *Caller) Answers(key Key) []Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil {
		return nil
	}
	answers := make([]Answer, 0, len(w.gates))
	for _, g := range w.gates {
		answers = append(answers, g.answer.asOf(time.Now(), c.options.fresh(g.question)))
	}
	return answers
}

// Start asks what is watched until ctx ends.
func (c *Caller) Start(ctx context.Context) error {
	c.mu.Lock()
	c.running = ctx
	for key, w := range c.watches {
		for _, g := range w.gates {
			c.begin(key, w, g)
		}
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
	c.loops.Wait()
	return nil
}

// begin has a gate asked, where the caller runs. The lock is held.
func (c *Caller) begin(key Key, w *watch, g *gate) {
	if c.running == nil {
		return
	}
	ctx, stop := context.WithCancel(c.running)
	g.stop = stop
	c.loops.Go(func() {
		defer stop()
		for {
			q := c.current(g)
			answer := c.ask(ctx, q, w.slots)
			if ctx.Err() != nil {
				return
			}
			c.keep(key, g, answer)
			if !sleep(ctx, c.pause(q.Interval)) {
				return
			}
		}
	})
}

func (g *gate) end() {
	if g.stop != nil {
		g.stop()
	}
}

func (c *Caller) current(g *gate) Question {
	c.mu.Lock()
	defer c.mu.Unlock()
	return g.question
}

// keep remembers an answer, and says so where it is another one. Only a gate that is still watched has a reader.
func (c *Caller) keep(key Key, g *gate, a Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.watches[key]; w == nil || !slices.Contains(w.gates, g) {
		return
	}
	was := g.answer.asOf(a.At, c.options.fresh(g.question))
	news := was.At.IsZero() || was.Outcome != a.Outcome || was.Message != a.Message
	g.answer = a
	if !news && !g.owed {
		return
	}
	select {
	case c.updates <- key:
		g.owed = false
	default:
		g.owed = true
	}
}

// pause is the time to the next question, moved at random so that shifts that started together do not stay so.
func (c *Caller) pause(interval time.Duration) time.Duration {
	return time.Duration(float64(max(interval, time.Second)) * (1 + c.options.Jitter*(2*rand.Float64()-1)))
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
