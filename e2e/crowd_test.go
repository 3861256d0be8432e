package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// crowd is a number of users with browsers, who come in turns and keep the cookies that they are given.
type crowd struct {
	*load.Source

	mu    sync.Mutex
	users []*user
}

// user is one of them: what it sends, and what it was answered by.
type user struct {
	cookies map[string]string
	header  http.Header
	// answers are the versions that answered, each once for as long as it goes on.
	answers []string
}

// gather sends a crowd through the gateway, each user about once a second.
func gather(t *testing.T, s *scene.Scene, host string, users int) *crowd {
	t.Helper()
	c := &crowd{}
	for range users {
		c.users = append(c.users, &user{cookies: map[string]string{}, header: http.Header{}})
	}
	addr, err := s.Plane.Gateway.WaitAddr(t.Context(), 80)
	if err != nil {
		t.Fatal(err)
	}
	c.Source, err = load.Start(t.Context(), load.Config{
		URL: "http://" + addr + "/", Host: host, Rate: float64(users), For: time.Hour, Prepare: c.send, Observe: c.receive,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	return c
}

func (c *crowd) send(n int, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.users[n%len(c.users)]
	for name, values := range u.header {
		r.Header[name] = values
	}
	for name, value := range u.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
}

func (c *crowd) receive(n int, resp *http.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.users[n%len(c.users)]
	for _, cookie := range resp.Cookies() {
		if cookie.MaxAge < 0 {
			delete(u.cookies, cookie.Name)
		} else {
			u.cookies[cookie.Name] = cookie.Value
		}
	}
	if v := resp.Header.Get(load.VersionHeader); v != "" && (len(u.answers) == 0 || u.answers[len(u.answers)-1] != v) {
		u.answers = append(u.answers, v)
	}
}

// change has users do something else from now on.
func (c *crowd) change(how func(i int, u *user)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, u := range c.users {
		how(i, u)
	}
}

// check complains of users.
func (c *crowd) check(t *testing.T, complaint func(i int, u *user) string) {
	t.Helper()
	c.change(func(i int, u *user) {
		if text := complaint(i, u); text != "" {
			t.Errorf("user %d, answered by %v, with cookies %v: %s", i, u.answers, u.cookies, text)
		}
	})
}

// round waits until every user has come again, twice.
func (c *crowd) round(t *testing.T) {
	t.Helper()
	before := c.Report().Total
	if err := c.WaitFor(t.Context(), func(r load.Report) bool { return r.Total >= before+2*len(c.users)+32 }); err != nil {
		t.Fatal(err)
	}
}

// on is how many users were answered by a version last.
func (c *crowd) on(version string) (n int) {
	c.change(func(_ int, u *user) {
		if len(u.answers) > 0 && u.answers[len(u.answers)-1] == version {
			n++
		}
	})
	return n
}

// noCookies complains of a cookie that was not taken away.
func noCookies(_ int, u *user) string {
	for name := range u.cookies {
		if strings.HasPrefix(name, "sluice-") {
			return "the shift is over and the cookie is still there"
		}
	}
	return ""
}

// stays complains of whoever was answered by other versions than these, or in another order.
func stays(on ...string) func(int, *user) string {
	return func(_ int, u *user) string {
		if !slices.Equal(u.answers, on) {
			return fmt.Sprintf("want %v", on)
		}
		return ""
	}
}

func shownBy(exposure v1alpha1.Exposure) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.State.Exposure == exposure && ts.Status.State.RoutedSince != nil
	}
}

// tell writes an intent on a TrafficShift.
func tell(t *testing.T, s *scene.Scene, name, key, value string) {
	t.Helper()
	ts, err := s.Shift(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Annotate(t.Context(), ts, map[string]string{key: value}); err != nil {
		t.Fatal(err)
	}
}
