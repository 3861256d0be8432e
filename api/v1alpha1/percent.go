package v1alpha1

import (
	"fmt"
	"strconv"
	"strings"
)

// Permille is a share of traffic in thousandths, 0 to 1000: the unit of every weight inside Sluice. It is written as a percent.
type Permille int32

// Whole is all the traffic.
const Whole Permille = 1000

// String writes the share as a percent: "50%", "0.5%".
func (p Permille) String() string {
	if p%10 == 0 {
		return strconv.Itoa(int(p/10)) + "%"
	}
	return strconv.FormatFloat(float64(p)/10, 'f', 1, 64) + "%"
}

// Percent is a share as a user writes it: 5, "5%", "0.5" or "0.5%".
//
// +kubebuilder:validation:MaxLength=8
// +kubebuilder:validation:Pattern=`^(100(\.0)?|[0-9]{1,2}(\.[0-9]{1,3})?)%?$`
type Percent string

// Ratio returns the share as a number from 0 to 1.
func (p Percent) Ratio() (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(string(p), "%"), 64)
	if err != nil || !(v >= 0 && v <= 100) {
		return 0, fmt.Errorf("%q is not a percentage from 0%% to 100%%", string(p))
	}
	return v / 100, nil
}

// Permille returns the share in thousandths; a share finer than 0.1% is refused, not rounded.
func (p Percent) Permille() (Permille, error) {
	r, err := p.Ratio()
	if err != nil {
		return 0, err
	}
	n := Permille(r*1000 + 0.5)
	if diff := r*1000 - float64(n); diff > 1e-6 || diff < -1e-6 {
		return 0, fmt.Errorf("%q is finer than 0.1%%, the least step of a weight", string(p))
	}
	return n, nil
}
