package images

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"time"
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

// enciphering is echoing over TLS, which it ends itself, with a certificate that is its pod's alone: whoever sees that name spoke to the pod.
func enciphering(tag string, c Container) (App, error) {
	a, err := echoing(tag, c)
	if err != nil {
		return App{}, err
	}
	certificate, err := certify(c.Pod)
	if err != nil {
		return App{}, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	plain := a.Connections.Serve
	a.Connections.Serve = func(conn net.Conn) {
		secure := tls.Server(conn, config)
		plain(secure)
		_ = secure.Close() // the client is gone, or knows by this that the answer was whole
	}
	return a, nil
}

// certify makes a certificate that nobody else has signed.
func certify(pod string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: pod}, DNSNames: []string{pod}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, nil
}
