package e2e

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// The chart's values, of replicas: "One leads, the others wait for its lease." In the middle of one release a leader is killed, and one hangs until
// another has gone on without it: when it wakes up, it finds its lease gone, writes nothing, and ends. Not parallel: it takes the controller away
// from everybody.
func TestAnotherReplicaGoesOn(t *testing.T) {
	s := stage(t)
	const name = "handed-over"
	controllers(t, s, 2)
	defer controllers(t, s, 1)
	service(t, s, name)
	users := through(t, s, name+".example.com", 60)
	most := v1alpha1.Permille(0)
	follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
		if w := ts.Status.State.Weight; ts.Status.State.Candidate != "" && w < most {
			t.Errorf("a good candidate went from %s to %s", most, w)
		} else {
			most = max(w, most)
		}
	})
	release(t, s, name, "v2")
	await(t, s, name, "to prove 5%", proven(50))
	if err := s.Agent.Kill(leading(t, s, types.NamespacedName{})); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 50% under the next leader", proven(500))

	hanging := leading(t, s, types.NamespacedName{})
	pid, err := s.Agent.Process(hanging)
	if err != nil {
		t.Fatal(err)
	}
	was := restartsOf(t, s, hanging)
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	leading(t, s, hanging)
	await(t, s, name, "to prove 100% under the other one", proven(v1alpha1.Whole))
	signal(syscall.SIGCONT)
	eventually(t, "the one that hung to start anew", func(context.Context) error {
		if restartsOf(t, s, hanging) == was {
			return fmt.Errorf("%s has not ended", hanging)
		}
		return nil
	})
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, users)
}

// controllers has the chart's Deployment run so many pods.
func controllers(t *testing.T, s *scene.Scene, replicas int32) {
	t.Helper()
	d := &appsv1.Deployment{}
	d.Namespace, d.Name = scene.Namespace, "sluice"
	if err := s.Client.Patch(t.Context(), d, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec": {"replicas": %d}}`, replicas))); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("%d controllers", replicas), func(ctx context.Context) error {
		var pods corev1.PodList
		if err := s.Client.List(ctx, &pods, client.InNamespace(scene.Namespace)); err != nil {
			return err
		}
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		if len(pods.Items) != int(replicas) || d.Status.AvailableReplicas != replicas {
			return fmt.Errorf("%d pods, %d available", len(pods.Items), d.Status.AvailableReplicas)
		}
		return nil
	})
}

// leading waits until one controller says that it leads, other than one that cannot know better, and names its pod.
func leading(t *testing.T, s *scene.Scene, not types.NamespacedName) (pod types.NamespacedName) {
	t.Helper()
	eventually(t, "one leader", func(ctx context.Context) error {
		leaders, err := query(ctx, s.PrometheusURL, fmt.Sprintf("leader_election_master_status{pod!=%q} == 1", not.Name))
		if err != nil {
			return err
		}
		if len(leaders) != 1 {
			return fmt.Errorf("%d lead", len(leaders))
		}
		pod = types.NamespacedName{Namespace: scene.Namespace, Name: leaders[0].Metric["pod"]}
		return nil
	})
	return pod
}

func restartsOf(t *testing.T, s *scene.Scene, pod types.NamespacedName) int32 {
	t.Helper()
	p := &corev1.Pod{}
	if err := s.Client.Get(t.Context(), pod, p); err != nil {
		t.Fatal(err)
	}
	return p.Status.ContainerStatuses[0].RestartCount
}
