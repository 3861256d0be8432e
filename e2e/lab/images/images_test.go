package images

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestSplit(t *testing.T) {
	for ref, want := range map[string][2]string{
		"kubia":                                     {"kubia", "latest"},
		"docker.io/luksa/kubia:v2":                  {"kubia", "v2"},
		"localhost:5000/shop/micro-api:1.3":         {"micro-api", "1.3"},
		"localhost:5000/shop/micro-api":             {"micro-api", "latest"},
		"registry.example.com/sluice:v1@sha256:abc": {"sluice", "v1"},
	} {
		name, tag := Split(ref)
		if diff := cmp.Diff(want, [2]string{name, tag}); diff != "" {
			t.Errorf("Split(%q): -want +got:\n%s", ref, diff)
		}
	}
}

// serve runs an image on a loopback port as the node agent does.
func serve(t *testing.T, c Container) string {
	t.Helper()
	a, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: a.Handler, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// outcome is what a client saw of one request.
type outcome struct {
	Status  int
	Version string
}

func get(t *testing.T, addr, agent string) (outcome, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", agent)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return outcome{Status: resp.StatusCode, Version: resp.Header.Get(VersionHeader)}, string(body)
}

func TestAnswers(t *testing.T) {
	for image, want := range map[string]struct{ version, text string }{
		"registry.example.com/shop/micro-api:1.1": {"1.1", `"data":"micro-api V1 on p1: OK!"`},
		"registry.example.com/shop/micro-api:1.3": {"1.3", `"data":"micro-api V3 on p1: OK!"`},
		"docker.io/luksa/kubia:v2":                {"v2", "This is v2 running in pod p1"},
		"docker.io/luksa/kubia:v4":                {"v4", "This is v4 running in pod p1"},
		"lab/app:blue":                            {"blue", `"version":"blue"`},
		"nginx:1.27":                              {"1.27", "1.27"},
	} {
		t.Run(image, func(t *testing.T) {
			addr := serve(t, Container{Image: image, Pod: "p1"})
			for range 10 {
				got, body := get(t, addr, "test")
				if diff := cmp.Diff(outcome{http.StatusOK, want.version}, got); diff != "" {
					t.Fatalf("-want +got:\n%s", diff)
				}
				if !strings.Contains(body, want.text) || strings.Contains(body, "%!") {
					t.Fatalf("body %q, want it to contain %q", body, want.text)
				}
			}
		})
	}
}

// A share is a share: whoever counts some thousands of requests finds it, at every rate, and no probe ever fails.
func TestFailingShare(t *testing.T) {
	for tag, want := range map[string]int{"fails-0": 0, "fails-0.1": 2, "fails-0.6": 12, "fails-30": 600, "fails-100": 2000} {
		t.Run(tag, func(t *testing.T) {
			addr := serve(t, Container{Image: "registry.example.com/lab/any:" + tag, Pod: "p1"})
			failed := 0
			for range 2000 {
				got, _ := get(t, addr, "test")
				if got.Version != tag {
					t.Fatalf("version %q, want %q", got.Version, tag)
				}
				if got.Status != http.StatusOK {
					failed++
				}
			}
			if failed < want-1 || failed > want+1 {
				t.Errorf("%d of 2000 requests failed, want %d", failed, want)
			}
			if got, _ := get(t, addr, ProbeAgent+"1.35"); got.Status != http.StatusOK {
				t.Errorf("a probe got %d", got.Status)
			}
		})
	}
	if _, err := Start(Container{Image: "lab/any:fails-often"}); err == nil || !strings.Contains(err.Error(), "fails-0.6") {
		t.Errorf("fails-often: error %v, want one that says what is accepted", err)
	}
}

func TestUnknownImage(t *testing.T) {
	for _, image := range []string{"kubia:v9", "registry.example.com/nobody/knows", "sluice:v1"} {
		if _, err := Start(Container{Image: image}); !errors.Is(err, ErrUnknown) {
			t.Errorf("Start(%q) = %v, want ErrUnknown", image, err)
		}
	}
}

func TestBadSettings(t *testing.T) {
	for key, value := range map[string]string{"ERROR_RATE": "2", "LATENCY": "fast", "START_DELAY": "-1s", "GRPC_ERROR_CODE": "NOPE"} {
		_, err := Start(Container{Image: "lab/app:1", Env: map[string]string{key: value}})
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: error %v, want it to name both", key, value, err)
		}
	}
}

func TestWearing(t *testing.T) {
	const probe, user = "kube-probe/1.36", "curl/8"
	for name, tc := range map[string]struct {
		reason, image string
		agents        []string
		want          []int
	}{
		"Everyone": {
			reason: "probes and users alike spend the four good answers",
			image:  "kubia:v3", agents: []string{probe, user, probe, user, user, probe}, want: []int{200, 200, 200, 200, 500, 500},
		},
		"UsersOnly": {
			reason: "probes neither spend good answers nor meet bad ones",
			image:  "kubia:v3-users", agents: []string{probe, user, user, probe, user, user, user, probe, user},
			want: []int{200, 200, 200, 200, 200, 200, 500, 200, 500},
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, Container{Image: tc.image, Pod: "p1"})
			var got []int
			for _, agent := range tc.agents {
				o, _ := get(t, addr, agent)
				got = append(got, o.Status)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

func TestErrorRate(t *testing.T) {
	for _, rate := range []float64{0, 0.01, 0.25, 1} {
		failed := 0
		for n := range uint64(10000) {
			if unlucky("shop-7d9f", n, rate) {
				failed++
			}
		}
		if got := float64(failed) / 10000; got < rate*0.8 || got > rate*1.2 {
			t.Errorf("rate %v: %v of requests failed", rate, got)
		}
	}
}

func TestLatencyEndsWithTheClient(t *testing.T) {
	addr := serve(t, Container{Image: "lab/app:1", Env: map[string]string{"LATENCY": "1h"}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("an hour of latency was not waited for")
	}
}

func TestGRPC(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want codes.Code
	}{
		"Good":        {want: codes.OK},
		"Bad":         {env: map[string]string{"ERROR_RATE": "1"}, want: codes.Internal},
		"BadByName":   {env: map[string]string{"ERROR_RATE": "1", "GRPC_ERROR_CODE": "UNAVAILABLE"}, want: codes.Unavailable},
		"BadByNumber": {env: map[string]string{"ERROR_RATE": "1", "GRPC_ERROR_CODE": "8"}, want: codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, Container{Image: "lab/app:v7", Env: tc.env})
			conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var header metadata.MD
			_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
			if status.Code(err) != tc.want {
				t.Errorf("status %v, want %v", err, tc.want)
			}
			if diff := cmp.Diff([]string{"v7"}, header.Get(VersionHeader)); diff != "" {
				t.Errorf("version: -want +got:\n%s", diff)
			}
		})
	}
}

// tcp-echo says which version it is on every line; one that refuses is well by its own account.
func TestEcho(t *testing.T) {
	a, err := Start(Container{Image: "docker.io/sluice-dev/tcp-echo:1", Pod: "p", Env: map[string]string{"VERSION": "v2"}})
	if err != nil || a.Connections == nil || a.Connections.Refused || a.Connections.Port != EchoPort || a.Port != HealthPort {
		t.Fatalf("%+v, %v", a, err)
	}
	client, app := net.Pipe()
	go func() { a.Connections.Serve(app); _ = app.Close() }()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(client, line); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, len("v2 p: one\n"))
		if _, err := io.ReadFull(client, said); err != nil || string(said) != "v2 p: "+line {
			t.Errorf("%q, %v; want v2's echo of %q", said, err, line)
		}
	}
	_ = client.Close()
	if a, err = Start(Container{Image: "tcp-echo:1", Env: map[string]string{"REFUSE": "true"}}); err != nil || !a.Connections.Refused || a.Handler == nil {
		t.Errorf("%+v, %v; want one that takes no connection", a, err)
	}
	if _, err = Start(Container{Image: "tcp-echo:1", Env: map[string]string{"REFUSE": "perhaps"}}); err == nil {
		t.Error("REFUSE=perhaps is accepted")
	}
}

// tls-echo ends TLS itself, with a certificate of its pod's.
func TestEchoOverTLS(t *testing.T) {
	a, err := Start(Container{Image: "docker.io/sluice-dev/tls-echo:1", Pod: "p", Env: map[string]string{"VERSION": "v2"}})
	if err != nil || a.Connections == nil || a.Connections.Port != EchoPort {
		t.Fatalf("%+v, %v", a, err)
	}
	plain, app := net.Pipe()
	go func() { a.Connections.Serve(app); _ = app.Close() }()
	client := tls.Client(plain, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nobody signs it
	if _, err := io.WriteString(client, "one\n"); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("v2 p: one\n"))
	if _, err := io.ReadFull(client, said); err != nil || string(said) != "v2 p: one\n" {
		t.Errorf("%q, %v; want v2's echo", said, err)
	}
	if got := client.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "p" {
		t.Errorf("the certificate is of %q", got)
	}
	_ = client.Close()
	if a, err = Start(Container{Image: "tls-echo:1", Env: map[string]string{"REFUSE": "true"}}); err != nil || !a.Connections.Refused {
		t.Errorf("%+v, %v; want one that takes no connection", a, err)
	}
}
