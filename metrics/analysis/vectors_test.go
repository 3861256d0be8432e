package analysis

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// vectors were made by an independent implementation.
type vectors struct {
	// LogE: a, b, ks, ns, kc, nc, slope, delta, log L.
	LogE [][9]float64 `json:"loge"`
	// CS: k, n, alpha, lower, upper.
	CS [][5]float64 `json:"cs"`
	// Runs: the log e-value of each alternative at each tick, and the log of the mixture after it.
	Runs []struct {
		Ticks    [][alternatives]float64 `json:"ticks"`
		Phi, Cap float64
		Log      []float64 `json:"log"`
	} `json:"runs"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/gate-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.LogE) == 0 || len(v.CS) == 0 || len(v.Runs) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

func near(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*max(1, math.Abs(want))
}

func TestLogEAgreesWithAnIndependentImplementation(t *testing.T) {
	for i, r := range readVectors(t).LogE {
		got := LogE(r[0], r[1], int64(r[2]), int64(r[3]), int64(r[4]), int64(r[5]), r[6], r[7])
		if !near(got, r[8], 1e-6) {
			t.Errorf("row %d: LogE(%v) = %v, want %v", i, r[:8], got, r[8])
		}
	}
}

func TestIntervalAgreesWithAnIndependentImplementation(t *testing.T) {
	for i, r := range readVectors(t).CS {
		lower, upper := Interval(int64(r[0]), int64(r[1]), r[2])
		if !near(lower, r[3], 1e-6) || !near(upper, r[4], 1e-6) {
			t.Errorf("row %d: Interval(%v) = %v, %v, want %v, %v", i, r[:3], lower, upper, r[3], r[4])
		}
	}
}

func TestMixtureAgreesWithAnIndependentImplementation(t *testing.T) {
	for i, run := range readVectors(t).Runs {
		var m mixture
		for j, tick := range run.Ticks {
			m.add(tick, run.Phi, run.Cap)
			if got := m.log(); !near(got, run.Log[j], 1e-8) {
				t.Fatalf("run %d, tick %d: log E = %v, want %v", i, j+1, got, run.Log[j])
			}
		}
	}
}
