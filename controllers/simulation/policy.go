package simulation

// Policy is one way of releasing a candidate.
type Policy struct {
	// Name heads its column.
	Name string
	// release runs one release; stable is whether it looks at the stable version.
	release func(*world) (Result, error)
	stable  bool
}

// Result is what became of one release.
type Result struct {
	// Decision is what was decided, and Seconds when, since the first weight.
	Decision Decision
	Seconds  int
	// Leaked is how many requests the candidate failed, beyond those that stable would have failed, until the decision had reached
	// the mesh; Hour is the same until the horizon: a bad version that was promoted goes on failing.
	Leaked, Hour float64
}

// Decision is how a release ends.
type Decision int

// The decisions.
const (
	Undecided Decision = iota
	RolledBack
	Promoted
)

// Release runs one replication.
func (p Policy) Release(s Scenario, seed uint64, replication int) (Result, error) {
	return p.release(newWorld(s, keyOf(seed, s, replication), p.stable))
}

// Policies are the columns of the table.
func Policies() []Policy {
	return []Policy{
		{Name: "flagger-99", release: flagger{interval: 60, threshold: 5, step: 0.1}.release},
		{Name: "flagger-fast", release: flagger{interval: 15, threshold: 2, step: 0.05}.release},
		{Name: "argo-95-10m", release: argo{pause: 600, least: 0.95}.release},
		{Name: "argo-99-2m", release: argo{pause: 120, least: 0.99}.release},
		{Name: "sluice-ladder", release: sluice{ladder: true}.release, stable: true},
		{Name: "sluice-auto", release: sluice{}.release, stable: true},
	}
}

// rollBack ends a release whose candidate is taken back: its weight still counts until 0 has reached the mesh.
func rollBack(w *world) Result {
	at := w.elapsed()
	w.route(0)
	w.runTo(w.now + lag)
	return Result{RolledBack, at, w.leaked, w.leaked}
}

// promote ends a release whose candidate gets everything from now on.
func promote(w *world) Result {
	w.route(1)
	return Result{Promoted, w.elapsed(), w.leaked, w.leaked + w.rest()}
}

// undecided ends a release that the horizon ends.
func undecided(w *world) Result { return Result{Undecided, Horizon, w.leaked, w.leaked} }
