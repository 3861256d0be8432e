package scene

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Values are the chart's values that fit a lab: everything is near, and Prometheus scrapes every second.
func (s *Scene) Values() map[string]any {
	return map[string]any{
		"replicas": 1,
		"image":    map[string]any{"repository": "lab.local/sluice", "tag": "dev"},
		"controller": map[string]any{
			"prometheusAddress": s.PrometheusURL, "scrapeInterval": "1s", "settle": "1s", "drain": "3s",
			"extraArgs": []any{"--leader-election-lease=5s"},
		},
		"webhooks": map[string]any{"allowedHosts": []any{"*", "127.0.0.1"}}, // the lab's endpoints are on loopback
	}
}

// Install installs the chart with Helm's own library and waits until the controller is available.
func (s *Scene) Install(ctx context.Context, values map[string]any) error {
	config, err := s.helm()
	if err != nil {
		return err
	}
	c, err := s.chart()
	if err != nil {
		return err
	}
	install := action.NewInstall(config)
	install.ReleaseName, install.Namespace, install.CreateNamespace = "sluice", Namespace, true
	install.ServerSideApply, install.WaitStrategy, install.Timeout = true, kube.HookOnlyStrategy, 2*time.Minute
	if _, err := install.RunWithContext(ctx, c, values); err != nil {
		return fmt.Errorf("helm install: %w", err)
	}
	return await(ctx, 2*time.Minute, "the controller to be available", func(ctx context.Context) (bool, string, error) {
		var list appsv1.DeploymentList
		if err := s.Client.List(ctx, &list, client.InNamespace(Namespace)); err != nil {
			return false, "", err
		}
		for _, d := range list.Items {
			if d.Status.AvailableReplicas < *d.Spec.Replicas {
				return false, fmt.Sprintf("%s has %d of %d available", d.Name, d.Status.AvailableReplicas, *d.Spec.Replicas), nil
			}
		}
		return len(list.Items) > 0, "no Deployment", nil
	})
}

// Uninstall removes the release as helm uninstall does, hooks included.
func (s *Scene) Uninstall(ctx context.Context) error {
	config, err := s.helm()
	if err != nil {
		return err
	}
	uninstall := action.NewUninstall(config)
	uninstall.WaitStrategy, uninstall.Timeout = kube.HookOnlyStrategy, 3*time.Minute
	if _, err := uninstall.Run("sluice"); err != nil {
		return fmt.Errorf("helm uninstall: %w", err)
	}
	return ctx.Err()
}

func (s *Scene) helm() (*action.Configuration, error) {
	flags := genericclioptions.NewConfigFlags(false)
	namespace := Namespace
	flags.KubeConfig, flags.Namespace = &s.Kubeconfig, &namespace
	config := action.NewConfiguration()
	if err := config.Init(flags, Namespace, "secret"); err != nil {
		return nil, fmt.Errorf("helm: %w", err)
	}
	return config, nil
}

func (s *Scene) chart() (*chart.Chart, error) {
	c, err := loader.LoadDir(filepath.Join(s.Repo, "manifests", "chart", "sluice"))
	if err != nil {
		return nil, fmt.Errorf("loading the chart: %w", err)
	}
	return c, nil
}
