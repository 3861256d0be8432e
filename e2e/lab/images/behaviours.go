package images

import (
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// good always succeeds. In the text, TAG and POD stand for both.
func good(text string, port int32) start {
	return func(tag string, c Container) (App, error) {
		body := strings.NewReplacer("TAG", tag, "POD", c.Pod).Replace(text)
		a := &app{version: tag, reply: func(bool) answer { return answer{body: body} }}
		return App{Handler: a.handler(), Port: port}, nil
	}
}

// goodAnswers is how many requests a wearing application survives.
const goodAnswers = 4

// Which requests wear an application out.
func everyone(bool) bool    { return true }
func users(probe bool) bool { return !probe }

// wearing succeeds for its first requests that count and fails for those after them. Requests that do not count succeed.
func wearing(counts func(probe bool) bool) start {
	return func(tag string, c Container) (App, error) {
		var seen atomic.Int64
		a := &app{version: tag, reply: func(probe bool) answer {
			if counts(probe) && seen.Add(1) > goodAnswers {
				return answer{failed: true, body: "Some internal error has occurred! This is pod " + c.Pod + "\n"}
			}
			return answer{body: fmt.Sprintf("This is %s running in pod %s\n", tag, c.Pod)}
		}}
		return App{Handler: a.handler(), Port: 8080}, nil
	}
}

// failing fails a share of its users' requests, in percent: one at a random place in each run of as many as it takes. Whoever counts some
// thousands of them finds that share, and not one that is far off by chance. Probes succeed.
func failing(percent string) start {
	return func(tag string, c Container) (App, error) {
		share, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(share >= 0 && share <= 100) {
			return App{}, fmt.Errorf("fails-%s: want a percentage, such as fails-0.6", percent)
		}
		var seen atomic.Uint64
		a := &app{version: tag, reply: func(probe bool) answer {
			if probe {
				return answer{body: "ok\n"}
			}
			body := fmt.Sprintf("This is %s running in pod %s\n", tag, c.Pod)
			return answer{failed: drawn(c.Pod, seen.Add(1)-1, share/100), body: body}
		}}
		return App{Handler: a.handler(), Port: 8080}, nil
	}
}

// drawn decides whether the nth request of a pod, counted from 0, is the one of its run that fails.
func drawn(pod string, n uint64, rate float64) bool {
	if rate <= 0 {
		return false
	}
	run := math.Floor(float64(n) * rate)
	first, next := math.Ceil(run/rate), math.Ceil((run+1)/rate)
	return float64(n) == first+math.Floor(chance(pod, uint64(run))*(next-first))
}

// neverReady runs and fails every request, its readiness probe included.
func neverReady(tag string, c Container) (App, error) {
	a := &app{version: tag, code: codes.Unavailable, reply: func(bool) answer {
		return answer{failed: true, body: "not ready yet: pod " + c.Pod + "\n"}
	}}
	return App{Handler: a.handler(), Port: 8080}, nil
}

// crashing is good until it exits with code 1, after CRASH_AFTER (a second by default).
func crashing(tag string, c Container) (App, error) {
	app, err := good("This is TAG running in pod POD\n", 8080)(tag, c)
	if err != nil {
		return App{}, err
	}
	after, err := duration(c.Env, "CRASH_AFTER", time.Second)
	if err != nil {
		return App{}, err
	}
	app.ExitAfter, app.ExitCode = max(after, time.Millisecond), 1
	return app, nil
}

// configured does what its environment says: ERROR_RATE (0 to 1), LATENCY, START_DELAY, VERSION and GRPC_ERROR_CODE (a
// name such as UNAVAILABLE, or a number). Probes are answered without errors and without delay, so that a bad version is
// bad to its users alone.
func configured(tag string, c Container) (App, error) {
	rate, err := number(c.Env, "ERROR_RATE")
	if err != nil {
		return App{}, err
	}
	latency, err := duration(c.Env, "LATENCY", 0)
	if err != nil {
		return App{}, err
	}
	delay, err := duration(c.Env, "START_DELAY", 0)
	if err != nil {
		return App{}, err
	}
	code, err := grpcCode(c.Env["GRPC_ERROR_CODE"])
	if err != nil {
		return App{}, err
	}
	version := tag
	if v := c.Env["VERSION"]; v != "" {
		version = v
	}
	var seen atomic.Uint64
	a := &app{version: version, code: code, reply: func(probe bool) answer {
		if probe {
			return answer{body: "ok\n"}
		}
		body := fmt.Sprintf(`{"version":%q,"pod":%q}`+"\n", version, c.Pod)
		return answer{failed: unlucky(c.Pod, seen.Add(1), rate), body: body, delay: latency}
	}}
	return App{Handler: a.handler(), StartDelay: delay, Port: 8080}, nil
}

// unlucky decides by hash whether the nth request of a pod fails, so that a run can be repeated.
func unlucky(pod string, n uint64, rate float64) bool { return chance(pod, n) < rate }

// chance is a number from 0 to 1 that a hash makes of the pod and n.
func chance(pod string, n uint64) float64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %d", pod, n) // hashes never fail
	// The low bits of FNV are its good ones, the high ones hardly differ between neighbours: fold, then keep 32.
	sum := h.Sum64()
	sum = (sum ^ sum>>32) * 0x9e3779b97f4a7c15
	return float64(sum>>32) / (1 << 32)
}

func number(env map[string]string, key string) (float64, error) {
	if env[key] == "" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(env[key], 64)
	if err != nil || v < 0 || v > 1 {
		return 0, fmt.Errorf("%s=%q: want a number between 0 and 1", key, env[key])
	}
	return v, nil
}

func duration(env map[string]string, key string, otherwise time.Duration) (time.Duration, error) {
	if env[key] == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(env[key])
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s=%q: want a duration such as 50ms", key, env[key])
	}
	return d, nil
}

func grpcCode(text string) (codes.Code, error) {
	if text == "" {
		return codes.Internal, nil
	}
	var code codes.Code
	quoted := text
	if _, err := strconv.ParseUint(text, 10, 8); err != nil {
		quoted = strconv.Quote(text)
	}
	if err := code.UnmarshalJSON([]byte(quoted)); err != nil {
		return code, fmt.Errorf("GRPC_ERROR_CODE=%q: want a gRPC status code, by name or number", text)
	}
	return code, nil
}
