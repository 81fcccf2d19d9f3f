package appcontrol

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The kinds of workloads, as kubectl and the configuration write them.
const (
	deployment  = "deployment"
	statefulSet = "statefulset"
)

// workload names a deployment or a stateful set.
type workload struct{ kind, name string }

func (w workload) String() string { return w.kind + "/" + w.name }

func (w workload) resource() string { return w.kind + "s" }

// empty is what the API's answer is decoded into.
func (w workload) empty() runtime.Object {
	if w.kind == deployment {
		return &appsv1.Deployment{}
	}
	return &appsv1.StatefulSet{}
}

// seen is what both kinds of workload have in common, with their pods by name.
type seen struct {
	meta     metav1.ObjectMeta
	want     int32 // spec.replicas
	paused   bool
	selector *metav1.LabelSelector
	observed int64 // generation that the workload's controller has acted on
	replicas int32 // pods that it has and that are not being deleted
	inReady  int32
	inUse    int32  // available: ready for as long as minReadySeconds asks
	trouble  string // what keeps the controller from making pods
	pods     map[string]corev1.Pod
}

// reduce takes what matters out of the API's object.
func reduce(o runtime.Object) (seen, bool) {
	var s seen
	switch o := o.(type) {
	case *appsv1.Deployment:
		s = seen{meta: o.ObjectMeta, want: replicasOf(o.Spec.Replicas), paused: o.Spec.Paused, selector: o.Spec.Selector,
			observed: o.Status.ObservedGeneration, replicas: o.Status.Replicas, inReady: o.Status.ReadyReplicas, inUse: o.Status.AvailableReplicas}
		for _, c := range o.Status.Conditions {
			if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
				s.trouble = c.Message
			}
		}
	case *appsv1.StatefulSet:
		s = seen{meta: o.ObjectMeta, want: replicasOf(o.Spec.Replicas), selector: o.Spec.Selector,
			observed: o.Status.ObservedGeneration, replicas: o.Status.Replicas, inReady: o.Status.ReadyReplicas, inUse: o.Status.AvailableReplicas}
	default:
		return seen{}, false
	}
	return s, true
}

// replicasOf knows that 1 is meant where nothing is said.
func replicasOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// alive says whether it has pods, or is to have some.
func (s seen) alive() bool { return s.want > 0 || s.replicas > 0 || len(s.pods) > 0 }

// runs says whether anything of it may still write, or be about to: its controller may not have seen yet that it is to stop.
func (s seen) runs() bool { return s.alive() || s.observed < s.meta.Generation }

// ready says that as many pods as wanted serve, in the eyes of a controller that knows how many are wanted.
func (s seen) ready() bool {
	return s.observed >= s.meta.Generation && s.inReady >= s.want && s.inUse >= s.want
}

// remembered is the number of replicas that the workload had before it was stopped.
func (s seen) remembered(action string, w workload) (int32, bool, error) {
	text, ok := s.meta.Annotations[RememberedReplicas]
	if !ok {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, false, &ControlError{Action: action, Program: w.String(), Reason: fmt.Sprintf("its annotation %s is %q, which is no number of replicas", RememberedReplicas, text),
			Do: "write there how many replicas it had, or scale it by hand and remove the annotation, then retry"}
	}
	return int32(n), true, nil
}

// String is the workload in words like those of kubectl.
func (s seen) String() string {
	if s.meta.Name == "" {
		return ""
	}
	if !s.runs() {
		return "stopped"
	}
	text := fmt.Sprintf("%d of %d ready", s.inReady, s.want)
	if n := len(s.pods); s.want == 0 {
		text = fmt.Sprintf("stopping, %d pods left", n)
	}
	return text
}

// scaledBy names who set the number of replicas last, as the API server's own books have it.
func (s seen) scaledBy() string {
	by, when := "somebody", time.Time{}
	for _, m := range s.meta.ManagedFields {
		var fields struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.Raw, &fields) != nil || fields.Spec.Replicas == nil {
			continue
		}
		if m.Manager != fieldManager && m.Time != nil && !m.Time.Time.Before(when) {
			by, when = m.Manager, m.Time.Time
		}
	}
	return by
}

// named bounds how many pods are named in a sentence.
const named = 5

// inTheWay says of the pods that are left why they are.
func (s seen) inTheWay() string {
	var why []string
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		p := s.pods[name]
		text := fmt.Sprintf("pod %s is %s", name, p.Status.Phase)
		if owner := metav1.GetControllerOf(&p); p.DeletionTimestamp != nil {
			text += ", to end by " + p.DeletionTimestamp.UTC().Format(time.TimeOnly) + " UTC"
		} else if owner != nil {
			text += fmt.Sprintf(" and not asked to end (it is of %s %s)", owner.Kind, owner.Name)
		}
		if p.Spec.NodeName != "" {
			text += " on " + p.Spec.NodeName
		}
		why = append(why, text)
	}
	return strings.Join(why[:min(len(why), named)], "; ")
}

// notReady says of the pods that are not ready what they wait for, in Kubernetes' words.
func (s seen) notReady() string {
	var why []string
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		p := s.pods[name]
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				why = append(why, fmt.Sprintf("pod %s: %s", name, short(c.Message, 200)))
			}
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			switch {
			case c.State.Waiting != nil:
				why = append(why, fmt.Sprintf("pod %s, container %s: %s", name, c.Name, c.State.Waiting.Reason))
			case c.State.Running != nil && !c.Ready:
				why = append(why, fmt.Sprintf("pod %s, container %s runs and is not ready", name, c.Name))
			}
		}
	}
	if len(why) == 0 && s.trouble != "" {
		return short(s.trouble, 200)
	}
	if s.paused {
		why = append(why, "its roll-out is paused")
	}
	return strings.Join(why[:min(len(why), named)], "; ")
}

// over says that a pod's containers have ended for good.
func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
