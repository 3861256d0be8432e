package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Connections is a transport for a Source that has connections counted in place of requests: each is made to the URL's host with dial, is
// told a line, and is closed when one came back, whose first word is the version. That is status 200; a connection that says nothing is no
// answer at all.
func Connections(dial func(ctx context.Context, address string) (net.Conn, error)) http.RoundTripper {
	return connections(dial)
}

type connections func(ctx context.Context, address string) (net.Conn, error)

func (dial connections) RoundTrip(req *http.Request) (*http.Response, error) {
	conn, err := dial(req.Context(), req.URL.Host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // what it had to say was read
	stop := context.AfterFunc(req.Context(), func() { _ = conn.Close() })
	defer stop()
	said, err := Say(conn, "hello")
	if err != nil {
		return nil, err
	}
	version, _, _ := strings.Cut(said, " ")
	return &http.Response{
		StatusCode: http.StatusOK, Request: req, Header: http.Header{VersionHeader: {version}}, Body: io.NopCloser(strings.NewReader(said)),
	}, nil
}

// Say sends a line and returns the one that comes back.
func Say(conn net.Conn, line string) (string, error) {
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", fmt.Errorf("say %q: %w", line, err)
	}
	said, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("hear what is said to %q: %w", line, err)
	}
	return strings.TrimSuffix(said, "\n"), nil
}
