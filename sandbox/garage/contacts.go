package garage

import (
	"context"
	"net/http"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/sandbox/document"
)

type contactInput struct {
	ContactID string   `json:"contact_id"`
	Name      string   `json:"name"`
	Email     string   `json:"email"`
	Phone     string   `json:"phone"`
	Persons   []string `json:"persons"`
}

func createContact(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in contactInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	if in.Name == "" {
		return Answer{}, badInput("name: a contact needs one")
	}
	id, err := idOr(in.ContactID, "ctc_")
	if err != nil {
		return Answer{}, err
	}
	_, err = w.insert(ctx, "contacts", document.Of("contact_id", id, "organization_id", w.claims.OrganizationID, "name", in.Name,
		"contact_type", "customer", "email", in.Email, "phone", in.Phone, "outstanding_receivable", 0.0, "tags", bson.A{},
		"is_active", true, "created_at", zoned(w.now)))
	if err != nil {
		return Answer{}, err
	}
	for i, person := range in.Persons {
		if _, err := w.insert(ctx, "contact_persons", document.Of("person_id", newID("cps_"), "contact_id", id,
			"organization_id", w.claims.OrganizationID, "name", person, "is_primary", i == 0, "designation", nil)); err != nil {
			return Answer{}, err
		}
	}
	return Answer{ID: id}, nil
}

func updateContact(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in contactInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	if len(in.Persons) > 0 {
		return Answer{}, badInput("persons: they are given when the contact is made")
	}
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "contacts", "contact_id", id)
	if err != nil {
		return Answer{}, err
	}
	d, err := fields(raw)
	if err != nil {
		return Answer{}, err
	}
	for name, value := range map[string]string{"name": in.Name, "email": in.Email, "phone": in.Phone} {
		if value != "" {
			d = set(d, name, value)
		}
	}
	if _, err := w.replace(ctx, "contacts", d); err != nil {
		return Answer{}, err
	}
	_, err = w.insert(ctx, "contact_history", document.Of("history_id", newID("his_"), "contact_id", id,
		"organization_id", w.claims.OrganizationID, "action", "updated", "user_id", w.claims.UserID, "timestamp", zoned(w.now)))
	return Answer{ID: id}, err
}

// deleteContact removes what hangs on the contact with it, and leaves no audit entry.
func deleteContact(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "contacts", "contact_id", id)
	if err != nil {
		return Answer{}, err
	}
	if err := w.removeAll(ctx, "contact_id", id, "contact_persons", "addresses", "contact_history", "contact_credits"); err != nil {
		return Answer{}, err
	}
	return Answer{ID: id}, w.remove(ctx, "contacts", raw)
}

// removeAll deletes from each collection what refers to an identifier.
func (w *work) removeAll(ctx context.Context, field, value string, collections ...string) error {
	for _, collection := range collections {
		all, err := w.all(ctx, w.claims.OrganizationID, collection, field, value)
		if err != nil {
			return err
		}
		for _, raw := range all {
			if err := w.remove(ctx, collection, raw); err != nil {
				return err
			}
		}
	}
	return nil
}
