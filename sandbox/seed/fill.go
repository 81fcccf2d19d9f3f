package seed

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/sandbox/document"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// Sizes of the large collections at scale 1. They keep FerretDB's scans bearable.
const (
	contactCount = 1700
	itemCount    = 1700
	ticketCount  = 3000
	invoiceCount = 2000
	paymentCount = 1500
)

// fillers make the documents of the collections whose shape matters; the others get fillSmall.
var fillers = map[string]func(*generator){
	"organizations":      fillOrganizations,
	"users":              fillUsers,
	"organization_users": fillMemberships,
	"contacts":           fillContacts,
	"contact_persons":    fillContactPersons,
	"addresses":          fillAddresses,
	"items":              fillItems,
	"inventory":          fillInventory,
	"tickets":            fillTickets,
	"ticket_activities":  fillTicketActivities,
	"invoices":           fillInvoices,
	"invoice_line_items": fillLineItems,
	"invoice_history":    fillInvoiceHistory,
	"payments":           fillPayments,
	"journal_entries":    fillJournal,
	"failure_cards":      fillFailureCards,
	"audit_logs":         fillAuditLogs,
	"audit_log":          fillMoneyAudit,
	"sequences":          fillSequences,
	"payroll_runs":       fillPayrollRuns,
	"credit_notes":       fillCreditNotes,
	"error_codes":        fillErrorCodes,
	"migrations":         fillMigrations,
	"embedding_cache":    fillEmbeddings,
}

// ref is the application's identifier of thing number i of a kind, the same in every collection that names it; its
// tenant follows from it.
func (g *generator) ref(kind string, i int) (id string, o *Organization) {
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], g.world.options.Seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(i))
	h.Write([]byte(kind))
	h.Write(b[:])
	sum := h.Sum64()
	orgs := g.world.organizations
	n := uint64(len(orgs))
	return fmt.Sprintf("%s_%012x", kind, sum&0xffffffffffff), &orgs[min((sum>>48)%n, (sum>>52)%n)]
}

func fillOrganizations(g *generator) {
	for i, o := range g.world.organizations {
		d := document.Of("organization_id", o.ID, "name", o.Name, "slug", o.Slug)
		if o.Email != "" {
			d = append(d, bson.E{Key: "email", Value: o.Email})
		}
		g.add(append(d, document.Of(
			"is_active", o.Active, "plan_type", g.pick([]string{"starter", "growth", "enterprise"}),
			"industry_type", "ev_garage", "city", cities[i%len(cities)], "country", "IN", "currency", "INR",
			"settings", document.Of("timezone", "Asia/Kolkata", "gst", true, "ticket_prefix", "TKT", "tax_rate", 18.0),
			"created_at", g.date(2*year), "updated_at", g.date(90*day),
		)...))
	}
}

func fillUsers(g *generator) {
	for _, o := range g.world.organizations {
		for _, u := range o.Users {
			g.add(document.Of("user_id", u.ID, "email", u.Email, "password_hash", "$2b$12$"+hexID(g.Rand)+hexID(g.Rand),
				"name", u.Name, "role", u.Role, "organization_id", o.ID, "is_active", u.Active, "phone", nil,
				"created_at", g.isoZoned(year), "last_login", g.date(20*day)))
		}
	}
}

func fillMemberships(g *generator) {
	for _, o := range g.world.organizations {
		for _, u := range o.Users {
			status := "active"
			if !u.Active {
				status = "suspended"
			}
			g.add(document.Of("organization_id", o.ID, "user_id", u.ID, "role", u.Role, "status", status, "joined_at", g.date(year)))
		}
	}
}

func fillContacts(g *generator) {
	for i := range g.count(contactCount) {
		id, o := g.ref("ctc", i)
		name := g.pick(people)
		g.add(document.Of("contact_id", id, "organization_id", o.ID, "name", name, "contact_type", "customer",
			"email", strings.ToLower(strings.Fields(name)[0])+"@mail.example", "phone", fmt.Sprintf("+9198%08d", g.IntN(1e8)),
			"outstanding_receivable", g.rupees(20000), "tags", bson.A{g.pick(cities), "retail"}, "is_active", g.IntN(20) > 0,
			"billing_address", document.Of("street", g.pick(streets), "city", g.pick(cities), "pin", int32(400000+g.IntN(99999))),
			"created_at", g.isoZoned(year)))
	}
}

func fillContactPersons(g *generator) {
	for i := range g.count(contactCount / 2) {
		contact, o := g.ref("ctc", g.IntN(g.count(contactCount)))
		id, _ := g.ref("cps", i)
		g.add(document.Of("person_id", id, "contact_id", contact, "organization_id", o.ID, "name", g.pick(people),
			"is_primary", i%2 == 0, "designation", nil))
	}
}

func fillAddresses(g *generator) {
	for range g.count(600) {
		contact, o := g.ref("ctc", g.IntN(g.count(contactCount)))
		g.add(document.Of("address_id", g.id("adr_"), "contact_id", contact, "organization_id", o.ID,
			"street", fmt.Sprintf("%d, %s", 1+g.IntN(200), g.pick(streets)), "city", g.pick(cities), "state_code", int32(1+g.IntN(37))))
	}
}

func fillItems(g *generator) {
	for i := range g.count(itemCount) {
		id, o := g.ref("itm", i)
		g.add(document.Of("item_id", id, "organization_id", o.ID, "sku", fmt.Sprintf("SKU-%05d", i), "name", g.pick(parts),
			"rate", g.rupees(9000), "unit", "pcs", "hsn_code", fmt.Sprint(85010000+g.IntN(9999)), "tax_rate", int32(18),
			"stock", document.Of("on_hand", int64(g.IntN(500)), "reserved", int64(g.IntN(20)), "reorder_at", int32(10)),
			"is_active", true, "created_at", g.date(year)))
	}
}

func fillInventory(g *generator) {
	for i := range g.count(1400) {
		item, o := g.ref("itm", i)
		g.add(document.Of("inventory_id", g.id("inv_"), "organization_id", o.ID, "item_id", item, "warehouse_id", fmt.Sprintf("wh_%02d", i%3),
			"quantity", int64(g.IntN(400)), "value", g.rupees(40000), "bin", fmt.Sprintf("%c-%02d", 'A'+rune(i%6), g.IntN(40)),
			"updated_at", g.date(60*day)))
	}
}

func fillTickets(g *generator) {
	for i := range g.count(ticketCount) {
		id, o := g.ref("tkt", i)
		contact, _ := g.ref("ctc", g.IntN(g.count(contactCount)))
		g.add(document.Of("ticket_id", id, "organization_id", o.ID, "ticket_number", fmt.Sprintf("TKT-%06d", i+1),
			"title", g.phrase(4), "description", g.phrase(12+g.IntN(30)), "status", g.pick(ticketStates),
			"priority", g.pick(priorities), "vehicle_model", g.pick(vehicles), "vehicle_number", fmt.Sprintf("MH%02d AB %04d", g.IntN(50), g.IntN(9999)),
			"contact_id", contact, "assigned_to", g.user(o).ID, "odometer_km", int32(g.IntN(60000)),
			"estimated_cost", g.rupees(15000), "symptoms", bson.A{g.phrase(2), g.phrase(2)}, "attachments", bson.A{},
			"created_at", g.date(year), "updated_at", g.date(30*day)))
	}
}

func fillTicketActivities(g *generator) {
	for range g.count(2000) {
		ticket, o := g.ref("tkt", g.IntN(g.count(ticketCount)))
		g.add(document.Of("activity_id", g.id("act_"), "ticket_id", ticket, "organization_id", o.ID, "action", g.pick(ticketStates),
			"note", g.phrase(6), "user_id", g.user(o).ID, "created_at", g.isoZoned(year)))
	}
}

func fillInvoices(g *generator) {
	for i := range g.count(invoiceCount) {
		id, o := g.ref("inv", i)
		contact, _ := g.ref("ctc", g.IntN(g.count(contactCount)))
		total := g.rupees(60000)
		g.add(document.Of("invoice_id", id, "organization_id", o.ID, "invoice_number", fmt.Sprintf("INV-%06d", i+1),
			"contact_id", contact, "status", g.pick(invoiceStates), "sub_total", total, "tax_total", total*18/100,
			"total", total*118/100, "balance_due", g.rupees(20000), "currency", "INR", "notes", g.phrase(5),
			"due_date", g.date(60*day), "created_at", g.date(year), "updated_at", g.date(30*day)))
	}
}

func fillLineItems(g *generator) {
	for i := range g.count(invoiceCount * 3 / 2) {
		invoice, o := g.ref("inv", i%g.count(invoiceCount))
		item, _ := g.ref("itm", g.IntN(g.count(itemCount)))
		quantity := 1 + g.IntN(8)
		rate := g.rupees(9000)
		g.add(document.Of("line_item_id", g.id("lin_"), "invoice_id", invoice, "organization_id", o.ID, "item_id", item,
			"name", g.pick(parts), "quantity", int32(quantity), "rate", rate, "amount", rate*float64(quantity), "tax_rate", int32(18)))
	}
}

func fillInvoiceHistory(g *generator) {
	for i := range g.count(invoiceCount) {
		invoice, o := g.ref("inv", i)
		g.add(document.Of("history_id", g.id("his_"), "invoice_id", invoice, "organization_id", o.ID, "action", "created",
			"user_id", g.user(o).ID, "timestamp", g.isoZoned(year)))
	}
}

func fillPayments(g *generator) {
	for i := range g.count(paymentCount) {
		id, o := g.ref("pay", i)
		invoice, _ := g.ref("inv", g.IntN(g.count(invoiceCount)))
		contact, _ := g.ref("ctc", g.IntN(g.count(contactCount)))
		g.add(document.Of("payment_id", id, "organization_id", o.ID, "invoice_id", invoice, "contact_id", contact, "amount", g.rupees(20000),
			"mode", g.pick([]string{"upi", "cash", "card", "bank_transfer"}), "reference", hexID(g.Rand), "created_at", g.date(year)))
	}
}

func fillJournal(g *generator) {
	for i := range g.count(2000) {
		id, _ := g.ref("jrn", i)
		invoice, o := g.ref("inv", i%g.count(invoiceCount))
		amount := g.rupees(60000)
		g.add(document.Of("entry_id", id, "organization_id", o.ID, "entry_date", g.date(year), "source_document_id", invoice,
			"source_document_type", "invoice", "lines", bson.A{
				document.Of("account", "1100 Receivables", "debit", amount, "credit", 0.0),
				document.Of("account", "4000 Sales", "debit", 0.0, "credit", amount)},
			"posted", true, "sequence", int64(i+1)))
	}
}

func fillFailureCards(g *generator) {
	for i := range g.count(1200) {
		id, o := g.ref("fcd", i)
		g.add(document.Of("failure_id", id, "organization_id", o.ID, "vehicle_model", g.pick(vehicles), "title", g.phrase(3),
			"root_cause", g.phrase(8), "resolution", g.phrase(14), "confidence", float64(g.IntN(1000))/1000,
			"parts", bson.A{document.Of("name", g.pick(parts), "quantity", int32(1))}, "usage_count", int64(g.IntN(90)), "created_at", g.date(year)))
	}
}

func fillAuditLogs(g *generator) {
	kinds := []struct{ action, resource, prefix string }{
		{"create", "invoice", "inv"}, {"update", "TICKET", "tkt"}, {"delete", "TICKET", "tkt"}, {"invoice.voided", "invoice", "inv"},
		{"user.removed", "user", "user"}, {"update", "contact", "ctc"},
	}
	for range g.count(1800) {
		k := kinds[g.IntN(len(kinds))]
		resource, o := g.ref(k.prefix, g.IntN(g.count(1500)))
		u := g.user(o)
		at := g.isoPlain(180 * day)
		if g.IntN(5) == 0 {
			at = g.isoZoned(180 * day)
		}
		g.add(document.Of("audit_id", g.id("aud_"), "organization_id", o.ID, "user_id", u.ID, "user_email", u.Email, "user_name", u.Name,
			"action", k.action, "resource_type", k.resource, "resource_id", resource, "resource_name", g.phrase(2),
			"old_values", document.Of("status", g.pick(ticketStates)), "new_values", nil, "changes_summary", g.phrase(4),
			"ip_address", fmt.Sprintf("10.%d.%d.%d", g.IntN(256), g.IntN(256), g.IntN(256)), "metadata", bson.D{}, "timestamp", at))
	}
}

func fillMoneyAudit(g *generator) {
	for range g.count(1100) {
		invoice, o := g.ref("inv", g.IntN(g.count(invoiceCount)))
		u := g.user(o)
		before := document.Of("invoice_id", invoice, "status", "sent", "total", g.rupees(60000))
		g.add(document.Of("org_id", o.ID, "user_id", u.ID, "user_role", u.Role, "action", g.pick([]string{"CREATE", "UPDATE", "VOID", "DELETE"}),
			"entity_type", "invoice", "entity_id", invoice, "timestamp", g.isoZoned(180*day), "before_snapshot", before, "after_snapshot", nil))
	}
}

// fillSequences gives every tenant its counters, above every number that the seed used.
func fillSequences(g *generator) {
	for _, o := range g.world.organizations {
		for _, k := range []struct{ kind, prefix string }{{"TICKET", "TKT-"}, {"INVOICE", "INV-"}, {"PAYMENT", "PAY-"}} {
			g.add(document.Of("sequence_id", o.ID+":"+k.kind, "organization_id", o.ID, "kind", k.kind, "prefix", k.prefix,
				"current_value", int64(10000+g.IntN(5000)), "updated_at", g.date(5*day)))
		}
	}
}

func fillPayrollRuns(g *generator) {
	for i, o := range g.world.organizations {
		if i%4 == 0 {
			for month := 1; month <= 3; month++ {
				g.add(document.Of("run_id", g.id("prl_"), "organization_id", o.ID, "period", fmt.Sprintf("2025-%02d", month), "net", g.rupees(300000)))
			}
		}
	}
}

func fillCreditNotes(g *generator) {
	for i := range 40 {
		_, o := g.ref("crn", i)
		g.add(document.Of("credit_note_id", g.id("crn_"), "organization_id", o.ID, "credit_note_number", fmt.Sprintf("CN-%05d", i+1), "amount", g.rupees(3000)))
	}
}

// fillErrorCodes uses strings for _id, as hand-written lists do.
func fillErrorCodes(g *generator) {
	for i := range 60 {
		code := fmt.Sprintf("E%03d", i+1)
		g.add(document.Of("_id", code, "code", code, "text", g.phrase(4), "severity", int32(1+i%4)))
	}
}

// fillMigrations has _ids of several types in one collection: what was written over the years by different hands.
func fillMigrations(g *generator) {
	for i := range 6 {
		g.add(document.Of("_id", int32(i+1), "name", g.phrase(2), "applied_at", g.date(year)))
	}
	g.add(document.Of("_id", int64(5_000_000_001), "name", "from the import", "applied_at", g.isoPlain(year)))
	g.add(document.Of("_id", "2025-11-gst", "name", g.phrase(2), "applied_at", g.isoPlain(year)))
	g.add(document.Of("name", "unnamed", "checksum", bson.Binary{Subtype: 5, Data: []byte(hexID(g.Rand) + "abcd")}, "applied_at", nil))
}

func fillEmbeddings(g *generator) {
	for range 80 {
		vector := make([]byte, 256)
		for i := range vector {
			vector[i] = byte(g.Uint32())
		}
		g.add(document.Of("text", g.phrase(5), "vector", bson.Binary{Data: vector}, "pattern", bson.Regex{Pattern: "^bms", Options: "i"},
			"read_at", bson.Timestamp{T: uint32(g.ago(year).Unix()), I: 1}, "model", "hash-256"))
	}
}

// fillSmall is for the many collections that hold little: every second is empty, the others have up to thirty
// documents of a plain shape.
func (g *generator) fillSmall() {
	if g.IntN(2) == 0 {
		return
	}
	key := strings.TrimSuffix(g.name, "s") + "_id"
	for i := range 1 + g.IntN(30) {
		o := g.organization()
		g.add(document.Of(key, g.id(g.name[:3]+"_"), "organization_id", o.ID, "name", g.phrase(2), "position", int32(i),
			"value", g.rupees(5000), "enabled", g.IntN(3) > 0, "options", document.Of("note", g.phrase(3), "list", bson.A{int32(1), "two", 3.5}),
			"created_at", g.date(year), "updated_at", g.isoPlain(30*day)))
	}
}
