package appcontrol

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/battwheels/runbook/internal/config"
)

func controlError(t *testing.T, err error) *ControlError {
	t.Helper()
	ce, ok := errors.AsType[*ControlError](err)
	require.True(t, ok, "%v", err)
	return ce
}

func TestWhatAPersonMustMendIsNamed(t *testing.T) {
	answers := func(verb string, st metav1.Status) func(*apiServer) {
		return func(s *apiServer) {
			s.fault = func(a access) *metav1.Status {
				if a.verb == verb {
					return &st
				}
				return nil
			}
		}
	}
	without := func(verb, resource string) func(*apiServer) {
		return func(s *apiServer) {
			for i, r := range s.rules {
				if slices.Contains(r.Resources, resource) {
					s.rules[i].Verbs = slices.DeleteFunc(slices.Clone(r.Verbs), func(v string) bool { return v == verb })
				}
			}
		}
	}
	for _, row := range []struct {
		name    string
		prepare func(*apiServer)
		want    string
	}{
		{"may not read deployments", without("get", "deployments"),
			"allow runbook's account the verb get on resource deployments (API group apps) in namespace shop"},
		{"may not scale", without("patch", "deployments"), "allow runbook's account the verb patch on resource deployments (API group apps) in namespace shop"},
		{"may not see pods", without("list", "pods"), `allow runbook's account the verb list on resource pods (API group "") in namespace shop`},
		{"may not watch", without("watch", "pods"), `allow runbook's account the verb watch on resource pods (API group "") in namespace shop`},
		{"may not watch the workload", without("watch", "deployments"), "the verb watch on resource deployments"},
		{"an admission rule", answers("patch", status(http.StatusForbidden, metav1.StatusReasonForbidden, "admission webhook denied the request: change freeze")),
			"change freeze; a rule of the cluster refuses it"},
		{"a token that has expired", answers("get", status(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")),
			"Unauthorized; give the worker credentials that the cluster knows"},
		{"not there", func(s *apiServer) { delete(s.objects["deployments"], "backend") },
			"stop deployment/backend: namespace shop has no deployment named backend; correct application.kubernetes: kubectl --namespace shop get deployments"},
		{"a paused roll-out", func(s *apiServer) {
			s.edit(backend, func(o runtime.Object) { o.(*appsv1.Deployment).Spec.Paused = true })
		},
			"its roll-out is paused"},
		{"a number that is none", func(s *apiServer) {
			s.edit(backend, func(o runtime.Object) {
				o.(metav1.Object).SetAnnotations(map[string]string{RememberedReplicas: "many"})
			})
		}, `its annotation runbook/replicas is "many", which is no number of replicas`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newShop(t)
			s.onScale = func(workload, int32) {}
			row.prepare(s)
			err := s.controller().Stop(t.Context())
			require.Contains(t, controlError(t, err).Error(), row.want)
		})
	}
}

// The second workload is misspelt: that is found before the first is touched.
func TestNothingIsTouchedWhileOneOfThemIsUnknown(t *testing.T) {
	s := newShop(t)
	s.rules = append(s.rules, deployedRole(t).Rules[1])
	s.rules[3].ResourceNames = []string{"wroker"}
	c := s.controller("deployment/backend", "statefulset/wroker")
	require.ErrorContains(t, c.Stop(t.Context()), "namespace shop has no statefulset named wroker")
	require.ErrorContains(t, c.Start(t.Context()), "namespace shop has no statefulset named wroker")
	require.Empty(t, s.changes())
}

func TestTheWorkersOwnPodIsNotStopped(t *testing.T) {
	s := newShop(t)
	c := s.controller()
	c.self = "worker-1"
	require.ErrorContains(t, c.Stop(t.Context()), "stop statefulset/worker: this worker's own pod, worker-1, belongs to it")
	require.Empty(t, s.changes())
}

func TestAServerInTroubleIsUnavailable(t *testing.T) {
	s := newShop(t)
	s.fault = func(access) *metav1.Status {
		st := status(http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: leader changed")
		return &st
	}
	c := s.controller()
	err := c.Stop(t.Context())
	ue, ok := errors.AsType[*UnavailableError](err)
	require.True(t, ok, "%v", err)
	require.ErrorContains(t, ue, "stop deployment/backend: no answer from the Kubernetes API at http://127.0.0.1")
	require.ErrorContains(t, ue, "leader changed")

	s.http.Close()
	_, err = c.State(t.Context())
	_, ok = errors.AsType[*UnavailableError](err)
	require.True(t, ok, "%v", err)
}

// A pod that a third one starts, of the labels of a workload that was seen stopped.
func TestPodsThatAppearWhileTheOthersStopAreNamed(t *testing.T) {
	s := newShop(t)
	s.onScale = func(w workload, n int32) {
		if w == jobs {
			s.pod(backend, "debug", nil)
		}
		s.settle(w, n)
	}
	require.ErrorContains(t, s.controller().Stop(t.Context()), "stop deployment/backend: it was seen stopped and has pods again: pod debug is Running on node-1")
}

// One request that is not answered is no verdict on the workload.
func TestAServerThatDoesNotAnswerIsUnavailable(t *testing.T) {
	s := newShop(t)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	s.fault = func(a access) *metav1.Status {
		if a.verb == "patch" {
			<-hang
		}
		return nil
	}
	c := s.controller()
	c.cluster.patience = 100 * time.Millisecond
	err := c.Stop(t.Context())
	_, ok := errors.AsType[*UnavailableError](err)
	require.True(t, ok, "%v", err)
	require.ErrorContains(t, err, "nothing within 100ms")
}

func TestTimeIsOverAndWhatIsMissingIsSaid(t *testing.T) {
	for _, row := range []struct {
		name string
		act  func(t *testing.T, s *apiServer, c *kubernetes) error
		want []string
	}{
		{"a pod that does not end", func(t *testing.T, s *apiServer, c *kubernetes) error {
			s.onScale = func(w workload, _ int32) {
				s.settle(w, 0)
				s.pod(w, "backend-0", terminating)
			}
			return c.Stop(t.Context())
		}, []string{"stop deployment/backend: after 300ms stopping, 1 pods left: pod backend-0 is Running, to end by 03:12:30 UTC on node-1", "above its pods' terminationGracePeriodSeconds"}},
		{"a pod of somebody else that the selector matches", func(t *testing.T, s *apiServer, c *kubernetes) error {
			yes := true
			s.pod(backend, "import-x", func(p *corev1.Pod) {
				p.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: "import", Controller: &yes}}
			})
			s.onScale = func(w workload, _ int32) {
				for _, name := range []string{"backend-0", "backend-1", "backend-2"} {
					s.deletePod(name)
				}
				s.status(w, 0, 0)
			}
			return c.Stop(t.Context())
		}, []string{"pod import-x is Running and not asked to end (it is of Job import) on node-1"}},
		{"an image that is not found", func(t *testing.T, s *apiServer, c *kubernetes) error {
			require.NoError(t, c.Stop(t.Context()))
			s.onScale = func(w workload, _ int32) {
				s.pod(w, "backend-0", func(p *corev1.Pod) {
					p.Status.Phase = corev1.PodPending
					p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
				})
				s.pod(w, "backend-1", func(p *corev1.Pod) {
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
				})
				s.status(w, 3, 0)
			}
			return c.Start(t.Context())
		}, []string{"start deployment/backend: after 300ms 0 of 3 ready: pod backend-0, container api: ImagePullBackOff; pod backend-1: 0/3 nodes are available",
			"kubectl --namespace shop describe deployment/backend"}},
		{"a quota", func(t *testing.T, s *apiServer, c *kubernetes) error {
			require.NoError(t, c.Stop(t.Context()))
			s.onScale = func(w workload, _ int32) {
				s.edit(w, func(o runtime.Object) {
					o.(*appsv1.Deployment).Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota: pods"}}
				})
			}
			return c.Start(t.Context())
		}, []string{"exceeded quota: pods"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newShop(t)
			c := s.controller("deployment/backend")
			c.timeout = 300 * time.Millisecond
			err := row.act(t, s, c)
			for _, want := range row.want {
				require.Contains(t, controlError(t, err).Error(), want)
			}
		})
	}
}

// The Role of deploy/kubernetes/ is this server's RBAC, so that it has all that is needed; here it is seen that it has no more.
func TestTheDeployedRoleHasExactlyTheVerbsThatAreUsed(t *testing.T) {
	s := newShop(t)
	c := s.controller()
	s.onScale = func(workload, int32) {}
	stop := later(t, func() error { return c.Stop(t.Context()) })
	s.follows(1)
	s.settle(backend, 0)
	s.follows(2)
	s.settle(jobs, 0)
	require.NoError(t, awaits(t, stop))
	start := later(t, func() error { return c.Start(t.Context()) })
	s.follows(3)
	s.settle(jobs, 2)
	s.follows(4)
	s.settle(backend, 3)
	require.NoError(t, awaits(t, start))
	for _, rule := range s.rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, resource := range rule.Resources {
			for _, name := range names {
				for _, verb := range rule.Verbs {
					require.Contains(t, s.used, access{verb, rule.APIGroups[0], resource, name}, "the Role allows what is never used")
				}
			}
		}
	}
}

func TestAClusterThatCannotBeReachedFromHereIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte("apiVersion: v1\nkind: Config\ncontexts: []\n"), 0o600))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, row := range []struct {
		name string
		k    config.Kubernetes
		want string
	}{
		{"no cluster around", config.Kubernetes{}, "set application.kubernetes.kubeconfig where the worker does not run in the cluster itself"},
		{"no such file", config.Kubernetes{Kubeconfig: "/nowhere/config"}, "/nowhere/config"},
		{"no such context", config.Kubernetes{Kubeconfig: file, Context: "production"}, `context "production" does not exist`},
		{"no workload", config.Kubernetes{Workloads: []string{}}, "application.kubernetes.workloads is empty"},
		{"no workload of a kind that can be scaled", config.Kubernetes{Workloads: []string{"cronjob/nightly"}}, "cronjob/nightly: that is no workload that can be scaled"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.k.Namespace = testNamespace
			if row.k.Workloads == nil {
				row.k.Workloads = []string{"deployment/backend"}
			}
			_, err := New(config.Application{Kubernetes: &row.k})
			require.Contains(t, controlError(t, err).Error(), row.want)
		})
	}
}
