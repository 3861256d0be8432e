package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// drainTime is how long a server that closes waits for requests in flight.
const drainTime = 5 * time.Second

// server is one loopback listener of a proxy, for HTTP/1.1 and for HTTP/2 in plaintext.
type server struct {
	address string
	http    *http.Server
	done    chan struct{}
}

// serve listens on a loopback address; port 0 chooses one.
func serve(address string, handler http.Handler) (*server, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &server{
		address: l.Addr().String(),
		http:    &http.Server{Handler: handler, Protocols: protocols, ReadHeaderTimeout: time.Minute},
		done:    make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // it always ends with ErrServerClosed
	}()
	return s, nil
}

// close refuses new connections at once and waits for the requests in flight, but not for ever.
func (s *server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // what is left is cut off
	}
	<-s.done
}

// reply writes an answer to a client. A client or an upstream that breaks off ends the connection, as Envoy would.
func reply(w http.ResponseWriter, resp *http.Response) {
	defer func() { _ = resp.Body.Close() }() // makes the record; nothing is left to report
	h := w.Header()
	for name, values := range resp.Header {
		h[name] = append(h[name], values...)
	}
	for name := range resp.Trailer {
		h.Add("Trailer", name)
	}
	w.WriteHeader(resp.StatusCode)
	if err := stream(w, resp); err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Trailer {
		for _, v := range values {
			h.Add(http.TrailerPrefix+name, v)
		}
	}
}

// stream copies the body, at once where its length is not known: that is how streams look.
func stream(w http.ResponseWriter, resp *http.Response) error {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if resp.ContentLength < 0 {
				if err := control.Flush(); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
