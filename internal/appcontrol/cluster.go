package appcontrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/battwheels/runbook/internal/config"
)

const (
	// fieldManager is the name under which the cluster keeps what runbook has set.
	fieldManager = "runbook"
	// oneRequest bounds one question to the API server. Watches last until they are ended.
	oneRequest = 30 * time.Second
	// lookAnew is how long a watch that tells nothing is believed: the connection may be dead without anybody noticing.
	lookAnew = 30 * time.Second
	// pause is what is waited before the next look when watches end at once.
	pause = time.Second
)

// namespaceFile tells a pod its own namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// cluster is the part of a Kubernetes API that is used: two kinds of workload, and pods, of one namespace. It is client-go's plain
// REST client, because the typed clients of client-go bring every API of Kubernetes with them.
type cluster struct {
	where     string
	namespace string
	apps      rest.Interface
	core      rest.Interface
	options   runtime.ParameterCodec
	every     time.Duration // lookAnew
	patience  time.Duration // oneRequest
}

// connect makes the client, and says which pod of that namespace the worker runs in, where it runs in one.
func connect(k config.Kubernetes) (*cluster, string, error) {
	var (
		cfg  *rest.Config
		self string
		err  error
	)
	if k.Kubeconfig == "" {
		if cfg, err = rest.InClusterConfig(); err != nil {
			return nil, "", &ControlError{Action: "reach the cluster", Reason: err.Error(),
				Do: "set application.kubernetes.kubeconfig where the worker does not run in the cluster itself"}
		}
		if own, err := os.ReadFile(namespaceFile); err == nil && strings.TrimSpace(string(own)) == k.Namespace {
			self = hostname()
		}
	} else {
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: k.Kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: k.Context}).ClientConfig()
		if err != nil {
			return nil, "", &ControlError{Action: "reach the cluster", Reason: fmt.Sprintf("%s: %v", k.Kubeconfig, err),
				Do: "see that the worker's user may read it, and that application.kubernetes.context stands in it (kubectl config get-contexts)"}
		}
	}
	c, err := newCluster(cfg, k.Namespace)
	if err != nil {
		return nil, "", &ControlError{Action: "reach the cluster", Reason: err.Error(), Do: "mend the credentials or the address in " + orInCluster(k.Kubeconfig)}
	}
	return c, self, nil
}

func orInCluster(kubeconfig string) string {
	if kubeconfig == "" {
		return "the pod's service account"
	}
	return kubeconfig
}

func newCluster(cfg *rest.Config, namespace string) (*cluster, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = fieldManager
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.QPS = -1 // a handful of questions, and the server has its own fairness
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	group := func(path string, version schema.GroupVersion) (rest.Interface, error) {
		of := rest.CopyConfig(cfg)
		of.APIPath, of.GroupVersion = path, &version
		return rest.RESTClientForConfigAndClient(of, client)
	}
	c := &cluster{where: "the Kubernetes API at " + cfg.Host, namespace: namespace, options: runtime.NewParameterCodec(scheme), every: lookAnew, patience: oneRequest}
	if c.apps, err = group("/apis", appsv1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	c.core, err = group("/api", corev1.SchemeGroupVersion)
	return c, err
}

// get reads a workload without its pods.
func (c *cluster) get(ctx context.Context, action string, w workload) (seen, error) {
	bounded, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	o := w.empty()
	err := c.apps.Get().Namespace(c.namespace).Resource(w.resource()).Name(w.name).Do(bounded).Into(o)
	if err != nil {
		return seen{}, c.judge(ctx, action, w, "get", w.resource(), err)
	}
	s, _ := reduce(o)
	return s, nil
}

// look reads a workload, then its pods.
func (c *cluster) look(ctx context.Context, action string, w workload) (seen, error) {
	s, _, err := c.list(ctx, action, w)
	return s, err
}

// list is look, with the version of the pods' list from which they can be watched.
func (c *cluster) list(ctx context.Context, action string, w workload) (seen, string, error) {
	s, err := c.get(ctx, action, w)
	if err != nil {
		return seen{}, "", err
	}
	bounded, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	var pods corev1.PodList
	err = c.core.Get().Namespace(c.namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(s.selector)}, c.options).Do(bounded).Into(&pods)
	if err != nil {
		return seen{}, "", c.judge(ctx, action, w, "list", "pods", err)
	}
	s.pods = map[string]corev1.Pod{}
	for i := range pods.Items {
		s.keep(&pods.Items[i])
	}
	return s, pods.ResourceVersion, nil
}

// keep notes a pod as it is now.
func (s *seen) keep(p *corev1.Pod) {
	if over(p) {
		delete(s.pods, p.Name)
	} else {
		s.pods[p.Name] = *p
	}
}

// patch sets replicas and the remembered number together; the server refuses it as a conflict when the workload is no longer
// the version that was seen.
func (c *cluster) patch(ctx context.Context, w workload, s seen, replicas int32, remember *string) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": s.meta.ResourceVersion, "annotations": map[string]any{RememberedReplicas: remember}},
		"spec":     map[string]any{"replicas": replicas},
	})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	return c.apps.Patch(types.MergePatchType).Namespace(c.namespace).Resource(w.resource()).Name(w.name).
		VersionedParams(&metav1.PatchOptions{FieldManager: fieldManager}, c.options).Body(body).Do(bounded).Error()
}

// follow looks, and again whenever the workload or one of its pods changes, until done says so. It returns what was seen last,
// with an error too.
func (c *cluster) follow(ctx context.Context, action string, w workload, done func(seen) (bool, error)) (seen, error) {
	var last seen
	for {
		s, version, err := c.list(ctx, action, w)
		if err != nil {
			return last, err
		}
		last = s
		begun := time.Now()
		ok, err := c.watch(ctx, action, w, &last, version, done)
		if ok || err != nil {
			return last, err
		}
		// The watches have ended, as they do now and then: what was missed is seen by looking anew.
		if time.Since(begun) < pause {
			if err := wait(ctx, pause); err != nil {
				return last, err
			}
		}
	}
}

// wait returns after d, or with the error of a context that ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// watch keeps s up to date until done says so. It returns false when a watch has ended.
func (c *cluster) watch(ctx context.Context, action string, w workload, s *seen, pods string, done func(seen) (bool, error)) (bool, error) {
	if ok, err := done(*s); ok || err != nil {
		return ok, err
	}
	workloads, err := c.events(ctx, c.apps, w.resource(), metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", w.name).String(), ResourceVersion: s.meta.ResourceVersion})
	if err != nil {
		return false, c.judgeWatch(ctx, action, w, w.resource(), err)
	}
	defer workloads.Stop()
	changes, err := c.events(ctx, c.core, "pods", metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(s.selector), ResourceVersion: pods})
	if err != nil {
		return false, c.judgeWatch(ctx, action, w, "pods", err)
	}
	defer changes.Stop()
	silent := time.NewTimer(c.every)
	defer silent.Stop()
	for {
		var e watch.Event
		var open bool
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-silent.C:
			return false, nil
		case e, open = <-workloads.ResultChan():
		case e, open = <-changes.ResultChan():
		}
		if !open || e.Type == watch.Error {
			return false, ctx.Err()
		}
		switch o := e.Object.(type) {
		case *corev1.Pod:
			if e.Type == watch.Deleted {
				delete(s.pods, o.Name)
			} else {
				s.keep(o)
			}
		default:
			now, ok := reduce(o)
			if !ok || e.Type == watch.Deleted {
				return false, nil
			}
			now.pods = s.pods
			*s = now
		}
		if ok, err := done(*s); ok || err != nil {
			return ok, err
		}
	}
}

func (c *cluster) events(ctx context.Context, of rest.Interface, resource string, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return of.Get().Namespace(c.namespace).Resource(resource).VersionedParams(&o, c.options).Watch(ctx)
}

// judgeWatch tells what keeps a watch from beginning for good from what the next look shows better.
func (c *cluster) judgeWatch(ctx context.Context, action string, w workload, resource string, err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return nil
	}
	return c.judge(ctx, action, w, "watch", resource, err)
}

// judge tells a failure that a person must mend from one that may pass.
func (c *cluster) judge(ctx context.Context, action string, w workload, verb, resource string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		// Of the one request: it must not be taken for the end of the whole wait.
		err = fmt.Errorf("nothing within %s", c.patience)
	}
	e := &ControlError{Action: action, Program: w.String(), Reason: err.Error()}
	status, answered := errors.AsType[*apierrors.StatusError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), fmt.Sprintf("cannot %s resource", verb)):
		group := `""`
		if resource != "pods" {
			group = appsv1.GroupName
		}
		e.Do = fmt.Sprintf("allow runbook's account the verb %s on resource %s (API group %s) in namespace %s, as deploy/kubernetes/role.yaml does", verb, resource, group, c.namespace)
	case apierrors.IsForbidden(err):
		e.Do = "a rule of the cluster refuses it: see which one, and except runbook's account from it"
	case apierrors.IsUnauthorized(err):
		e.Do = "give the worker credentials that the cluster knows: a service account that exists, or another kubeconfig"
	case apierrors.IsNotFound(err):
		e.Reason = fmt.Sprintf("namespace %s has no %s named %s", c.namespace, w.kind, w.name)
		e.Do = fmt.Sprintf("correct application.kubernetes: kubectl --namespace %s get %s lists those that are there", c.namespace, w.resource())
	case untrusted:
		e.Do = "give the kubeconfig the certificate authority of the cluster"
	case answered && status.ErrStatus.Code >= 400 && status.ErrStatus.Code < 500 && !apierrors.IsTooManyRequests(err) && !apierrors.IsTimeout(err):
		e.Do = "the cluster refuses the request itself: see its message"
	default:
		return &UnavailableError{Action: action + " " + w.String(), Where: c.where, Err: err}
	}
	return e
}
