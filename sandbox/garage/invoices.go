package garage

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/battwheels/runbook/sandbox/document"
)

type invoiceInput struct {
	InvoiceID string        `json:"invoice_id"`
	ContactID string        `json:"contact_id"`
	Status    string        `json:"status"`
	Notes     string        `json:"notes"`
	Items     []invoiceItem `json:"items"`
}

type invoiceItem struct {
	Name     string  `json:"name"`
	Quantity int32   `json:"quantity"`
	Rate     float64 `json:"rate"`
}

const gst = 18

func createInvoice(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in invoiceInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	if len(in.Items) == 0 {
		return Answer{}, badInput("items: an invoice needs at least one")
	}
	id, err := idOr(in.InvoiceID, "inv_")
	if err != nil {
		return Answer{}, err
	}
	subtotal := 0.0
	for i, item := range in.Items {
		if item.Quantity < 1 || item.Rate < 0 || math.IsInf(item.Rate, 0) {
			return Answer{}, badInput(fmt.Sprintf("items[%d]: quantity must be at least 1 and rate not negative", i))
		}
		subtotal += float64(item.Quantity) * item.Rate
	}
	no, err := w.next(ctx, "INVOICE")
	if err != nil {
		return Answer{}, err
	}
	total := cents(subtotal * (100 + gst) / 100)
	_, err = w.insert(ctx, "invoices", document.Of("invoice_id", id, "organization_id", w.claims.OrganizationID, "invoice_number", no,
		"contact_id", in.ContactID, "status", or(in.Status, "draft"), "sub_total", cents(subtotal), "tax_total", cents(total-subtotal),
		"total", total, "balance_due", total, "currency", "INR", "notes", in.Notes, "due_date", date(w.now.Add(15*24*time.Hour)),
		"created_at", date(w.now), "updated_at", date(w.now)))
	if err != nil {
		return Answer{}, err
	}
	for _, item := range in.Items {
		if _, err := w.insert(ctx, "invoice_line_items", document.Of("line_item_id", newID("lin_"), "invoice_id", id,
			"organization_id", w.claims.OrganizationID, "item_id", nil, "name", item.Name, "quantity", item.Quantity, "rate", item.Rate,
			"amount", cents(float64(item.Quantity)*item.Rate), "tax_rate", int32(gst))); err != nil {
			return Answer{}, err
		}
	}
	return Answer{ID: id, Number: no}, w.invoiceHistory(ctx, id, "created")
}

func updateInvoice(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in invoiceInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	if in.Items != nil || in.ContactID != "" {
		return Answer{}, badInput("only status and notes of an invoice can change")
	}
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "invoices", "invoice_id", id)
	if err != nil {
		return Answer{}, err
	}
	d, err := fields(raw)
	if err != nil {
		return Answer{}, err
	}
	if in.Status != "" {
		d = set(d, "status", in.Status)
	}
	if in.Notes != "" {
		d = set(d, "notes", in.Notes)
	}
	after, err := w.replace(ctx, "invoices", set(d, "updated_at", date(w.now)))
	if err != nil {
		return Answer{}, err
	}
	if err := w.invoiceHistory(ctx, id, or(in.Status, "edited")); err != nil {
		return Answer{}, err
	}
	if text(raw, "status") == text(after, "status") {
		return Answer{ID: id}, nil
	}
	return Answer{ID: id}, w.auditMoney(ctx, "UPDATE", "invoice", id,
		document.Of("status", text(raw, "status")), document.Of("status", text(after, "status")))
}

// voidInvoice is what the application offers for an invoice that somebody has seen; both audit logs tell of it.
func voidInvoice(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "invoices", "invoice_id", id)
	if err != nil {
		return Answer{}, err
	}
	d, err := fields(raw)
	if err != nil {
		return Answer{}, err
	}
	after, err := w.replace(ctx, "invoices", set(set(set(d, "status", "void"), "balance_due", 0.0), "updated_at", date(w.now)))
	if err != nil {
		return Answer{}, err
	}
	if err := w.invoiceHistory(ctx, id, "voided"); err != nil {
		return Answer{}, err
	}
	if err := w.auditMoney(ctx, "VOID", "invoice", id, raw, after); err != nil {
		return Answer{}, err
	}
	return Answer{ID: id}, w.audit(ctx, "invoice.voided", "invoice", id, text(raw, "invoice_number"),
		document.Of("status", text(raw, "status")), document.Of("status", "void"))
}

// deleteInvoice removes a draft with its line items and its history, and leaves no audit entry.
func deleteInvoice(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "invoices", "invoice_id", id)
	if err != nil {
		return Answer{}, err
	}
	if status := text(raw, "status"); status != "draft" {
		return Answer{}, conflict("only a draft can be deleted; this invoice is " + status + ": void it")
	}
	if err := w.removeAll(ctx, "invoice_id", id, "invoice_line_items", "invoice_history"); err != nil {
		return Answer{}, err
	}
	return Answer{ID: id}, w.remove(ctx, "invoices", raw)
}

// mostAtOnce bounds one deletion of many.
const mostAtOnce = 50

// deleteInvoices removes drafts by the dozen, as the list's checkboxes do. Of the two ways that the application has grown, only one
// writes audit entries.
func deleteInvoices(audited bool) operation {
	return func(ctx context.Context, w *work, r *http.Request) (Answer, error) {
		var in struct {
			IDs []string `json:"invoice_ids"`
		}
		if err := body(r, &in); err != nil {
			return Answer{}, err
		}
		if len(in.IDs) == 0 || len(in.IDs) > mostAtOnce {
			return Answer{}, badInput(fmt.Sprintf("invoice_ids: between 1 and %d of them", mostAtOnce))
		}
		drafts, err := w.all(ctx, w.claims.OrganizationID, "invoices", "invoice_id", in.IDs...)
		if err != nil {
			return Answer{}, err
		}
		if len(drafts) != len(in.IDs) {
			return Answer{}, fmt.Errorf("%d of %d invoices: %w", len(in.IDs)-len(drafts), len(in.IDs), errNotFound)
		}
		for _, raw := range drafts {
			if status := text(raw, "status"); status != "draft" {
				return Answer{}, conflict("only drafts can be deleted; invoice " + text(raw, "invoice_id") + " is " + status)
			}
		}
		for _, collection := range []string{"invoice_line_items", "invoice_history"} {
			belonging, err := w.all(ctx, w.claims.OrganizationID, collection, "invoice_id", in.IDs...)
			if err != nil {
				return Answer{}, err
			}
			if err := w.removeMany(ctx, collection, belonging); err != nil {
				return Answer{}, err
			}
		}
		if err := w.removeMany(ctx, "invoices", drafts); err != nil || !audited {
			return Answer{}, err
		}
		for _, raw := range drafts {
			if err := w.audit(ctx, "invoice.deleted", "invoice", text(raw, "invoice_id"), text(raw, "invoice_number"),
				document.Of("status", text(raw, "status")), nil); err != nil {
				return Answer{}, err
			}
		}
		return Answer{}, nil
	}
}

func (w *work) invoiceHistory(ctx context.Context, invoice, action string) error {
	_, err := w.insert(ctx, "invoice_history", document.Of("history_id", newID("his_"), "invoice_id", invoice,
		"organization_id", w.claims.OrganizationID, "action", action, "user_id", w.claims.UserID, "timestamp", zoned(w.now)))
	return err
}

// cents rounds an amount to two places. Adding zero turns a negative zero into a plain one, which not every server keeps apart.
func cents(f float64) float64 { return math.Round(f*100)/100 + 0 }
