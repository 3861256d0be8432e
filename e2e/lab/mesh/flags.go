package mesh

import "strings"

// flags are Envoy's response flags, as far as the stand-ins set them.
type flags uint16

const (
	flagUH  flags = 1 << iota // no healthy upstream
	flagUT                    // upstream request timeout
	flagUR                    // upstream reset the stream
	flagUF                    // upstream connection failure
	flagUC                    // upstream closed the connection
	flagUO                    // upstream overflow: a circuit breaker is open
	flagNR                    // no route
	flagDC                    // downstream went away
	flagURX                   // retries used up
	flagNC                    // no such cluster
)

// flagNames are in Envoy's order, which is the order in which it writes them.
var flagNames = []string{"UH", "UT", "UR", "UF", "UC", "UO", "NR", "DC", "URX", "NC"}

// String is the value of the label response_flags: "-" if none is set.
func (f flags) String() string {
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "-"
	}
	return strings.Join(names, ",")
}
