package images

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
)

// EchoPort is where tcp-echo takes connections, and HealthPort where it says over HTTP that it is well.
const (
	EchoPort   = 9000
	HealthPort = 8080
)

// echoing says on every connection, after each line that it is sent, which version says so: "v2 micro-api-v2-abc: hello". Its environment
// decides: VERSION, and REFUSE=true, which is an application that is well by its own account and takes no connection.
func echoing(tag string, c Container) (App, error) {
	version := tag
	if v := c.Env["VERSION"]; v != "" {
		version = v
	}
	refused := false
	if text := c.Env["REFUSE"]; text != "" {
		var err error
		if refused, err = strconv.ParseBool(text); err != nil {
			return App{}, fmt.Errorf("REFUSE=%q: want true or false", text)
		}
	}
	health := &app{version: version, reply: func(bool) answer { return answer{body: "ok\n"} }}
	serve := func(conn net.Conn) {
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if _, err := fmt.Fprintf(conn, "%s %s: %s\n", version, c.Pod, lines.Text()); err != nil {
				return
			}
		}
	}
	return App{Handler: health.handler(), Port: HealthPort, Connections: &Connections{Port: EchoPort, Serve: serve, Refused: refused}}, nil
}
