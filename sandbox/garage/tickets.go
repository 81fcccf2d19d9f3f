package garage

import (
	"context"
	"net/http"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/sandbox/document"
)

type ticketInput struct {
	TicketID    string `json:"ticket_id"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Vehicle     string `json:"vehicle_model"`
	Priority    string `json:"priority"`
	Status      string `json:"status"`
}

func createTicket(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in ticketInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	if in.Title == "" {
		return Answer{}, badInput("title: say in a few words what is wrong")
	}
	id, err := idOr(in.TicketID, "tkt_")
	if err != nil {
		return Answer{}, err
	}
	no, err := w.next(ctx, "TICKET")
	if err != nil {
		return Answer{}, err
	}
	_, err = w.insert(ctx, "tickets", document.Of("ticket_id", id, "organization_id", w.claims.OrganizationID, "ticket_number", no,
		"title", in.Title, "description", in.Description, "status", "open", "priority", or(in.Priority, "medium"),
		"vehicle_model", in.Vehicle, "assigned_to", nil, "estimated_cost", 0.0, "symptoms", bson.A{}, "attachments", bson.A{},
		"created_at", date(w.now), "updated_at", date(w.now)))
	if err != nil {
		return Answer{}, err
	}
	return Answer{ID: id, Number: no}, w.ticketActivity(ctx, id, "created")
}

func updateTicket(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in ticketInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "tickets", "ticket_id", id)
	if err != nil {
		return Answer{}, err
	}
	d, err := fields(raw)
	if err != nil {
		return Answer{}, err
	}
	for name, value := range map[string]string{"title": in.Title, "description": in.Description, "status": in.Status,
		"priority": in.Priority, "vehicle_model": in.Vehicle} {
		if value != "" {
			d = set(d, name, value)
		}
	}
	if _, err := w.replace(ctx, "tickets", set(d, "updated_at", date(w.now))); err != nil {
		return Answer{}, err
	}
	return Answer{ID: id}, w.ticketActivity(ctx, id, or(in.Status, "updated"))
}

// deleteTicket is one of the few deletions that the audit log tells of.
func deleteTicket(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "tickets", "ticket_id", id)
	if err != nil {
		return Answer{}, err
	}
	if err := w.remove(ctx, "tickets", raw); err != nil {
		return Answer{}, err
	}
	before := document.Of("ticket_number", text(raw, "ticket_number"), "title", text(raw, "title"), "status", text(raw, "status"))
	return Answer{ID: id}, w.audit(ctx, "delete", "TICKET", id, text(raw, "title"), before, nil)
}

func (w *work) ticketActivity(ctx context.Context, ticket, action string) error {
	_, err := w.insert(ctx, "ticket_activities", document.Of("activity_id", newID("act_"), "ticket_id", ticket,
		"organization_id", w.claims.OrganizationID, "action", action, "note", "", "user_id", w.claims.UserID, "created_at", zoned(w.now)))
	return err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
