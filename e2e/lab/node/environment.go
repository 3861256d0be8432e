package node

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// environment makes the container's variables as the kubelet does: sources first, then the list in its order, each value
// seeing those before it.
func (c *container) environment(ctx context.Context) (map[string]string, error) {
	env := map[string]string{}
	for _, source := range c.spec.EnvFrom {
		if err := c.include(ctx, env, source); err != nil {
			return nil, err
		}
	}
	for _, v := range c.spec.Env {
		if v.ValueFrom == nil {
			env[v.Name] = expand(v.Value, env)
			continue
		}
		value, ok, err := c.lookUp(ctx, v.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", v.Name, err)
		}
		if ok {
			env[v.Name] = value
		}
	}
	return env, nil
}

// include adds everything in a ConfigMap or a Secret.
func (c *container) include(ctx context.Context, env map[string]string, source corev1.EnvFromSource) error {
	var data map[string]string
	var err error
	switch {
	case source.ConfigMapRef != nil:
		data, err = c.configMap(ctx, source.ConfigMapRef.Name, source.ConfigMapRef.Optional)
	case source.SecretRef != nil:
		data, err = c.secret(ctx, source.SecretRef.Name, source.SecretRef.Optional)
	}
	for k, v := range data {
		env[source.Prefix+k] = v
	}
	return err
}

// lookUp reads one value from where the variable says; ok is false for an optional one that is not there.
func (c *container) lookUp(ctx context.Context, from *corev1.EnvVarSource) (value string, ok bool, err error) {
	var data map[string]string
	var key string
	var optional *bool
	switch {
	case from.FieldRef != nil:
		value, err = c.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		key, optional = from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Optional
		data, err = c.configMap(ctx, from.ConfigMapKeyRef.Name, optional)
	case from.SecretKeyRef != nil:
		key, optional = from.SecretKeyRef.Key, from.SecretKeyRef.Optional
		data, err = c.secret(ctx, from.SecretKeyRef.Name, optional)
	case from.ResourceFieldRef != nil:
		return c.resource(from.ResourceFieldRef.Resource)
	default:
		return "", false, fmt.Errorf("the lab does not know this source")
	}
	if err != nil {
		return "", false, err
	}
	if value, ok = data[key]; !ok && !ptr.Deref(optional, false) {
		return "", false, fmt.Errorf("key %q not found", key)
	}
	return value, ok, nil
}

func (c *container) configMap(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	m, err := c.pod.agent.client.CoreV1().ConfigMaps(c.pod.name.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && ptr.Deref(optional, false) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (c *container) secret(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	s, err := c.pod.agent.client.CoreV1().Secrets(c.pod.name.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && ptr.Deref(optional, false) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := map[string]string{}
	for k, v := range s.Data {
		data[k] = string(v)
	}
	return data, nil
}

var fieldWithKey = regexp.MustCompile(`^metadata\.(labels|annotations)\['(.+)'\]$`)

// field reads the pod's own object.
func (c *container) field(path string) (string, error) {
	object := c.pod.latest()
	if m := fieldWithKey.FindStringSubmatch(path); m != nil {
		if m[1] == "labels" {
			return object.Labels[m[2]], nil
		}
		return object.Annotations[m[2]], nil
	}
	switch path {
	case "metadata.name":
		return object.Name, nil
	case "metadata.namespace":
		return object.Namespace, nil
	case "metadata.uid":
		return string(object.UID), nil
	case "spec.nodeName":
		return object.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return object.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return c.pod.ip, nil
	case "status.hostIP", "status.hostIPs":
		return hostIP, nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %s", path)
}

// resource reads the container's own requests and limits, whole units of them. Without a limit it is the node's room.
func (c *container) resource(name string) (string, bool, error) {
	kind, what, _ := strings.Cut(name, ".")
	list := c.spec.Resources.Limits
	if kind == "requests" {
		list = c.spec.Resources.Requests
	}
	q, ok := list[corev1.ResourceName(what)]
	if !ok {
		q = room[corev1.ResourceName(what)]
	}
	return fmt.Sprint(q.Value()), true, nil
}

var reference = regexp.MustCompile(`\$\$|\$\([-._a-zA-Z][-._a-zA-Z0-9]*\)`)

// expand replaces $(NAME) by the variable and $$ by $; a name that nobody defined stays as it is.
func expand(text string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(m string) string {
		if m == "$$" {
			return "$"
		}
		if v, ok := env[m[2:len(m)-1]]; ok {
			return v
		}
		return m
	})
}
