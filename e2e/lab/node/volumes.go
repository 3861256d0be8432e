package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// mounted writes the volumes that the arguments name a file of, and returns the arguments with the places where they really are: a child
// process has no file system of its own. Files are written when the container starts, and do not follow their objects.
func (c *container) mounted(ctx context.Context, args []string) ([]string, error) {
	object := c.pod.latest()
	for _, m := range c.spec.VolumeMounts {
		inside := strings.TrimSuffix(m.MountPath, "/") + "/"
		if !strings.Contains(strings.Join(args, "\n"), inside) {
			continue
		}
		dir := filepath.Join(c.pod.agent.cfg.Dir, string(object.UID)+"-"+m.Name)
		for _, v := range object.Spec.Volumes {
			if v.Name != m.Name {
				continue
			}
			if err := c.write(ctx, dir, v); err != nil {
				return nil, fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], inside, dir+"/")
		}
	}
	return args, nil
}

// write writes a volume of ConfigMaps and Secrets; of others there is nothing to write.
func (c *container) write(ctx context.Context, dir string, v corev1.Volume) error {
	var sources []corev1.VolumeProjection
	switch {
	case v.ConfigMap != nil:
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: v.ConfigMap.LocalObjectReference, Items: v.ConfigMap.Items, Optional: v.ConfigMap.Optional,
		}})
	case v.Secret != nil:
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: v.Secret.SecretName}, Items: v.Secret.Items, Optional: v.Secret.Optional,
		}})
	case v.Projected != nil:
		sources = v.Projected.Sources
	}
	for _, s := range sources {
		if err := c.project(ctx, dir, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *container) project(ctx context.Context, dir string, s corev1.VolumeProjection) error {
	var data map[string]string
	var items []corev1.KeyToPath
	var err error
	switch {
	case s.ConfigMap != nil:
		items = s.ConfigMap.Items
		data, err = c.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Optional)
	case s.Secret != nil:
		items = s.Secret.Items
		data, err = c.secret(ctx, s.Secret.Name, s.Secret.Optional)
	}
	if err != nil {
		return err
	}
	if items == nil {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		text, ok := data[item.Key]
		if !ok {
			return fmt.Errorf("key %q not found", item.Key)
		}
		path := filepath.Join(dir, filepath.FromSlash(item.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
