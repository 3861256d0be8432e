// Package load is a steady, bounded source of requests that remembers what its client saw.
//
//	func Start(ctx context.Context, cfg Config) (*Source, error)  // ctx ends the source, as Stop does
//	func (s *Source) Stop() Report                                // waits for requests in flight
//	func (s *Source) Done() <-chan struct{}                       // closed when the bounds are reached or it was stopped
//	func (s *Source) Mark(name string)                            // a new phase begins now
//	func (s *Source) Report() Report                              // everything so far
//	func (s *Source) Phase(name string) Counts                    // what began in the phase (all of that name together)
//	func (s *Source) Last(d time.Duration) Counts                 // what began in the last d, to the second
//	func (s *Source) Failures(from, to time.Time) []Failure       // zero times leave that side open
//	func (s *Source) FirstBad(version string) (time.Time, bool)   // when a bad answer of the version was first seen
//	func (s *Source) LastAnswer(version string) (time.Time, bool) // when the version last answered anything
//	func (s *Source) WaitFor(ctx context.Context, cond func(Report) bool) error
//
//	type Config struct {
//		URL       string              // "http://127.0.0.1:41234/" or "http://micro-api.shop.svc.cluster.local:19090/"
//		Host      string              // Host header, where it differs from the URL's
//		Transport http.RoundTripper   // a mesh.Sidecar, or nil for a transport of the source's own
//		Rate      float64             // requests per second
//		Requests  int                 // ends after so many; 0: no such bound
//		For       time.Duration       // ends after so long; 0: an hour
//		InFlight  int                 // at most so many at once (default 32); a tick that finds no room is Skipped
//		Timeout   time.Duration       // of one request (default 10s)
//		Fresh     bool                // a connection per request, as curl in a loop
//		Prepare   func(n int, r *http.Request) // headers, cookies, method of request n
//		Observe   func(n int, resp *http.Response) // sees each answer's header, for cookies
//	}
//
//	type Counts struct {
//		Total, Failed int
//		ByVersion     map[string]int         // "" where the answer names none (a proxy's own answer, or no answer)
//		ByStatus      map[int]int            // 0: no answer
//		Answers       map[string]map[int]int // version, then status
//	}
//	func (c Counts) Share(version string) float64 // of the answers that name a version
//	func (c Counts) Versions() []string           // that answered, sorted
//
//	type Report struct {
//		Counts
//		Phases   []Phase // in the order of their marks; the first is "start"
//		Failures []Failure
//		Skipped, FailuresDropped int
//		Started, Ended time.Time
//	}
//
// A failure is no answer at all or a status of 500 and above.
package load
