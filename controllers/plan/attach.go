package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// Attached is a VirtualService of the user's that carries the weights. Sluice writes the destinations of its routes to the host, and
// nothing else of it.
type Attached struct {
	// Name is its name. Routes are the names of the HTTP routes that are written, TCP and TLS those that have no names by what they match: every
	// route to the host where there are none.
	Name   string                      `json:"virtualService"`
	Routes []string                    `json:"routes,omitempty"`
	TCP    []v1alpha1.AttachedTCPRoute `json:"tcp,omitempty"`
	TLS    []v1alpha1.AttachedTLSRoute `json:"tls,omitempty"`
	// Namespace is where it is, where that is not the shift's own. Withheld says that it does not let the shift's write its weights.
	Namespace string `json:"namespace,omitempty"`
	Withheld  bool   `json:"-"`
	// Was is what each route said before it was written, by the route's key, where that was anything.
	Was map[string]Origin `json:"was,omitempty"`
	// Untouched is whether Sluice has never written it: subsets that are named as versions are somebody else's then.
	Untouched bool `json:"-"`
	// Several is whether it is one of several.
	Several bool `json:"-"`
	// Object is the VirtualService as read in this pass, with whatever fields Istio may have by now; nil where there is none, and where
	// Unread says that nobody knows.
	Object *unstructured.Unstructured `json:"-"`
	Unread error                      `json:"-"`
}

// Origin is what a destination of the user's said of what Sluice writes.
type Origin struct {
	Subset string `json:"subset,omitempty"`
	Weight *int64 `json:"weight,omitempty"`
}

// Same reports whether two name the same VirtualService.
func (a Attached) Same(b *Attached) bool { return a.Name == b.Name && a.Namespace == b.Namespace }

// FullName is its name, with its namespace where that is not the shift's own.
func (a Attached) FullName() string {
	if a.Namespace == "" {
		return a.Name
	}
	return a.Namespace + "/" + a.Name
}

// Equal reports whether they name the same routes of it too.
func (a Attached) Equal(b *Attached) bool {
	return a.Same(b) && slices.Equal(a.asked(), b.asked())
}

// asked are the routes that the spec names, in whichever order.
func (a Attached) asked() []string {
	var asked []string
	for _, name := range a.Routes {
		asked = append(asked, "route "+name)
	}
	for _, route := range a.TCP {
		asked = append(asked, fmt.Sprintf("tcp route of port %d", route.Port))
	}
	for _, route := range a.TLS {
		route.SNIHosts = slices.Sorted(slices.Values(route.SNIHosts))
		asked = append(asked, tlsAsked(route))
	}
	slices.Sort(asked)
	return asked
}

// String is for people.
func (a Attached) String() string {
	if asked := a.asked(); len(asked) > 0 {
		return fmt.Sprintf("%s of VirtualService %s", strings.Join(asked, ", "), a.FullName())
	}
	return "VirtualService " + a.FullName()
}

// ReadAttached reads what our DestinationRule says of the VirtualServices that the service was attached to when it was taken over; none
// where it was not. One is an object, and several are a list of such.
func ReadAttached(rule metav1.Object) []*Attached {
	text := []byte(rule.GetAnnotations()[v1alpha1.AnnotationAttached])
	var all []*Attached
	if one := (&Attached{}); json.Unmarshal(text, one) == nil {
		all = append(all, one)
	} else if json.Unmarshal(text, &all) != nil {
		return nil
	}
	all = slices.DeleteFunc(all, func(a *Attached) bool { return a == nil || a.Name == "" })
	for _, a := range all {
		a.Several = len(all) > 1
	}
	return all
}

// record is what ReadAttached reads.
func (s Scope) record() string {
	var all []Attached
	for _, a := range s.Attached {
		all = append(all, a.recorded(s.Host))
	}
	var record any = all
	if len(all) == 1 {
		record = all[0]
	}
	raw, _ := json.Marshal(record) // strings and numbers always marshal
	return string(raw)
}

// recorded is what is remembered of one: the routes that Sluice has not written yet are as the user wrote them.
func (a Attached) recorded(host string) Attached {
	next := a
	next.Was = map[string]Origin{}
	for _, i := range a.selected(host) {
		key := a.key(i)
		switch first := a.destination(i, 0); {
		case shift.Number(subsetOf(first)) == 0:
			next.Was[key] = originOf(first)
		default:
			next.Was[key] = a.Was[key]
		}
		if next.Was[key] == (Origin{}) {
			delete(next.Was, key)
		}
	}
	if a.Object == nil {
		next.Was = a.Was
	}
	return next
}

// attach writes the weights into the user's VirtualServices, or gives them back. None waits for another: they are steps of one group.
func (s Scope) attach(d shift.Desired) []Step {
	var steps []Step
	for _, a := range s.Attached {
		steps = append(steps, s.attachTo(a, d)...)
	}
	return steps
}

// attachTo leaves one that is gone alone, and so one whose owner does not let us write it and that says nothing of ours; what stands there of
// ours follows the way back, or would lead to nothing in the end. It asks for one that could not be read: that step fails, and with it whatever would take a
// subset or a pod from under routes that nobody knows.
func (s Scope) attachTo(a *Attached, d shift.Desired) []Step {
	switch {
	case a.Unread != nil && (d.Unroute || d.Bare || len(d.Routes) > 0):
		return []Step{{Adjust, a.unknown(s.Template.Namespace)}}
	case a.Object == nil:
		return nil
	case a.Withheld && !a.OursIn(s.Host):
		return nil
	case d.Unroute, d.Bare && a.Withheld: // without a version of ours it is not touched again
		return []Step{{Adjust, a.with(s.Host, nil)}, {Forget, a.Object.DeepCopy()}}
	case d.Bare:
		return []Step{{Adjust, a.with(s.Host, nil)}}
	case len(d.Routes) > 0:
		return []Step{{Adjust, a.with(s.Host, d.Routes)}}
	}
	return nil
}

// unknown stands for a VirtualService that could not be read.
func (a Attached) unknown(namespace string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(virtualServiceType.GroupVersionKind())
	u.SetNamespace(cmp.Or(a.Namespace, namespace))
	u.SetName(a.Name)
	return u
}

// OursIn reports whether any route of it names a version of ours.
func (a Attached) OursIn(host string) bool { return len(a.Table(host, nil).Routes) > 0 }

// Bare is the VirtualService as it was before Sluice wrote it.
func (a Attached) Bare(host string) *unstructured.Unstructured { return a.with(host, nil) }

// with is the VirtualService with other destinations: those of routes, or, where there are none, those that it had.
func (a Attached) with(host string, routes []shift.Route) *unstructured.Unstructured {
	next := a
	next.Object = a.Object.DeepCopy()
	for _, i := range a.selected(host) {
		first := a.destination(i, 0)
		if len(routes) == 0 && (a.Untouched || shift.Number(subsetOf(first)) == 0) {
			continue // it is as its owner wrote it
		}
		next.route(i)["route"] = destinationsFrom(first, a.Was[a.key(i)], routes)
	}
	next.mendStrays(host, routes)
	return next.Object
}

// mendStrays sends what still names a version to the one that most of the traffic is for; handed back, it names none.
func (a Attached) mendStrays(host string, routes []shift.Route) {
	most := shift.Route{}
	for _, r := range routes {
		if r.Weight > most.Weight {
			most = r
		}
	}
	a.eachStray(host, func(to map[string]any) {
		delete(to, "subset")
		if most.Version != "" {
			to["subset"] = most.Version
		}
	})
}

// destinationsFrom makes destinations that are the user's own but for subset and weight: its port, as it was written or not, and its
// headers stay. A single destination gets everything whatever its weight says (W2), so it keeps the one that it had.
func destinationsFrom(first map[string]any, was Origin, routes []shift.Route) []any {
	if len(routes) == 0 {
		return []any{destinationFrom(first, was.Subset, was.Weight)}
	}
	if len(routes) == 1 {
		return []any{destinationFrom(first, routes[0].Version, was.Weight)}
	}
	unit := unitOf(routes)
	var destinations []any
	for _, r := range routes {
		weight := int64(r.Weight / unit)
		destinations = append(destinations, destinationFrom(first, r.Version, &weight))
	}
	return destinations
}

func destinationFrom(first map[string]any, subset string, weight *int64) map[string]any {
	d := (&unstructured.Unstructured{Object: first}).DeepCopy().Object
	delete(d, "weight")
	if weight != nil {
		d["weight"] = *weight
	}
	if to, ok := d["destination"].(map[string]any); ok {
		delete(to, "subset")
		if subset != "" {
			to["subset"] = subset
		}
	}
	return d
}

// Unfit says why the weights cannot be written into the VirtualService, and what to do about it; empty where they can.
func (a Attached) Unfit(host, service string) string {
	at := a.at()
	switch {
	case a.Unread != nil:
		return fmt.Sprintf("%s cannot be read, so that nobody knows what it routes: %v", at, a.Unread)
	case a.Object == nil && a.Several:
		return at + " does not exist in this namespace; create it, or leave it out before the service is taken over"
	case a.Object == nil:
		return at + " does not exist in this namespace; create it, or leave routing.virtualService out, and Sluice makes one"
	}
	if hosts, _, _ := unstructured.NestedSlice(a.Object.Object, "spec", "hosts"); len(hosts) == 0 {
		return at + " is a delegate, without hosts of its own; attach to a VirtualService that has some, or let Sluice make the delegate with routing.delegate: true"
	}
	if missing := a.missing(); len(missing) > 0 {
		return fmt.Sprintf("%s has no %s; its routes: %s", at, strings.Join(missing, " and no "), strings.Join(a.names(), ", "))
	}
	for _, i := range a.chosen(host) {
		if why := a.unfitRoute(i, host, service); why != "" {
			return fmt.Sprintf("%s: route %s %s", at, a.key(i), why)
		}
	}
	if len(a.selected(host)) == 0 {
		return fmt.Sprintf("%s has no route to %s; its routes: %s", at, service, strings.Join(a.names(), ", "))
	}
	return a.unfitRest(at, host, service)
}

// NotAllowed says what to do about one that does not let the shift's namespace write its weights. One that is not there is told in the same words:
// who may not write to a namespace is not told what is in it.
func (a Attached) NotAllowed(namespace string) string {
	return fmt.Sprintf("%s does not let shifts of namespace %s write its weights, or does not exist; its owner lets them with kubectl -n %s annotate virtualservice %s %s=%s",
		a.at(), namespace, a.Namespace, a.Name, v1alpha1.AnnotationAllowedNamespaces, namespace)
}

// at is where the spec names it.
func (a Attached) at() string {
	if a.Several {
		return fmt.Sprintf("routing.virtualServices: %q", a.FullName())
	}
	return fmt.Sprintf("routing.virtualService: %q", a.FullName())
}

// unfitRoute says why one route cannot carry the weights.
func (a Attached) unfitRoute(i int, host, service string) string {
	route := a.route(i)
	for _, other := range []string{"redirect", "directResponse", "delegate"} {
		if route[other] != nil {
			return fmt.Sprintf("has a %s: only routes with destinations have weights; name another", other)
		}
	}
	ours, users := 0, 0
	for j := range a.destinations(i) {
		d := a.destination(i, j)
		switch {
		case !a.sameHost(hostOf(d), host):
			return fmt.Sprintf("sends %s to %q as well as, or in place of, %s; give the %s for %s a route of their own", a.carries(i), hostOf(d), service, a.carries(i), service)
		case shift.Number(subsetOf(d)) > 0 && a.Untouched:
			return fmt.Sprintf("names subset %q, which is what a version of Sluice's is called; give that subset another name", subsetOf(d))
		case shift.Number(subsetOf(d)) > 0:
			ours++
		default:
			users++
		}
	}
	if users > 1 && ours == 0 {
		return "has several destinations; leave one, whose pods are all of the service's"
	}
	return ""
}

// unfitRest finds what else of the VirtualService leads to the service: it would reach every version, whatever the weights.
func (a Attached) unfitRest(at, host, service string) string {
	chosen := a.chosen(host)
	for i := range a.count() {
		for j := range a.destinations(i) {
			if a.sameHost(hostOf(a.destination(i, j)), host) && !slices.Contains(chosen, i) {
				return fmt.Sprintf("%s: route %s sends %s to %s too, past the weights; name it as well, or leave routes, tcp and tls out to write all of them", at, a.key(i), a.carries(i), service)
			}
		}
	}
	return ""
}

// Table reads the weights back. A route that names the service without a version of Sluice's, because it was not written yet or its
// owner wrote it again, says nothing of them: it is written.
//
// One that could not be read may send nearly everything to any version that has a subset: it counts neither as carrying a weight nor as
// rid of a version.
func (a Attached) Table(host string, subsets []string) shift.Table {
	t := shift.Table{Name: a.FullName(), Unread: a.Unread != nil, Bare: a.Unread == nil}
	switch {
	case a.Unread != nil:
		for _, version := range subsets {
			t.Routes = append(t.Routes, shift.Route{Version: version, Weight: v1alpha1.Whole - 1})
		}
		return t
	case a.Object == nil:
		return t
	}
	for _, i := range a.selected(host) {
		read := a.weights(i)
		switch {
		case len(read) == 0:
		case !t.Exists:
			t.Routes, t.Exists, t.Bare = read, true, false
		default:
			Lower(t.Routes, read)
		}
	}
	for _, version := range a.strays(host) {
		t.Bare = false
		if !slices.ContainsFunc(t.Routes, func(r shift.Route) bool { return r.Version == version }) {
			t.Routes = append(t.Routes, shift.Route{Version: version, Weight: 1}) // at least: it must not be taken for gone
		}
	}
	return t
}

// strays are the versions that routes name which cannot carry the weights any more, because their owner has changed them since.
func (a Attached) strays(host string) []string {
	var versions []string
	a.eachStray(host, func(to map[string]any) {
		if subset, _ := to["subset"].(string); !slices.Contains(versions, subset) {
			versions = append(versions, subset)
		}
	})
	slices.Sort(versions)
	return versions
}

// eachStray visits the destinations of the host that name a version of ours in routes that are not written otherwise.
func (a Attached) eachStray(host string, visit func(destination map[string]any)) {
	selected := a.selected(host)
	for i := range a.count() {
		for j := range a.destinations(i) {
			d := a.destination(i, j)
			if to, ok := d["destination"].(map[string]any); ok && !a.Untouched && !slices.Contains(selected, i) && a.sameHost(hostOf(d), host) && shift.Number(subsetOf(d)) > 0 {
				visit(to)
			}
		}
	}
}

// weights reads one route in thousandths; nothing where it names no version.
func (a Attached) weights(i int) []shift.Route {
	if a.Untouched {
		return nil
	}
	var read []Weighted
	for j := range a.destinations(i) {
		d := a.destination(i, j)
		if shift.Number(subsetOf(d)) == 0 {
			return nil
		}
		read = append(read, Weighted{subsetOf(d), weightIn(d)})
	}
	return RoutesOf(read)
}

// chosen are the routes that are to be written: the named ones, or those with a destination of the host.
func (a Attached) chosen(host string) []int {
	var chosen []int
	everything := len(a.Routes)+len(a.TCP)+len(a.TLS) == 0
	for i := range a.count() {
		to := slices.ContainsFunc(a.destinations(i), func(d any) bool {
			m, _ := d.(map[string]any)
			return a.sameHost(hostOf(m), host)
		})
		if a.named(i) || everything && to {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// selected are those of them that can be: what goes elsewhere is never touched.
func (a Attached) selected(host string) []int {
	return slices.DeleteFunc(a.chosen(host), func(i int) bool {
		return len(a.destinations(i)) == 0 || a.unfitRoute(i, host, "") != ""
	})
}

func (a Attached) names() []string {
	var names []string
	for i := range a.count() {
		names = append(names, a.key(i))
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

func (a Attached) route(i int) map[string]any { return a.one(i).fields }

func (a Attached) destinations(i int) []any {
	all, _ := a.route(i)["route"].([]any)
	return all
}

func (a Attached) destination(i, j int) map[string]any {
	d, _ := a.destinations(i)[j].(map[string]any)
	return d
}

func hostOf(destination map[string]any) string {
	to, _ := destination["destination"].(map[string]any)
	host, _ := to["host"].(string)
	return host
}

func subsetOf(destination map[string]any) string {
	to, _ := destination["destination"].(map[string]any)
	subset, _ := to["subset"].(string)
	return subset
}

func weightIn(destination map[string]any) int64 {
	weight, _ := destination["weight"].(int64)
	return weight
}

func originOf(destination map[string]any) Origin {
	o := Origin{Subset: subsetOf(destination)}
	if weight, ok := destination["weight"].(int64); ok {
		o.Weight = &weight
	}
	return o
}

// sameHost resolves a host as Istio does: a name without dots is of the VirtualService's own namespace (rule V1).
func (a Attached) sameHost(host, full string) bool {
	name, _, _ := strings.Cut(full, ".")
	return host == full || host == name && name != "" && a.Namespace == ""
}

// DelegatesTo reports whether a VirtualService hands a route over to another one.
func DelegatesTo(root *networkingv1.VirtualService, namespace, name string) bool {
	for _, http := range root.Spec.GetHttp() {
		if d := http.GetDelegate(); d.GetName() == name && (d.GetNamespace() == namespace || d.GetNamespace() == "" && root.Namespace == namespace) {
			return true
		}
	}
	return false
}
