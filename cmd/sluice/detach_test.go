package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func shiftNamed(namespace, name, message string) *v1alpha1.TrafficShift {
	ts := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	ts.Status.Message = message
	return ts
}

// controller answers reads as the running controller would: get is asked for every look, and may change what is read.
func controller(get func(look int, ts *v1alpha1.TrafficShift) error, shifts ...client.Object) client.WithWatch {
	looks := map[client.ObjectKey]int{}
	return interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme()).WithObjects(shifts...).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := c.Get(ctx, key, o, opts...); err != nil {
				return err
			}
			ts, ok := o.(*v1alpha1.TrafficShift)
			if !ok {
				return nil
			}
			looks[key]++
			return get(looks[key], ts)
		},
	})
}

func marked(t *testing.T, c client.Client) []string {
	t.Helper()
	var list v1alpha1.TrafficShiftList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ts := range list.Items {
		if ts.Annotations[v1alpha1.AnnotationDetach] == "true" {
			names = append(names, ts.Namespace+"/"+ts.Name)
		}
	}
	return names
}

func TestDetachMarksAndWaitsUntilAllAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(func(look int, ts *v1alpha1.TrafficShift) error {
			switch {
			case look >= 4:
				ts.Status.State.Stage = v1alpha1.StageReleased
			case look == 3:
				ts.Status.Message = "letting the routes go"
			}
			return nil
		}, shiftNamed("shop", "a", "starting the pods"), shiftNamed("shop", "b", ""), shiftNamed("bank", "c", "starting the pods"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out bytes.Buffer
		if err := detach(ctx, c, &out, "shop", nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"shop/a", "shop/b"}, marked(t, c)); diff != "" {
			t.Errorf("asked to be handed back (-want +got):\n%s", diff)
		}
		want := []string{
			"shop/a: starting the pods", "shop/b: waiting for the controller",
			"shop/a: letting the routes go", "shop/b: letting the routes go",
			"shop/a: handed back", "shop/b: handed back", "",
		}
		if diff := cmp.Diff(want, strings.Split(out.String(), "\n")); diff != "" {
			t.Errorf("what is told, each thing once (-want +got):\n%s", diff)
		}
	})
}

func TestDetachSaysWhatItWasWaitingForWhenTheTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(func(_ int, ts *v1alpha1.TrafficShift) error {
			if ts.Name == "b" {
				ts.Status.State.Stage = v1alpha1.StageReleased
			}
			return nil
		}, shiftNamed("shop", "a", "the template is not that of v1"), shiftNamed("shop", "b", ""), shiftNamed("bank", "c", ""))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := detach(ctx, c, &bytes.Buffer{}, "", nil)
		want := "not handed back: bank/c (waiting for the controller); shop/a (the template is not that of v1)"
		if err == nil || err.Error() != want {
			t.Errorf("error %v; want %q", err, want)
		}
	})
}

func TestDetachByNameLeavesTheOthers(t *testing.T) {
	c := controller(func(look int, ts *v1alpha1.TrafficShift) error {
		if look > 1 {
			ts.Status.State.Stage = v1alpha1.StageReleased
		}
		return nil
	}, shiftNamed("shop", "a", ""), shiftNamed("shop", "b", ""))
	if err := detach(t.Context(), c, &bytes.Buffer{}, "shop", []string{"b"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"shop/b"}, marked(t, c)); diff != "" {
		t.Errorf("asked to be handed back (-want +got):\n%s", diff)
	}
	err := detach(t.Context(), c, &bytes.Buffer{}, "shop", []string{"nope"})
	if !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "TrafficShift shop/nope") {
		t.Errorf("error %v; want one that names shop/nope", err)
	}
}

func TestDetachOutlivesAnAPIServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(func(look int, ts *v1alpha1.TrafficShift) error {
			if look < 5 {
				return errors.New("connection refused")
			}
			ts.Status.State.Stage = v1alpha1.StageReleased
			return nil
		}, shiftNamed("shop", "a", ""))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := detach(ctx, c, &bytes.Buffer{}, "", nil); err != nil {
			t.Error(err)
		}
	})
}

// The chart's pre-delete hook must not fail over a shift that somebody deletes at the same time.
func TestDetachTakesAShiftThatGoesForHandedBack(t *testing.T) {
	gone := func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if o.GetName() == "a" {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "trafficshifts"}, "a")
		}
		return c.Patch(ctx, o, p, opts...)
	}
	get := func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "trafficshifts"}, key.Name)
	}
	base := fake.NewClientBuilder().WithScheme(scheme()).WithObjects(shiftNamed("shop", "a", ""), shiftNamed("shop", "b", "")).Build()
	c := interceptor.NewClient(base, interceptor.Funcs{Patch: gone, Get: get})
	if err := detach(t.Context(), c, &bytes.Buffer{}, "", nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"shop/b"}, marked(t, base)); diff != "" {
		t.Errorf("asked to be handed back (-want +got):\n%s", diff)
	}
}

func TestDetachOfAClusterWithoutTheCRDHasNothingToDo(t *testing.T) {
	c := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme()).Build(), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return &meta.NoKindMatchError{GroupKind: v1alpha1.GroupVersion.WithKind("TrafficShift").GroupKind()}
		},
	})
	if err := detach(t.Context(), c, &bytes.Buffer{}, "", nil); err != nil {
		t.Error(err)
	}
}

func TestDetachNeedsNamesOrAll(t *testing.T) {
	for _, args := range [][]string{{"detach"}, {"detach", "--all", "micro-api"}} {
		cmd := command()
		cmd.SetArgs(args)
		cmd.SetOut(&bytes.Buffer{})
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--all") {
			t.Errorf("%q: error %v; want one that says what to give", args, err)
		}
	}
}
