package mesh

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// replayLimit is how much of a request's body is kept for another attempt, Envoy's default buffer.
const replayLimit = 1 << 20

// errNoReplay is reading again what was too long to keep.
var errNoReplay = errors.New("the request's body was too long to be kept for a retry")

// replay lets several attempts read one request body, the later ones from memory. A nil replay is no body.
type replay struct {
	src io.Reader

	mu   sync.Mutex
	kept []byte
	err  error // what ended src
	// owner alone may go on reading once more was read than is kept.
	owner *replayReader
}

// replayOf returns nil where there is no body.
func replayOf(r *http.Request) *replay {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	return &replay{src: r.Body}
}

// possible says whether another attempt could send the whole body.
func (p *replay) possible() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owner == nil
}

// attempt is the body for one attempt, from the start.
func (p *replay) attempt() io.ReadCloser { return &replayReader{replay: p} }

// whole reads the body ahead, so that it can be sent twice at once. False means that it is too long for that; nothing is
// lost then.
func (p *replay) whole() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	buffer := make([]byte, 32<<10)
	for p.err == nil && len(p.kept) < replayLimit {
		n, err := p.src.Read(buffer[:min(len(buffer), replayLimit-len(p.kept))])
		p.kept, p.err = append(p.kept, buffer[:n]...), err
	}
	return errors.Is(p.err, io.EOF)
}

type replayReader struct {
	replay *replay
	at     int
}

func (r *replayReader) Read(b []byte) (int, error) {
	p := r.replay
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owner != nil && p.owner != r {
		return 0, errNoReplay
	}
	if r.at < len(p.kept) {
		n := copy(b, p.kept[r.at:])
		r.at += n
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.src.Read(b)
	p.err = err
	switch {
	case p.owner == r:
	case len(p.kept)+n > replayLimit:
		p.owner, p.kept = r, nil
	default:
		p.kept = append(p.kept, b[:n]...)
		r.at += n
	}
	return n, err
}

// Close leaves the source open: another attempt may need it.
func (r *replayReader) Close() error { return nil }
