package appcontrol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/battwheels/runbook/internal/config"
)

// RememberedReplicas is the annotation on a stopped workload that says how many replicas it had. It is written in the very
// request that scales the workload to 0 and removed in the one that scales it up, so that whichever worker starts it finds the
// number, and none finds a workload at 0 whose number is lost.
const RememberedReplicas = "runbook/replicas"

// defaultWorkloadTimeout is longer than a program's: pods have 30 s to end by default, and may have to fetch their image to start.
const defaultWorkloadTimeout = 5 * time.Minute

// kubernetes scales deployments and stateful sets to 0 and back.
//
// Stopped means that no pod is left that the workload's selector matches and whose containers may still run. A pod that is being
// deleted counts: it may write until it is gone, and status.replicas leaves it out. What Kubernetes cannot know it cannot tell: of a
// pod that was deleted by force, or whose node is lost, containers may go on. That the database is quiet is proven apart.
//
// A HorizontalPodAutoscaler rests while its workload has 0 replicas, as long as its minReplicas is not 0. Whatever else sets the
// number of replicas (KEDA, Argo CD, Flux, a person) works against a stop: that is seen, named and refused.
type kubernetes struct {
	cluster   *cluster
	workloads []workload
	timeout   time.Duration
	self      string // name of the pod that this worker runs in; empty where it runs elsewhere
}

func newKubernetes(k config.Kubernetes) (*kubernetes, error) {
	if len(k.Workloads) == 0 {
		return nil, &ControlError{Action: "control the application", Reason: "application.kubernetes.workloads is empty",
			Do: "name every deployment and stateful set that writes to the database"}
	}
	var workloads []workload
	for _, s := range k.Workloads {
		kind, name, _ := strings.Cut(s, "/")
		if kind != deployment && kind != statefulSet || name == "" {
			return nil, &ControlError{Action: "control the application", Program: s, Reason: "that is no workload that can be scaled",
				Do: "write application.kubernetes.workloads like deployment/backend or statefulset/worker"}
		}
		workloads = append(workloads, workload{kind, name})
	}
	c, self, err := connect(k)
	if err != nil {
		return nil, err
	}
	return &kubernetes{cluster: c, workloads: workloads, timeout: cmp.Or(time.Duration(k.Timeout), defaultWorkloadTimeout), self: self}, nil
}

// Stop scales the workloads to 0 in the configured order, each when the one before has no pod left, and looks at all of them
// once more at the end.
func (k *kubernetes) Stop(ctx context.Context) error {
	for _, w := range k.workloads {
		s, err := k.cluster.look(ctx, "stop", w)
		if err != nil {
			return err
		}
		if err := k.itself(w, s); err != nil {
			return err
		}
		if err := paused(w, s); err != nil {
			return err
		}
	}
	for _, w := range k.workloads {
		if err := k.stop(ctx, w); err != nil {
			return err
		}
	}
	for _, w := range k.workloads {
		s, err := k.cluster.look(ctx, "stop", w)
		if err != nil {
			return err
		}
		// Its controller need not have seen what somebody changed since, as long as that is not its replicas.
		if s.alive() {
			return upAgain(w, s)
		}
	}
	return nil
}

// Start scales the workloads back to the remembered number, in the reverse order, each when the one before is ready. One that had
// no replicas before it was stopped keeps none.
func (k *kubernetes) Start(ctx context.Context) error {
	for _, w := range k.workloads {
		if _, err := k.cluster.get(ctx, "start", w); err != nil {
			return err
		}
	}
	for _, w := range slices.Backward(k.workloads) {
		if err := k.start(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// State asks the cluster for every workload and its pods.
func (k *kubernetes) State(ctx context.Context) (State, error) {
	var st State
	for _, w := range k.workloads {
		s, err := k.cluster.look(ctx, "look at", w)
		if err != nil {
			return State{}, err
		}
		st.Running = st.Running || s.runs()
		st.Programs = append(st.Programs, Program{Name: w.String(), State: s.String(), Running: s.runs()})
	}
	return st, nil
}

func (k *kubernetes) stop(ctx context.Context, w workload) error {
	bounded, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	err := k.cluster.scale(bounded, "stop", w, func(s seen) (int32, *string, error) {
		if s.want == 0 {
			return 0, nil, errNothingToScale
		}
		n := s.want
		if before, ok, err := s.remembered("stop", w); err != nil {
			return 0, nil, err
		} else if ok {
			// It was scaled up against a stop, perhaps to one for a start.
			n = max(n, before)
		}
		number := strconv.Itoa(int(n))
		return 0, &number, paused(w, s)
	})
	var last seen
	if err == nil {
		last, err = k.cluster.follow(bounded, "stop", w, func(s seen) (bool, error) {
			if s.want > 0 {
				return false, upAgain(w, s)
			}
			return !s.runs(), nil
		})
	}
	return k.outcome(ctx, "stop", w, last, err)
}

func (k *kubernetes) start(ctx context.Context, w workload) error {
	bounded, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	up := false
	err := k.cluster.scale(bounded, "start", w, func(s seen) (int32, *string, error) {
		n, ok, err := s.remembered("start", w)
		up = s.want > 0 || ok
		if err == nil && !ok {
			err = errNothingToScale
		}
		return max(n, s.want), nil, err
	})
	var last seen
	if err == nil && up {
		last, err = k.cluster.follow(bounded, "start", w, func(s seen) (bool, error) {
			if s.want == 0 {
				return false, &ControlError{Action: "start", Program: w.String(), Reason: "it was scaled up, and " + s.scaledBy() + " scaled it to 0 again",
					Do: "find out why, and keep that from doing so, then retry"}
			}
			return s.ready(), nil
		})
	}
	return k.outcome(ctx, "start", w, last, err)
}

// outcome says, where the time is over, what was waited for.
func (k *kubernetes) outcome(ctx context.Context, action string, w workload, last seen, err error) error {
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &ControlError{Action: action, Program: w.String(), Reason: fmt.Sprintf("after %s %s", k.timeout, cmp.Or(last.String(), "its state is not known"))}
	if action == "stop" {
		e.Do = "set application.kubernetes.timeout above its pods' terminationGracePeriodSeconds; where a pod's node is lost, see there that it has ended before it is deleted by force; then retry"
		if why := last.inTheWay(); why != "" {
			e.Reason += ": " + why
		}
	} else {
		e.Do = fmt.Sprintf("see kubectl --namespace %s describe %s, mend the cause, or set application.kubernetes.timeout above what it needs, then retry", k.cluster.namespace, w)
		if why := last.notReady(); why != "" {
			e.Reason += ": " + why
		}
	}
	return e
}

// itself refuses to stop the very pod that has to bring everything back.
func (k *kubernetes) itself(w workload, s seen) error {
	if _, ours := s.pods[k.self]; k.self != "" && ours {
		return &ControlError{Action: "stop", Program: w.String(), Reason: "this worker's own pod, " + k.self + ", belongs to it",
			Do: "take it out of application.kubernetes.workloads: only what writes to the database belongs there"}
	}
	return nil
}

// paused refuses to stop a deployment in the middle of a roll-out that somebody holds: it would come back as another mix of
// versions than it was.
func paused(w workload, s seen) error {
	if !s.paused || s.want == 0 {
		return nil
	}
	return &ControlError{Action: "stop", Program: w.String(), Reason: "its roll-out is paused, and scaling it to 0 and back would change which version runs",
		Do: "kubectl rollout resume it, or undo it, then retry"}
}

func upAgain(w workload, s seen) error {
	if s.want > 0 {
		return &ControlError{Action: "stop", Program: w.String(), Reason: fmt.Sprintf("it was scaled to 0, and %s scaled it to %d", s.scaledBy(), s.want),
			Do: "keep that from doing so (an autoscaler whose minReplicas is 0, KEDA, Argo CD, Flux, a person), then retry"}
	}
	return &ControlError{Action: "stop", Program: w.String(), Reason: strings.TrimSuffix("it was seen stopped and has pods again: "+s.inTheWay(), ": "),
		Do: "find out who starts them and keep that from doing so, then retry"}
}

// errNothingToScale ends a scaling without a change.
var errNothingToScale = errors.New("nothing to scale")

// scale changes a workload's replicas and its remembered number in one request, on the condition that it still is what decide was
// shown. It is shown the next version where somebody was faster.
func (c *cluster) scale(ctx context.Context, action string, w workload, decide func(seen) (replicas int32, remember *string, err error)) error {
	for {
		s, err := c.get(ctx, action, w)
		if err != nil {
			return err
		}
		replicas, remember, err := decide(s)
		if errors.Is(err, errNothingToScale) {
			return nil
		}
		if err != nil {
			return err
		}
		err = c.patch(ctx, w, s, replicas, remember)
		if !apierrors.IsConflict(err) {
			return c.judge(ctx, action, w, "patch", w.resource(), err)
		}
		if err := wait(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// hostname is the pod's name, unless the pod uses its node's network.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
