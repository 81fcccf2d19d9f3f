package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/battwheels/runbook/internal/config"
)

// kustomization is what the base uses of kustomize's format.
type kustomization struct {
	metav1.TypeMeta    `json:",inline"`
	Namespace          string   `json:"namespace"`
	Resources          []string `json:"resources"`
	ConfigMapGenerator []struct {
		Name  string   `json:"name"`
		Files []string `json:"files"`
	} `json:"configMapGenerator"`
	Images []struct {
		Name    string `json:"name"`
		NewName string `json:"newName"`
		NewTag  string `json:"newTag"`
	} `json:"images"`
	Labels []struct {
		Pairs map[string]string `json:"pairs"`
	} `json:"labels"`
}

// manifests reads every object of deploy/kubernetes into the API's own types, by "Kind name". A field that those do not have, or one
// of another type, fails the test.
func manifests(t *testing.T) (kustomization, map[string]any) {
	t.Helper()
	var k kustomization
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "kubernetes/kustomization.yaml")), &k))
	all := map[string]any{}
	for _, file := range append(slices.Clone(k.Resources), "secret.example.yaml") {
		for doc := range bytes.SplitSeq([]byte(read(t, "kubernetes/"+file)), []byte("\n---\n")) {
			var meta metav1.PartialObjectMetadata
			require.NoError(t, yaml.Unmarshal(doc, &meta), file)
			into := map[string]any{
				"v1 ServiceAccount": &corev1.ServiceAccount{}, "v1 Service": &corev1.Service{}, "v1 Secret": &corev1.Secret{},
				"v1 PersistentVolumeClaim": &corev1.PersistentVolumeClaim{}, "apps/v1 Deployment": &appsv1.Deployment{},
				"rbac.authorization.k8s.io/v1 Role": &rbacv1.Role{}, "rbac.authorization.k8s.io/v1 RoleBinding": &rbacv1.RoleBinding{},
			}[meta.APIVersion+" "+meta.Kind]
			require.NotNil(t, into, "%s: %s %s", file, meta.APIVersion, meta.Kind)
			require.NoError(t, yaml.UnmarshalStrict(doc, into), file)
			all[meta.Kind+" "+meta.Name] = into
		}
	}
	return k, all
}

func one[T any](t *testing.T, all map[string]any, key string) T {
	t.Helper()
	o, ok := all[key].(T)
	require.True(t, ok, "%s is not among %v", key, all)
	return o
}

func TestEveryKubernetesFileIsPartOfTheBase(t *testing.T) {
	k, _ := manifests(t)
	files, err := filepath.Glob("kubernetes/*")
	require.NoError(t, err)
	for _, file := range files {
		name := filepath.Base(file)
		if !slices.Contains([]string{"kustomization.yaml", "runbook.yaml", "secret.example.yaml"}, name) {
			require.Contains(t, k.Resources, name)
		}
	}
}

// Names that must agree, across the files that Kubernetes never compares.
func TestTheKubernetesManifestsFitTogether(t *testing.T) {
	k, all := manifests(t)
	binding, account := one[*rbacv1.RoleBinding](t, all, "RoleBinding runbook"), one[*corev1.ServiceAccount](t, all, "ServiceAccount runbook")
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: one[*rbacv1.Role](t, all, "Role runbook").Name}, binding.RoleRef)
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: k.Namespace}}, binding.Subjects)

	worker := one[*appsv1.Deployment](t, all, "Deployment runbook-worker").Spec
	require.Equal(t, appsv1.RecreateDeploymentStrategyType, worker.Strategy.Type, "one worker at a time has the volume")
	require.Equal(t, account.Name, worker.Template.Spec.ServiceAccountName)
	require.True(t, *worker.Template.Spec.AutomountServiceAccountToken)
	serve := one[*appsv1.Deployment](t, all, "Deployment runbook-serve").Spec
	require.False(t, *serve.Template.Spec.AutomountServiceAccountToken)
	service := one[*corev1.Service](t, all, "Service runbook")
	require.Equal(t, serve.Template.Labels, service.Spec.Selector)
	require.Equal(t, serve.Template.Spec.Containers[0].Ports[0].Name, service.Spec.Ports[0].TargetPort.StrVal)

	secret := one[*corev1.Secret](t, all, "Secret runbook")
	for _, d := range []appsv1.DeploymentSpec{worker, serve} {
		require.Equal(t, d.Selector.MatchLabels, d.Template.Labels)
		volumes := map[string]corev1.VolumeSource{}
		for _, v := range d.Template.Spec.Volumes {
			volumes[v.Name] = v.VolumeSource
		}
		require.Equal(t, k.ConfigMapGenerator[0].Name, volumes["config"].ConfigMap.Name)
		require.Equal(t, secret.Name, volumes["secrets"].Secret.SecretName)
		require.EqualValues(t, 0o440, *volumes["secrets"].Secret.DefaultMode)
		c := d.Template.Spec.Containers[0]
		require.Equal(t, k.Images[0].Name, c.Image)
		for _, m := range c.VolumeMounts {
			require.Contains(t, volumes, m.Name)
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil {
				require.Equal(t, secret.Name, e.ValueFrom.SecretKeyRef.Name)
			}
		}
		require.Contains(t, read(t, "../Dockerfile"), "USER 65532:65532")
		require.EqualValues(t, 65532, *d.Template.Spec.SecurityContext.RunAsUser)
		require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
		require.Contains(t, read(t, "../Dockerfile"), "RUNBOOK_CONFIG="+c.VolumeMounts[0].MountPath+"/"+k.ConfigMapGenerator[0].Files[0])
	}
	one[*corev1.PersistentVolumeClaim](t, all, "PersistentVolumeClaim runbook-storage")
}

// A worker lets its steps come to an end; Kubernetes must not kill it before.
func TestKubernetesWaitsLongerForAWorkerThanTheWorkerForItsSteps(t *testing.T) {
	m := regexp.MustCompile(`const stopWithin = (\d+) \* time\.Second`).FindStringSubmatch(read(t, "../worker/worker.go"))
	require.NotNil(t, m)
	_, all := manifests(t)
	grace := one[*appsv1.Deployment](t, all, "Deployment runbook-worker").Spec.Template.Spec.TerminationGracePeriodSeconds
	within, err := strconv.ParseInt(m[1], 10, 64)
	require.NoError(t, err)
	require.Greater(t, *grace, within)
}

// The configuration loads with the example secret's keys as files, and names exactly what the Role allows.
func TestTheConfigurationForKubernetesLoadsAndFitsItsRole(t *testing.T) {
	k, all := manifests(t)
	dir := t.TempDir()
	for name, value := range one[*corev1.Secret](t, all, "Secret runbook").StringData {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
	}
	text := strings.ReplaceAll(read(t, "kubernetes/"+k.ConfigMapGenerator[0].Files[0]), "/run/secrets", dir)
	path := filepath.Join(dir, "runbook.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path)
	require.NoError(t, err)
	app := cfg.Targets["shop"].Application.Kubernetes
	require.Equal(t, k.Namespace, app.Namespace)
	var allowed []string
	for _, r := range one[*rbacv1.Role](t, all, "Role runbook").Rules {
		for _, name := range r.ResourceNames {
			allowed = append(allowed, strings.TrimSuffix(r.Resources[0], "s")+"/"+name)
		}
	}
	require.ElementsMatch(t, app.Workloads, allowed)

	worker := one[*appsv1.Deployment](t, all, "Deployment runbook-worker").Spec.Template.Spec.Containers[0]
	require.True(t, slices.ContainsFunc(worker.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == cfg.Storage.Dir }))
	port := one[*appsv1.Deployment](t, all, "Deployment runbook-serve").Spec.Template.Spec.Containers[0].Ports[0].ContainerPort
	require.Equal(t, fmt.Sprintf("0.0.0.0:%d", port), cfg.Webhook.Listen)
}
