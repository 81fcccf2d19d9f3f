package traffic

import (
	"fmt"
	"net/http"

	"github.com/battwheels/runbook/sandbox/ledger"
)

// choose picks what a tenant does next: mostly making, often changing, now and then deleting.
func (w *writer) choose(t *tenant) request {
	switch n := w.random.IntN(100); {
	case n < 25:
		return w.newTicket(t)
	case n < 40 && len(t.tickets) > 0:
		return w.changeTicket(t)
	case n < 44 && len(t.tickets) > 3:
		return w.deleteTicket(t)
	case n < 62:
		return w.newInvoice(t)
	case n < 70 && len(t.invoices) > 0:
		return w.sendInvoice(t)
	case n < 74 && len(t.drafts) > 2:
		return w.deleteDraft(t)
	case n < 77 && len(t.invoices) > 2:
		return w.voidInvoice(t)
	case n < 87:
		return w.newContact(t)
	case n < 89 && len(t.contacts) > 3:
		return w.deleteContact(t)
	case n < 97 && len(t.invoices) > 0:
		return w.newPayment(t)
	case len(t.pays) > 2:
		return w.deletePayment(t)
	default:
		return w.newTicket(t)
	}
}

// id makes an identifier of the application's kind, so that what a lost answer may have made can be named.
func (w *writer) id(prefix string) string {
	return fmt.Sprintf("%s%016x", prefix, w.random.Uint64())
}

// pick returns one of the identifiers, and the others.
func (w *writer) pick(from []string) (string, []string) {
	i := w.random.IntN(len(from))
	rest := append([]string(nil), from[:i]...)
	return from[i], append(rest, from[i+1:]...)
}

// touching says which documents a request may leave behind if nobody answers: those of each collection whose field
// holds the identifier, and where it takes a number, the tenant's counter.
func touching(field, id string, collections ...string) []ledger.Uncertain {
	var all []ledger.Uncertain
	for _, c := range collections {
		all = append(all, ledger.Uncertain{Collection: c, Field: field, Value: id})
	}
	return append(all,
		ledger.Uncertain{Collection: "audit_logs", Field: "resource_id", Value: id},
		ledger.Uncertain{Collection: "audit_log", Field: "entity_id", Value: id})
}

func counter(t *tenant, kind string) ledger.Uncertain {
	return ledger.Uncertain{Collection: "sequences", Field: "sequence_id", Value: t.claims.OrganizationID + ":" + kind}
}

type fields map[string]any

func (w *writer) newTicket(t *tenant) request {
	id := w.id("tkt_")
	return request{http.MethodPost, "/api/tickets", fields{"ticket_id": id, "title": "The pack does not charge", "vehicle_model": "Ather 450X",
		"description": fmt.Sprintf("Stops at %d %% – again", w.random.IntN(100)), "priority": "high"},
		append(touching("ticket_id", id, "tickets", "ticket_activities"), counter(t, "TICKET")),
		func() { t.tickets = append(t.tickets, id) }, nil}
}

func (w *writer) changeTicket(t *tenant) request {
	id, _ := w.pick(t.tickets)
	states := []string{"assigned", "in_progress", "resolved", "closed"}
	return request{http.MethodPut, "/api/tickets/" + id, fields{"status": states[w.random.IntN(len(states))]},
		touching("ticket_id", id, "tickets", "ticket_activities"), func() {}, []string{id}}
}

func (w *writer) deleteTicket(t *tenant) request {
	id, rest := w.pick(t.tickets)
	return request{http.MethodDelete, "/api/tickets/" + id, nil, touching("ticket_id", id, "tickets"), func() { t.tickets = rest }, []string{id}}
}

func (w *writer) newInvoice(t *tenant) request {
	id := w.id("inv_")
	contact := ""
	if len(t.contacts) > 0 {
		contact, _ = w.pick(t.contacts)
	}
	items := []fields{}
	for range 1 + w.random.IntN(3) {
		items = append(items, fields{"name": "Contactor 150 A", "quantity": 1 + w.random.IntN(4), "rate": float64(w.random.IntN(900000)) / 100})
	}
	return request{http.MethodPost, "/api/invoices", fields{"invoice_id": id, "contact_id": contact, "items": items},
		append(touching("invoice_id", id, "invoices", "invoice_line_items", "invoice_history"), counter(t, "INVOICE")),
		func() { t.drafts = append(t.drafts, id); t.invoices = append(t.invoices, id) }, nil}
}

func (w *writer) sendInvoice(t *tenant) request {
	id, _ := w.pick(t.invoices)
	return request{http.MethodPut, "/api/invoices/" + id, fields{"status": "sent"},
		touching("invoice_id", id, "invoices", "invoice_history"), func() { t.drafts = without(t.drafts, id) }, []string{id}}
}

func (w *writer) voidInvoice(t *tenant) request {
	id, rest := w.pick(t.invoices)
	return request{http.MethodPost, "/api/invoices/" + id + "/void", nil, touching("invoice_id", id, "invoices", "invoice_history"),
		func() { t.invoices, t.drafts = rest, without(t.drafts, id) }, []string{id}}
}

func (w *writer) deleteDraft(t *tenant) request {
	id, rest := w.pick(t.drafts)
	return request{http.MethodDelete, "/api/invoices/" + id, nil, touching("invoice_id", id, "invoices", "invoice_line_items", "invoice_history"),
		func() { t.drafts, t.invoices = rest, without(t.invoices, id) }, []string{id}}
}

func (w *writer) newContact(t *tenant) request {
	id := w.id("ctc_")
	return request{http.MethodPost, "/api/contacts", fields{"contact_id": id, "name": "Zoë D’Souza", "email": "zoe@mail.example",
		"persons": []string{"Ravi Menon", "अनिल वर्मा"}}, touching("contact_id", id, "contacts", "contact_persons"),
		func() { t.contacts = append(t.contacts, id) }, nil}
}

func (w *writer) deleteContact(t *tenant) request {
	id, rest := w.pick(t.contacts)
	return request{http.MethodDelete, "/api/contacts/" + id, nil,
		touching("contact_id", id, "contacts", "contact_persons", "addresses", "contact_history", "contact_credits"),
		func() { t.contacts = rest }, []string{id}}
}

func (w *writer) newPayment(t *tenant) request {
	id := w.id("pay_")
	invoice, _ := w.pick(t.invoices)
	return request{http.MethodPost, "/api/payments", fields{"payment_id": id, "invoice_id": invoice, "amount": float64(1+w.random.IntN(50000)) / 100},
		append(touching("payment_id", id, "payments"), w.balances(t, invoice)...), func() { t.pays = append(t.pays, id) }, []string{invoice}}
}

func (w *writer) deletePayment(t *tenant) request {
	id, rest := w.pick(t.pays)
	return request{http.MethodDelete, "/api/payments/" + id, nil, append(touching("payment_id", id, "payments"), w.balances(t, "")...),
		func() { t.pays = rest }, []string{id}}
}

// balances are the documents that a payment rewrites beside itself. Which invoice and contact a payment belongs to, the
// writer does not remember: any of its tenant's may be meant.
func (w *writer) balances(t *tenant, invoice string) []ledger.Uncertain {
	all := []ledger.Uncertain{{Collection: "contacts", Field: "organization_id", Value: t.claims.OrganizationID}}
	if invoice != "" {
		return append(all, ledger.Uncertain{Collection: "invoices", Field: "invoice_id", Value: invoice})
	}
	return append(all, ledger.Uncertain{Collection: "invoices", Field: "organization_id", Value: t.claims.OrganizationID})
}

func without(all []string, id string) []string {
	rest := []string{}
	for _, s := range all {
		if s != id {
			rest = append(rest, s)
		}
	}
	return rest
}
