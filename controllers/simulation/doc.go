// Package simulation measures gates: it releases good and bad versions into a simulated service, again and again, under Sluice and
// under the settings that its rivals document, and counts what each of them let through.
//
// Sluice is not modelled here: shift.Decide runs, pass by pass, with the observations that the simulated mesh gives it. The rivals
// are: flagger.go and argo.go are their analysis loops as their code has them, on exact counts, which flatters them a little,
// because a real rate() loses the first failures of a new series.
//
// What the simulation assumes: scrapes 15 seconds apart; Poisson arrivals; each request fails independently of the others (but for
// the rows with bursts); the stable version fails 0.1% of them; a weight reaches the mesh 8 seconds after it was decided, for
// everybody, but for the first weight, at which every clock starts. Pods are ready at once, and nothing but the error rate is asked.
//
// Everything follows from the seed. The requests of a second depend on the seed, the scenario, the replication, the second and the
// weight, so that two policies at the same weight see the same requests, and the number of processors changes nothing.
package simulation
