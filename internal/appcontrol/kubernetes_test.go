package appcontrol

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var (
	backend = workload{deployment, "backend"}
	jobs    = workload{statefulSet, "worker"}
)

// newShop is a cluster in which three pods of deployment/backend and two of statefulset/worker run.
func newShop(t *testing.T) *apiServer {
	t.Helper()
	s := newAPIServer(t)
	s.has(backend, 3)
	s.has(jobs, 2)
	return s
}

// later runs do until the test ends, which it awaits.
func later(t *testing.T, do func() error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	return done
}

// awaits waits for an end that must come.
func awaits(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		require.Fail(t, "it did not end")
		return nil
	}
}

// follows waits until the controller watches a workload's pods.
func (s *apiServer) follows(watches int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.requests("watch", "pods") >= watches }, 20*time.Second, time.Millisecond)
}

func TestWorkloadsStopInOrderAndStartInReverseWithAsManyReplicasAsBefore(t *testing.T) {
	s := newShop(t)
	c := s.controller()
	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, State{Running: true, Programs: []Program{
		{Name: "deployment/backend", State: "3 of 3 ready", Running: true}, {Name: "statefulset/worker", State: "2 of 2 ready", Running: true}}}, st)
	for range 2 {
		require.NoError(t, c.Stop(t.Context()))
	}
	st, err = c.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, State{Programs: []Program{{Name: "deployment/backend", State: "stopped"}, {Name: "statefulset/worker", State: "stopped"}}}, st)
	for range 2 {
		require.NoError(t, c.Start(t.Context()))
	}
	require.Equal(t, []string{"deployment/backend 3→0", "statefulset/worker 2→0", "statefulset/worker 0→2", "deployment/backend 0→3"}, s.changes())
}

// A pod that is being deleted is in no count of its workload, and writes until it is gone.
func TestStopWaitsForTheLastTerminatingPod(t *testing.T) {
	s := newShop(t)
	s.onScale = func(w workload, _ int32) {
		for _, name := range s.podsOf(w) {
			s.pod(w, name, terminating)
		}
		s.status(w, 0, 0)
	}
	c := s.controller("deployment/backend")
	done := later(t, func() error { return c.Stop(t.Context()) })
	s.follows(1)
	s.deletePod("backend-0")
	s.deletePod("backend-1")
	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, "stopping, 1 pods left", st.Programs[0].State)
	require.True(t, st.Running)
	require.Empty(t, done)
	s.pod(backend, "backend-2", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	require.NoError(t, awaits(t, done), "a pod whose containers have ended for good writes no more")
}

// Stop returned with the first workload's pods gone, and only then is the second one touched.
func TestTheNextWorkloadIsStoppedWhenTheOneBeforeIsGone(t *testing.T) {
	s := newShop(t)
	s.onScale = func(w workload, n int32) {
		if w == jobs {
			s.settle(w, n)
		}
	}
	done := later(t, func() error { return s.controller().Stop(t.Context()) })
	s.follows(1)
	require.Equal(t, []string{"deployment/backend 3→0"}, s.changes())
	s.settle(backend, 0)
	require.NoError(t, awaits(t, done))
}

// Zero that the workload's controller has not seen yet is not stopped: pods may be on their way.
func TestStopWaitsUntilTheWorkloadsControllerHasSeenIt(t *testing.T) {
	s := newAPIServer(t)
	s.has(backend, 0)
	s.edit(backend, func(o runtime.Object) { o.(*appsv1.Deployment).Generation = 2 })
	done := later(t, func() error { return s.controller("deployment/backend").Stop(t.Context()) })
	s.follows(1)
	require.Empty(t, done)
	s.status(backend, 0, 0)
	require.NoError(t, awaits(t, done))
}

// The number lies with the workload, so another worker on another host has it.
func TestAWorkerThatIsKilledAfterTheStopLeavesTheNumberToTheNext(t *testing.T) {
	s := newShop(t)
	s.onScale = func(workload, int32) {}
	ctx, kill := context.WithCancel(t.Context())
	done := later(t, func() error { return s.controller().Stop(ctx) })
	s.follows(1)
	kill()
	require.ErrorIs(t, awaits(t, done), context.Canceled)
	n, note := s.now(backend)
	require.Zero(t, n)
	require.Equal(t, "3", note)

	s.settle(backend, 0)
	s.onScale = s.settle
	require.NoError(t, s.controller().Start(t.Context()))
	n, note = s.now(backend)
	require.EqualValues(t, 3, n)
	require.Empty(t, note)
	require.Equal(t, []string{"deployment/backend 3→0", "deployment/backend 0→3"}, s.changes(), "the one that was not reached runs on")
}

func TestAWorkloadWithoutReplicasStaysWithoutThem(t *testing.T) {
	s := newAPIServer(t)
	s.has(backend, 0)
	s.has(jobs, 2)
	c := s.controller()
	require.NoError(t, c.Stop(t.Context()))
	require.NoError(t, c.Start(t.Context()))
	require.Equal(t, []string{"statefulset/worker 2→0", "statefulset/worker 0→2"}, s.changes())
}

func TestStartWaitsUntilEveryPodIsReady(t *testing.T) {
	s := newShop(t)
	c := s.controller("deployment/backend")
	require.NoError(t, c.Stop(t.Context()))
	s.onScale = func(w workload, _ int32) { s.status(w, 3, 2) }
	watches := s.requests("watch", "pods")
	done := later(t, func() error { return c.Start(t.Context()) })
	s.follows(watches + 1)
	require.Empty(t, done)
	s.status(backend, 3, 3)
	require.NoError(t, awaits(t, done))
}

// Somebody changes the workload between the look and the request: it is looked at again, and what they did is kept.
func TestAConflictIsTriedAgainWithWhatStandsThereNow(t *testing.T) {
	s := newShop(t)
	first := true
	s.fault = func(a access) *metav1.Status {
		if a.verb == "patch" && first {
			first = false
			s.scaledElsewhere("horizontal-pod-autoscaler", backend, 5)
		}
		return nil
	}
	require.NoError(t, s.controller("deployment/backend").Stop(t.Context()))
	require.Equal(t, 2, s.requests("patch", "deployments"))
	_, note := s.now(backend)
	require.Equal(t, "5", note)
}

func TestAWorkloadThatSomebodyScalesUpAgainIsNamedWithWhoDidIt(t *testing.T) {
	s := newShop(t)
	s.onScale = func(w workload, _ int32) { s.scaledElsewhere("argocd-controller", w, 1) }
	c := s.controller("deployment/backend")
	err := c.Stop(t.Context())
	ce := controlError(t, err)
	require.Equal(t, "it was scaled to 0, and argocd-controller scaled it to 1", ce.Reason)
	require.Contains(t, ce.Do, "Argo CD")

	s.onScale = s.settle
	require.NoError(t, c.Stop(t.Context()))
	_, note := s.now(backend)
	require.Equal(t, "3", note, "the number from before the first stop, not the one it was scaled up to meanwhile")
}

func TestAWorkloadThatComesBackWhileTheOthersStopIsNamed(t *testing.T) {
	s := newShop(t)
	s.onScale = func(w workload, n int32) {
		if w == jobs {
			s.scaledElsewhere("keda-operator", backend, 2)
		}
		s.settle(w, n)
	}
	require.ErrorContains(t, s.controller().Stop(t.Context()), "stop deployment/backend: it was scaled to 0, and keda-operator scaled it to 2")
}

func TestAWorkloadThatIsScaledDownWhileItStartsIsNamed(t *testing.T) {
	s := newShop(t)
	c := s.controller("deployment/backend")
	require.NoError(t, c.Stop(t.Context()))
	s.onScale = func(w workload, _ int32) { s.scaledElsewhere("kubectl-scale", w, 0) }
	require.ErrorContains(t, c.Start(t.Context()), "start deployment/backend: it was scaled up, and kubectl-scale scaled it to 0 again")
}

// A watch ends now and then, and what happened in between may be forgotten by the server (410).
func TestADroppedWatchMissesNothing(t *testing.T) {
	for name, mishap := range map[string]func(s *apiServer){
		"the connection ends": func(s *apiServer) { s.dropWatches() },
		"the version is too old": func(s *apiServer) {
			refused := 0
			s.mu.Lock()
			s.fault = func(a access) *metav1.Status {
				if a.verb != "watch" || refused == 2 {
					return nil
				}
				refused++
				st := status(http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
				return &st
			}
			s.mu.Unlock()
			s.dropWatches()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.onScale = func(workload, int32) {}
			done := later(t, func() error { return s.controller("deployment/backend").Stop(t.Context()) })
			s.follows(1)
			mishap(s)
			s.settle(backend, 0)
			require.NoError(t, awaits(t, done))
		})
	}
}

// A watch may be dead without anybody noticing.
func TestASilentWatchIsNotBelievedForEver(t *testing.T) {
	s := newShop(t)
	s.onScale = func(workload, int32) {}
	c := s.controller("deployment/backend")
	c.cluster.every = 50 * time.Millisecond
	done := later(t, func() error { return c.Stop(t.Context()) })
	s.follows(3)
	s.settle(backend, 0)
	require.NoError(t, awaits(t, done))
}

func TestCancellationIsPrompt(t *testing.T) {
	for name, hang := range map[string]string{"in a watch": "", "in a question": "list"} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.onScale = func(workload, int32) {}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.fault = func(a access) *metav1.Status {
				if a.verb == hang {
					cancel()
					<-ctx.Done()
				}
				return nil
			}
			done := later(t, func() error { return s.controller("deployment/backend").Stop(ctx) })
			if hang == "" {
				s.follows(1)
				cancel()
			}
			begun := time.Now()
			require.ErrorIs(t, awaits(t, done), context.Canceled)
			require.Less(t, time.Since(begun), 5*time.Second)
		})
	}
}
