package appcontrol

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// has adds a workload that runs with so many ready pods.
func (s *apiServer) has(w workload, replicas int32) {
	meta := metav1.ObjectMeta{Name: w.name, Namespace: testNamespace, Generation: 1}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": w.name}}
	s.mu.Lock()
	if w.kind == deployment {
		s.put("ADDED", w.resource(), &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector}})
	} else {
		s.put("ADDED", w.resource(), &appsv1.StatefulSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"}, ObjectMeta: meta,
			Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: selector}})
	}
	s.mu.Unlock()
	s.settle(w, replicas)
}

// settle plays the controllers: the workload has as many pods as wanted, all ready, and knows it.
func (s *apiServer) settle(w workload, replicas int32) {
	for i := range max(replicas, int32(len(s.podsOf(w)))) {
		name := fmt.Sprintf("%s-%d", w.name, i)
		if i < replicas {
			s.pod(w, name, nil)
		} else {
			s.deletePod(name)
		}
	}
	s.status(w, replicas, replicas)
}

// status has the workload's controller write what it sees.
func (s *apiServer) status(w workload, replicas, ready int32) {
	s.edit(w, func(o runtime.Object) {
		switch o := o.(type) {
		case *appsv1.Deployment:
			o.Status.ObservedGeneration, o.Status.Replicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas = o.Generation, replicas, ready, ready
		case *appsv1.StatefulSet:
			o.Status.ObservedGeneration, o.Status.Replicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas = o.Generation, replicas, ready, ready
		}
	})
}

// pod adds or replaces a pod of a workload; change may make it something else than ready.
func (s *apiServer) pod(w workload, name string, change func(*corev1.Pod)) {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: testNamespace, Labels: map[string]string{"app": w.name}},
		Spec:       corev1.PodSpec{NodeName: "node-1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	if change != nil {
		change(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "ADDED"
	if s.objects["pods"][name] != nil {
		kind = "MODIFIED"
	}
	s.put(kind, "pods", p)
}

// terminating is a pod that was asked to end and has not yet.
func terminating(p *corev1.Pod) {
	p.DeletionTimestamp = &metav1.Time{Time: time.Date(2026, 2, 24, 3, 12, 30, 0, time.UTC)}
}

func (s *apiServer) deletePod(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.objects["pods"][name]; p != nil {
		s.put("DELETED", "pods", p.DeepCopyObject())
		delete(s.objects["pods"], name)
	}
}

func (s *apiServer) podsOf(w workload) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, p := range s.objects["pods"] {
		if p.(*corev1.Pod).Labels["app"] == w.name {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// edit changes a workload as somebody else does it, which makes a new version of it.
func (s *apiServer) edit(w workload, change func(runtime.Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[w.resource()][w.name].DeepCopyObject()
	change(o)
	s.put("MODIFIED", w.resource(), o)
}

// scaledElsewhere is another client that scales a workload.
func (s *apiServer) scaledElsewhere(by string, w workload, replicas int32) {
	s.edit(w, func(o runtime.Object) {
		scaleObject(o, replicas)
		now := metav1.Now()
		meta := o.(metav1.Object)
		meta.SetManagedFields(append(meta.GetManagedFields(), metav1.ManagedFieldsEntry{
			Manager: by, Time: &now, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:replicas":{}}}`)}}))
	})
}

func scaleObject(o runtime.Object, replicas int32) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = &replicas
		o.Generation++
	case *appsv1.StatefulSet:
		o.Spec.Replicas = &replicas
		o.Generation++
	}
}

// now is the workload as the server has it: replicas wanted, and the remembered number.
func (s *apiServer) now(w workload) (int32, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[w.resource()][w.name]
	n, _ := reduce(o)
	return n.want, o.(metav1.Object).GetAnnotations()[RememberedReplicas]
}

func (s *apiServer) changes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.patches)
}

func (s *apiServer) requests(verb, resource string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.used {
		if a.verb == verb && a.resource == resource {
			n++
		}
	}
	return n
}

// dropWatches ends every watch, and forgets the versions from before.
func (s *apiServer) dropWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.compacted = s.version
	close(s.dropped)
	s.dropped = make(chan struct{})
}

// put stores an object as the next version. The caller holds mu.
func (s *apiServer) put(kind, resource string, o runtime.Object) {
	s.version++
	meta := o.(metav1.Object)
	meta.SetResourceVersion(strconv.Itoa(s.version))
	s.objects[resource][meta.GetName()] = o
	s.events = append(s.events, event{s.version, resource, kind, o.DeepCopyObject()})
	close(s.changed)
	s.changed = make(chan struct{})
}
