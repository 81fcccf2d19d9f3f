package garage

import (
	"context"
	"errors"
	"net/http"

	"github.com/battwheels/runbook/sandbox/document"
)

type paymentInput struct {
	PaymentID string  `json:"payment_id"`
	InvoiceID string  `json:"invoice_id"`
	Amount    float64 `json:"amount"`
	Mode      string  `json:"mode"`
}

func createPayment(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	var in paymentInput
	if err := body(r, &in); err != nil {
		return Answer{}, err
	}
	if in.Amount <= 0 || in.Amount > 1e12 {
		return Answer{}, badInput("amount: it must be above zero")
	}
	id, err := idOr(in.PaymentID, "pay_")
	if err != nil {
		return Answer{}, err
	}
	invoice, err := w.find(ctx, w.claims.OrganizationID, "invoices", "invoice_id", in.InvoiceID)
	if err != nil {
		return Answer{}, err
	}
	contact := text(invoice, "contact_id")
	after := document.Of("payment_id", id, "organization_id", w.claims.OrganizationID, "invoice_id", in.InvoiceID, "contact_id", contact,
		"amount", in.Amount, "mode", or(in.Mode, "upi"), "reference", newID("ref_"), "created_at", date(w.now))
	if _, err := w.insert(ctx, "payments", after); err != nil {
		return Answer{}, err
	}
	if err := w.balances(ctx, in.InvoiceID, contact, -in.Amount); err != nil {
		return Answer{}, err
	}
	return Answer{ID: id}, w.auditMoney(ctx, "CREATE", "payment", id, nil, after)
}

// deletePayment rewrites the balances of the invoice and of the contact; the money's audit log keeps the payment whole.
func deletePayment(ctx context.Context, w *work, r *http.Request) (Answer, error) {
	id := r.PathValue("id")
	raw, err := w.find(ctx, w.claims.OrganizationID, "payments", "payment_id", id)
	if err != nil {
		return Answer{}, err
	}
	if err := w.remove(ctx, "payments", raw); err != nil {
		return Answer{}, err
	}
	if err := w.balances(ctx, text(raw, "invoice_id"), text(raw, "contact_id"), number(raw, "amount")); err != nil {
		return Answer{}, err
	}
	return Answer{ID: id}, w.auditMoney(ctx, "DELETE", "payment", id, raw, nil)
}

// balances adds an amount to what is due on an invoice and by a contact, where they still exist.
func (w *work) balances(ctx context.Context, invoice, contact string, amount float64) error {
	for _, x := range []struct{ collection, field, id, balance string }{
		{"invoices", "invoice_id", invoice, "balance_due"},
		{"contacts", "contact_id", contact, "outstanding_receivable"},
	} {
		if x.id == "" {
			continue
		}
		raw, err := w.find(ctx, w.claims.OrganizationID, x.collection, x.field, x.id)
		if errors.Is(err, errNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		d, err := fields(raw)
		if err != nil {
			return err
		}
		if _, err := w.replace(ctx, x.collection, set(d, x.balance, cents(number(raw, x.balance)+amount))); err != nil {
			return err
		}
	}
	return nil
}
