// Package images says how the containers of the lab behave, by image reference: the last element of the repository's path
// and the tag decide, the registry does not.
package images

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// ErrUnknown says that no registry has the image.
var ErrUnknown = errors.New("not found")

// Container is what an application may know of the container that it runs in.
type Container struct {
	Image string
	Pod   string
	Env   map[string]string
}

// App is a started application: one per start of its container, because some count the requests of their process.
type App struct {
	// Handler serves HTTP and, on the same port, gRPC (grpc.health.v1.Health).
	Handler http.Handler
	// Connections is what an application has that speaks no HTTP on one of its ports; nil where it has none.
	Connections *Connections
	// StartDelay passes before the application listens.
	StartDelay time.Duration
	// ExitAfter ends the process with ExitCode; 0 means that it runs until it is stopped.
	ExitAfter time.Duration
	ExitCode  int
	// Port is where it listens if neither its container's ports nor a probe says so.
	Port int32
}

// Connections is an application's port for connections.
type Connections struct {
	// Port is the container port. The others have the Handler.
	Port int32
	// Serve answers one connection until its client closes it, or it is closed.
	Serve func(net.Conn)
	// Refused is whether nothing listens there, although the application runs.
	Refused bool
}

// start makes an application of the image tag for a container.
type start func(tag string, c Container) (App, error)

// table maps "name" or "name:tag" to a behaviour; the second wins. Beside them, the tag "fails-0.6" of any other name fails 0.6% of its
// users' requests.
var table = map[string]start{
	"app":            configured,
	"tcp-echo":       echoing,
	"tls-echo":       enciphering,
	"crash-loop":     crashing,
	"never-ready":    neverReady,
	"demo-dp":        good("This is TAG running in pod POD\n", 8080),
	"nginx":          good("TAG", 80),
	"micro-api:1.1":  good(`{"code":0,"data":"micro-api V1 on POD: OK!"}`, 9090),
	"micro-api:1.2":  good(`{"code":0,"data":"micro-api V2 on POD: OK!"}`, 9090),
	"micro-api:1.3":  good(`{"code":0,"data":"micro-api V3 on POD: OK!"}`, 9090),
	"my-web:1.0":     good("my-web TAG on POD\n", 8080),
	"my-web:1.1":     good("my-web TAG on POD\n", 8080),
	"my-web:1.2":     good("my-web TAG on POD\n", 8080),
	"kubia:v1":       good("This is TAG running in pod POD\n", 8080),
	"kubia:v2":       good("This is TAG running in pod POD\n", 8080),
	"kubia:v3":       wearing(everyone),
	"kubia:v3-users": wearing(users),
	"kubia:v4":       good("This is TAG running in pod POD\n", 8080),
}

// Start runs the image of a container.
func Start(c Container) (App, error) {
	name, tag := Split(c.Image)
	s, ok := table[name+":"+tag]
	if !ok {
		s = table[name]
	}
	if percent, ok := strings.CutPrefix(tag, "fails-"); s == nil && ok {
		s = failing(percent)
	}
	if s == nil {
		return App{}, fmt.Errorf("failed to pull and unpack image %q: failed to resolve reference: %s: %w", c.Image, c.Image, ErrUnknown)
	}
	app, err := s(tag, c)
	if err != nil {
		return App{}, fmt.Errorf("image %q: %w", c.Image, err)
	}
	return app, nil
}

// Split returns the last path element and the tag of an image reference, "latest" where there is none. A digest is no
// part of either.
func Split(ref string) (name, tag string) {
	ref, _, _ = strings.Cut(ref, "@")
	name = ref[strings.LastIndex(ref, "/")+1:]
	name, tag, ok := strings.Cut(name, ":")
	if !ok {
		tag = "latest"
	}
	return name, tag
}
