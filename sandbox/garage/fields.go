package garage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/sandbox/document"
)

// fields decodes a document so that it encodes to the same bytes again.
func fields(raw bson.Raw) (bson.D, error) {
	var d bson.D
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("a document is damaged: %w", err)
	}
	return d, nil
}

// set changes one field where it stands, or appends it.
func set(d bson.D, name string, value any) bson.D {
	for i := range d {
		if d[i].Key == name {
			d[i].Value = value
			return d
		}
	}
	return append(d, bson.E{Key: name, Value: value})
}

func text(raw bson.Raw, name string) string {
	s, _ := raw.Lookup(name).StringValueOK()
	return s
}

func number(raw bson.Raw, name string) float64 {
	f, _ := raw.Lookup(name).AsFloat64OK()
	return f
}

func date(t time.Time) bson.DateTime { return bson.NewDateTimeFromTime(t) }

// unzoned and zoned are the two ways in which the application writes a time as text; both mean UTC.
func unzoned(t time.Time) string { return t.UTC().Format(pythonTime) }
func zoned(t time.Time) string   { return t.UTC().Format(pythonTime + "-07:00") }

func newID(prefix string) string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

var identifier = regexp.MustCompile(`^[a-z]{2,6}_[0-9a-f]{6,32}$`)

// idOr takes the identifier that a client chose, so that it can name a document whose answer it never got, or makes
// one.
func idOr(given, prefix string) (string, error) {
	if given == "" {
		return newID(prefix), nil
	}
	if !identifier.MatchString(given) || given[:len(prefix)] != prefix {
		return "", badInput(fmt.Sprintf("the identifier %q is not like %s0123456789ab", given, prefix))
	}
	return given, nil
}

// next takes the next number of a tenant's counter.
func (w *work) next(ctx context.Context, kind string) (string, error) {
	id := w.claims.OrganizationID + ":" + kind
	raw, err := w.find(ctx, w.claims.OrganizationID, "sequences", "sequence_id", id)
	if err != nil {
		return "", fmt.Errorf("take a number: %w", err)
	}
	d, err := fields(raw)
	if err != nil {
		return "", err
	}
	value := int64(number(raw, "current_value")) + 1
	d = set(set(d, "current_value", value), "updated_at", date(w.now))
	if _, err := w.replace(ctx, "sequences", d); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%06d", text(raw, "prefix"), value), nil
}

// audit writes an entry of the general audit log. Few operations do.
func (w *work) audit(ctx context.Context, action, resource, id, name string, before, after any) error {
	_, err := w.insert(ctx, "audit_logs", document.Of(
		"audit_id", newID("aud_"), "organization_id", w.claims.OrganizationID, "user_id", w.claims.UserID,
		"user_email", w.claims.Email, "user_name", w.claims.Name, "action", action, "resource_type", resource,
		"resource_id", id, "resource_name", name, "old_values", before, "new_values", after,
		"changes_summary", action+" "+name, "ip_address", "127.0.0.1", "metadata", bson.D{}, "timestamp", unzoned(time.Now())))
	return err
}

// auditMoney writes an entry of the other audit log, which keeps whole documents.
func (w *work) auditMoney(ctx context.Context, action, entity, id string, before, after any) error {
	_, err := w.insert(ctx, "audit_log", document.Of(
		"org_id", w.claims.OrganizationID, "user_id", w.claims.UserID, "user_role", w.claims.Role, "action", action,
		"entity_type", entity, "entity_id", id, "timestamp", zoned(time.Now()), "before_snapshot", before, "after_snapshot", after))
	return err
}
