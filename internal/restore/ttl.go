package restore

import (
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// expiry is a rule by which the server deletes documents on its own: a TTL index, or a clustered collection's. The
// partial filter of a TTL index is not looked at: a document may count as expired that the filter would have kept.
type expiry struct {
	field string
	after time.Duration
}

// longestExpiry is what servers take for "never".
const longestExpiry = time.Duration(1<<31-1) * time.Second

// expiriesOf returns the rules that hold in a collection.
func expiriesOf(options bson.Raw, specs []indexSpec) []expiry {
	var rules []expiry
	add := func(field string, seconds bson.RawValue) {
		after := longestExpiry
		if n := number(seconds); n >= 0 && n < longestExpiry.Seconds() {
			after = time.Duration(n * float64(time.Second))
		}
		rules = append(rules, expiry{field, after})
	}
	for _, s := range specs {
		key, ok := s.get("key").DocumentOK()
		if !ok || !s.ttl() {
			continue
		}
		// Only indexes of one field expire anything.
		if elements, err := key.Elements(); err == nil && len(elements) == 1 {
			add(elements[0].Key(), s.get("expireAfterSeconds"))
		}
	}
	if seconds, err := options.LookupErr("expireAfterSeconds"); err == nil {
		if _, err := options.LookupErr("clusteredIndex"); err == nil {
			add("_id", seconds)
		}
	}
	return rules
}

// expiriesIn returns the rules that hold in a collection of a backup. Its TTL indexes may not be built yet.
func expiriesIn(c *backup.Collection, withoutTTL bool) ([]expiry, error) {
	var specs []indexSpec
	if !withoutTTL {
		var err error
		if specs, err = specsOf(c.Indexes); err != nil {
			return nil, err
		}
	}
	options, err := backup.ToBSON(c.Options)
	if err != nil {
		return nil, err
	}
	return expiriesOf(options, specs), nil
}

// expires returns when the earliest of the rules lets the server delete a document. ok is false where none ever does.
func expires(doc bson.Raw, rules []expiry) (at time.Time, ok bool) {
	for _, r := range rules {
		v, err := doc.LookupErr(strings.Split(r.field, ".")...)
		if err != nil || r.after == longestExpiry {
			continue
		}
		dates := []bson.RawValue{v}
		if list, isArray := v.ArrayOK(); isArray {
			dates, _ = list.Values()
		}
		for _, d := range dates {
			ms, isDate := d.DateTimeOK()
			if !isDate {
				continue
			}
			if end := time.UnixMilli(ms).Add(r.after); !ok || end.Before(at) {
				at, ok = end, true
			}
		}
	}
	return at, ok
}
