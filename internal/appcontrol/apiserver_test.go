package appcontrol

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/battwheels/runbook/internal/config"
)

// apiServer stands in for a cluster, over a socket: the part of the Kubernetes API that the real client-go uses for two kinds of
// workload and their pods, with versions, preconditions, watches, and the Role of deploy/kubernetes/ as its RBAC. No controller runs
// in it unless a test plays one: by default a scaled workload has its pods at once.
type apiServer struct {
	t    *testing.T
	http *httptest.Server
	// onScale plays the controllers after a workload's replicas were patched. It runs unlocked.
	onScale func(w workload, replicas int32)
	// fault, where set, answers a request instead, unless it returns nil.
	fault func(a access) *metav1.Status

	mu        sync.Mutex
	changed   chan struct{} // closed at every change
	dropped   chan struct{} // closed when all watches are dropped
	version   int
	compacted int // versions before this one can no longer be watched
	objects   map[string]map[string]runtime.Object
	events    []event
	rules     []rbacv1.PolicyRule
	used      []access
	patches   []string // "deployment/backend 3→0"
}

// access is a request as RBAC sees it.
type access struct{ verb, group, resource, name string }

func (a access) String() string { return strings.TrimSpace(a.verb + " " + a.resource + " " + a.name) }

type event struct {
	version  int
	resource string
	Type     string         `json:"type"`
	Object   runtime.Object `json:"object"`
}

const testNamespace = "shop"

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{t: t, changed: make(chan struct{}), dropped: make(chan struct{}), version: 100,
		objects: map[string]map[string]runtime.Object{"deployments": {}, "statefulsets": {}, "pods": {}}, rules: deployedRole(t).Rules}
	s.onScale = s.settle
	s.http = httptest.NewServer(s)
	t.Cleanup(s.http.Close)
	return s
}

// deployedRole is the Role that deploy/kubernetes/ gives to runbook.
func deployedRole(t *testing.T) rbacv1.Role {
	t.Helper()
	b, err := os.ReadFile("../../deploy/kubernetes/role.yaml")
	require.NoError(t, err)
	var role rbacv1.Role
	require.NoError(t, yaml.UnmarshalStrict(b, &role))
	return role
}

// controller is the real controller against this server, by a kubeconfig, for deployment/backend and then statefulset/worker.
func (s *apiServer) controller(workloads ...string) *kubernetes {
	s.t.Helper()
	if len(workloads) == 0 {
		workloads = []string{"deployment/backend", "statefulset/worker"}
	}
	file := filepath.Join(s.t.TempDir(), "kubeconfig")
	require.NoError(s.t, os.WriteFile(file, fmt.Appendf(nil, `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: other, context: {cluster: gone, user: u}}, {name: here, context: {cluster: c, user: u}}]
current-context: other
`, s.http.URL), 0o600))
	c, err := New(config.Application{Kubernetes: &config.Kubernetes{Namespace: testNamespace, Workloads: workloads, Kubeconfig: file, Context: "here"}})
	require.NoError(s.t, err)
	return c.(*kubernetes)
}

// allowed is RBAC: one rule must have all of it.
func (s *apiServer) allowed(a access) bool {
	return slices.ContainsFunc(s.rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, a.verb) && slices.Contains(r.APIGroups, a.group) && slices.Contains(r.Resources, a.resource) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.name))
	})
}

func (s *apiServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	a, ok := accessOf(r)
	if !ok {
		s.t.Errorf("a request that no part of the Kubernetes API takes: %s %s", r.Method, r.URL)
		s.fail(rw, status(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource"))
		return
	}
	s.mu.Lock()
	s.used = append(s.used, a)
	fault, allowed := s.fault, s.allowed(a)
	s.mu.Unlock()
	if !allowed {
		s.fail(rw, status(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf(
			`%s %q is forbidden: User "system:serviceaccount:shop:runbook" cannot %s resource %q in API group %q in the namespace %q`,
			a.resource, a.name, a.verb, a.resource, a.group, testNamespace)))
		return
	}
	if fault != nil {
		if f := fault(a); f != nil {
			s.fail(rw, *f)
			return
		}
	}
	switch a.verb {
	case "get":
		s.get(rw, a)
	case "list":
		s.list(rw, r, a)
	case "watch":
		s.watch(rw, r, a)
	case "patch":
		s.patch(rw, r, a)
	}
}

// accessOf reads a request as the API server does, the name of a watched object from the field selector included.
func accessOf(r *http.Request) (access, bool) {
	var a access
	rest, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/"+testNamespace+"/")
	if !ok {
		if rest, ok = strings.CutPrefix(r.URL.Path, "/apis/apps/v1/namespaces/"+testNamespace+"/"); !ok {
			return a, false
		}
		a.group = "apps"
	}
	a.resource, a.name, _ = strings.Cut(rest, "/")
	if field, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="); ok {
		a.name = field
	}
	switch {
	case r.Method == http.MethodPatch && a.name != "":
		a.verb = "patch"
	case r.Method != http.MethodGet:
	case r.URL.Query().Get("watch") == "true":
		a.verb = "watch"
	case a.name != "":
		a.verb = "get"
	default:
		a.verb = "list"
	}
	return a, a.verb != ""
}

func (s *apiServer) get(rw http.ResponseWriter, a access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[a.resource][a.name]
	if !ok {
		s.fail(rw, status(http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s.%s %q not found", a.resource, a.group, a.name)))
		return
	}
	s.answer(rw, http.StatusOK, o)
}

func (s *apiServer) list(rw http.ResponseWriter, r *http.Request, a access) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil || selector.Empty() || a.resource != "pods" {
		s.fail(rw, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, "only pods with a selector are listed here"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	for _, o := range s.objects["pods"] {
		if p := o.(*corev1.Pod); selector.Matches(labels.Set(p.Labels)) {
			l.Items = append(l.Items, *p)
		}
	}
	s.answer(rw, http.StatusOK, l)
}

func (s *apiServer) watch(rw http.ResponseWriter, r *http.Request, a access) {
	since, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	selector, badSelector := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil || badSelector != nil {
		s.fail(rw, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, "a watch needs a version to begin at"))
		return
	}
	s.mu.Lock()
	old, dropped := since < s.compacted, s.dropped
	s.mu.Unlock()
	if old {
		s.fail(rw, status(http.StatusGone, metav1.StatusReasonExpired, fmt.Sprintf("too old resource version: %d", since)))
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(rw)
	for {
		_ = flush.Flush()
		s.mu.Lock()
		var news []event
		for _, e := range s.events {
			meta := e.Object.(metav1.Object)
			if e.version > since && e.resource == a.resource && (a.name == "" || a.name == meta.GetName()) && selector.Matches(labels.Set(meta.GetLabels())) {
				news = append(news, e)
			}
		}
		since = s.version
		changed := s.changed
		s.mu.Unlock()
		for _, e := range news {
			_ = json.NewEncoder(rw).Encode(e)
		}
		_ = flush.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-dropped:
			return
		case <-changed:
		}
	}
}

// patch applies a merge patch, on the condition of the version in it.
func (s *apiServer) patch(rw http.ResponseWriter, r *http.Request, a access) {
	body, err := io.ReadAll(r.Body)
	var p struct {
		Metadata struct {
			ResourceVersion string             `json:"resourceVersion"`
			Annotations     map[string]*string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			Replicas *int32 `json:"replicas"`
		} `json:"spec"`
	}
	if err != nil || json.Unmarshal(body, &p) != nil || p.Spec.Replicas == nil || r.Header.Get("Content-Type") != "application/merge-patch+json" {
		s.fail(rw, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, "the patch is none: "+string(body)))
		return
	}
	w := workload{strings.TrimSuffix(a.resource, "s"), a.name}
	s.mu.Lock()
	o := s.objects[a.resource][a.name].DeepCopyObject()
	meta := o.(metav1.Object)
	if p.Metadata.ResourceVersion != meta.GetResourceVersion() {
		s.mu.Unlock()
		s.fail(rw, status(http.StatusConflict, metav1.StatusReasonConflict, fmt.Sprintf(
			"Operation cannot be fulfilled on %s.apps %q: the object has been modified; please apply your changes to the latest version and try again", a.resource, a.name)))
		return
	}
	before, _ := reduce(o)
	notes := map[string]string{}
	for k, v := range meta.GetAnnotations() {
		notes[k] = v
	}
	for k, v := range p.Metadata.Annotations {
		if v == nil {
			delete(notes, k)
		} else {
			notes[k] = *v
		}
	}
	meta.SetAnnotations(notes)
	scaleObject(o, *p.Spec.Replicas)
	s.put("MODIFIED", a.resource, o)
	s.patches = append(s.patches, fmt.Sprintf("%s %d→%d", w, before.want, *p.Spec.Replicas))
	if _, ok := notes[RememberedReplicas]; ok != (*p.Spec.Replicas == 0) {
		s.t.Errorf("%s has %d replicas and the annotations %v: a worker that is killed now leaves it without its number, or with a stale one", w, *p.Spec.Replicas, notes)
	}
	onScale := s.onScale
	s.answer(rw, http.StatusOK, o)
	s.mu.Unlock()
	onScale(w, *p.Spec.Replicas)
}

func status(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}
}

func (s *apiServer) fail(rw http.ResponseWriter, st metav1.Status) { s.answer(rw, int(st.Code), st) }

func (s *apiServer) answer(rw http.ResponseWriter, code int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(code)
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		s.t.Errorf("answer: %v", err)
	}
}
