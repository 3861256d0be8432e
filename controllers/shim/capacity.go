package shim

import (
	"errors"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

func parseCapacity(s string) (any, error) {
	switch sluice.Capacity(s) {
	case sluice.CapacityFull, sluice.CapacityProportional:
		return s, nil
	}
	return nil, errors.New("no such capacity")
}

func parseAutoscaler(s string) (any, error) {
	switch sluice.Autoscaler(s) {
	case sluice.AutoscalerRefuse, sluice.AutoscalerFollow:
		return s, nil
	}
	return nil, errors.New("no such way")
}
