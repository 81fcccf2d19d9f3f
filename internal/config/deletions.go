package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Deletions says how the documents of an application hang together, so that what somebody deleted by mistake can be found
// and put back. All of it is optional: without it documents are compared by _id alone.
type Deletions struct {
	// Keys are the fields by which the application itself knows its documents, by collection: invoices: invoice_id. A
	// document that was made anew under the same key, in the same organization, is not missing.
	Keys map[string]string `yaml:"keys"`
	// Volatile are collections whose documents come and go by themselves: sessions, caches.
	Volatile   []string    `yaml:"volatile"`
	Dependants []Dependant `yaml:"dependants"`
	References []Reference `yaml:"references"`
	Counters   []Counter   `yaml:"counters"`
	// Resources are the collections of each resource type that audit entries name: invoice: [invoices, invoices_enhanced].
	// The case of letters does not count. A type that is not listed means the collection of that name, or its plural in -s.
	Resources map[string][]string `yaml:"resources"`
	// Actions are those of audit entries that mean a deletion. A * stands for anything, the case of letters does not count.
	// Default: delete, deleted, *.delete, *.deleted, *.removed.
	Actions []string `yaml:"actions"`
	// API is the application's own audit log over HTTP, for what its database does not tell.
	API *AuditAPI `yaml:"api"`
}

// Dependant is a collection whose documents belong to those of another one, and go and come with them.
type Dependant struct {
	Collection string `yaml:"collection"` // invoice_line_items
	Field      string `yaml:"field"`      // of its documents: invoice_id
	Of         string `yaml:"of"`         // the other collection: invoices
	Key        string `yaml:"key"`        // the field there that Field names; default its key, else Field
}

// Reference is a field that names a document of another collection. Both live on their own, but the other one may have
// changed since: a contact's balance.
type Reference struct {
	Collection string `yaml:"collection"` // invoices
	Field      string `yaml:"field"`      // contact_id
	To         string `yaml:"to"`         // contacts
	Key        string `yaml:"key"`        // the field there that Field names; default its key, else Field
}

// Counter is where the application keeps the last number that it gave out.
type Counter struct {
	Collection string            `yaml:"collection"` // sequences
	Match      map[string]string `yaml:"match"`      // what makes a document the counter: kind: INVOICE; {organization} stands for one
	Value      string            `yaml:"value"`      // field of the last number: current_value
	Of         string            `yaml:"of"`         // collection whose documents are numbered: invoices
	Number     string            `yaml:"number"`     // field of the number there: invoice_number
	Pattern    string            `yaml:"pattern"`    // how the number stands in it, as a regular expression with one group; default its last digits
}

// AuditAPI is an audit log that the application serves over HTTP, page by page, newest first.
type AuditAPI struct {
	URL      string   `yaml:"url"`   // http://localhost:8001/api/audit-logs
	Token    Secret   `yaml:"token"` // bearer token; the log of its organization alone is read
	PageSize int      `yaml:"pageSize"`
	Timeout  Duration `yaml:"timeout"` // of one page
}

// AuditFields are the names of an audit entry's fields, where they differ from those that are known: organization_id or
// org_id; user_id; action; resource_type or entity_type; resource_id or entity_id; before_snapshot.
type AuditFields struct {
	Organization string `yaml:"organization"`
	User         string `yaml:"user"`
	Action       string `yaml:"action"`
	Type         string `yaml:"type"`
	ID           string `yaml:"id"`
	Snapshot     string `yaml:"snapshot"` // the whole document as it was before
}

func (d *Deletions) defaults() {
	d.Actions = []string{"delete", "deleted", "*.delete", "*.deleted", "*.removed"}
}

func (c *Counter) defaults() { c.Pattern = `(\d+)\D*$` }

func (a *AuditAPI) defaults() { a.PageSize, a.Timeout = 50, Duration(30*time.Second) }

func (c *checker) deletions(path string, t *Target) {
	d := &t.Deletions
	for collection, field := range d.Keys {
		if strings.TrimSpace(field) == "" {
			c.wrong(path+".keys."+collection, "is empty; expected the field by which the application knows a document, such as invoice_id")
		}
	}
	c.each(path+".volatile", d.Volatile, "the name of a collection")
	for i, one := range d.Dependants {
		at := fmt.Sprintf("%s.dependants[%d]", path, i)
		c.required(at+".collection", one.Collection, "the collection whose documents belong to others, such as invoice_line_items")
		c.required(at+".field", one.Field, "the field that names the other document, such as invoice_id")
		if c.required(at+".of", one.Of, "the collection of the other documents, such as invoices") && one.Of == one.Collection {
			c.wrong(at+".of", "is %q, the collection itself; expected another one", one.Of)
		}
	}
	for i, one := range d.References {
		at := fmt.Sprintf("%s.references[%d]", path, i)
		c.required(at+".collection", one.Collection, "the collection that refers to another one, such as invoices")
		c.required(at+".field", one.Field, "the field that names the other document, such as contact_id")
		c.required(at+".to", one.To, "the collection of the other documents, such as contacts")
	}
	for i := range d.Counters {
		c.counter(fmt.Sprintf("%s.counters[%d]", path, i), &d.Counters[i], t.Tenants.Field)
	}
	for kind, collections := range d.Resources {
		if len(collections) == 0 {
			c.wrong(path+".resources."+kind, "names no collection; expected a list like [invoices, invoices_enhanced]")
		}
		c.each(path+".resources."+kind, collections, "the name of a collection")
	}
	if len(d.Actions) == 0 {
		c.wrong(path+".actions", "is empty; expected the actions that mean a deletion, such as delete")
	}
	c.each(path+".actions", d.Actions, "an action of the audit log, such as delete")
	if a := d.API; a != nil {
		at := path + ".api"
		if c.required(at+".url", a.URL, "an address like http://localhost:8001/api/audit-logs") {
			c.web(at+".url", a.URL, "http://localhost:8001/api/audit-logs")
			if u, err := url.Parse(a.URL); err == nil && u.RawQuery != "" {
				c.wrong(at+".url", "has a query in it; expected an address like http://localhost:8001/api/audit-logs")
			}
		}
		c.secret(at+".token", a.Token, "the bearer token of somebody who may read the audit log")
		c.between(at+".pageSize", int64(a.PageSize), 1, 1000, "a number of entries")
		c.positive(at+".timeout", a.Timeout)
	}
}

func (c *checker) counter(at string, one *Counter, tenant string) {
	c.required(at+".collection", one.Collection, "the collection of the counters, such as sequences")
	c.required(at+".value", one.Value, "the field of the last number, such as current_value")
	c.required(at+".of", one.Of, "the collection whose documents are numbered, such as invoices")
	c.required(at+".number", one.Number, "the field of a document's number, such as invoice_number")
	if re, err := regexp.Compile(one.Pattern); err != nil || re.NumSubexp() != 1 {
		c.wrong(at+".pattern", "is %q; expected a regular expression with one group around the digits, like (\\d+)$", one.Pattern)
	}
	for field, value := range one.Match {
		if strings.Contains(value, Organization) && tenant == "" {
			c.wrong(at+".match."+field, "names %s; expected tenants.field to say which field that is", Organization)
		}
	}
}

// Organization stands for an organization's own value in what makes a document a counter.
const Organization = "{organization}"

// KeyOf returns the field by which documents of a collection are named from elsewhere: the one that was declared for the
// relation, else the collection's own key, else the field that names it there.
func (d *Deletions) KeyOf(collection, declared, field string) string {
	switch {
	case declared != "":
		return declared
	case d.Keys[collection] != "":
		return d.Keys[collection]
	default:
		return field
	}
}
