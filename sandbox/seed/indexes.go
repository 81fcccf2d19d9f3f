package seed

import "go.mongodb.org/mongo-driver/v2/bson"

// indexes are those of the application's that FerretDB v1 can hold: compound and unique ones. Its partial, TTL and
// text indexes are tested on the servers that know them.
var indexes = map[string][]Index{
	"organizations":      {unique("organization_id"), unique("slug"), plain("is_active", 1)},
	"users":              {unique("user_id"), unique("email"), plain("organization_id", 1, "role", 1)},
	"organization_users": {unique("organization_id", "user_id"), plain("user_id", 1)},
	"tickets": {unique("ticket_id"), plain("organization_id", 1, "status", 1, "created_at", -1),
		plain("organization_id", 1, "assigned_to", 1)},
	"ticket_activities":  {plain("ticket_id", 1, "created_at", -1)},
	"invoices":           {unique("invoice_id"), unique("organization_id", "invoice_number"), plain("organization_id", 1, "status", 1, "created_at", -1)},
	"invoice_line_items": {plain("invoice_id", 1), plain("organization_id", 1, "item_id", 1)},
	"invoice_history":    {plain("invoice_id", 1, "timestamp", -1)},
	"contacts":           {unique("contact_id"), plain("organization_id", 1, "name", 1)},
	"contact_persons":    {plain("contact_id", 1)},
	"payments":           {unique("payment_id"), plain("organization_id", 1, "created_at", -1), plain("invoice_id", 1)},
	"items":              {unique("item_id"), plain("organization_id", 1, "sku", 1)},
	"inventory":          {unique("organization_id", "item_id", "warehouse_id")},
	"journal_entries": {unique("entry_id"), plain("organization_id", 1, "entry_date", -1),
		plain("organization_id", 1, "source_document_id", 1, "source_document_type", 1)},
	"failure_cards": {unique("failure_id"), plain("organization_id", 1, "vehicle_model", 1)},
	"audit_logs":    {unique("audit_id"), plain("organization_id", 1, "timestamp", -1), plain("resource_type", 1, "resource_id", 1)},
	"audit_log":     {plain("org_id", 1, "timestamp", -1), plain("entity_type", 1, "entity_id", 1)},
	"sequences":     {unique("sequence_id")},
	"counters":      {plain("organization_id", 1)},
	"credit_notes":  {unique("organization_id", "credit_note_number")},
	"payroll_runs":  {unique("organization_id", "period")},
	"error_codes":   {unique("code")},
	"hsn_codes":     {plain("code", 1)},
}

func unique(fields ...string) Index {
	x := Index{Unique: true}
	for _, f := range fields {
		x.Keys = append(x.Keys, bson.E{Key: f, Value: int32(1)})
	}
	return x
}

// plain takes field, direction, field, direction, …
func plain(pairs ...any) Index {
	var x Index
	for i := 0; i < len(pairs); i += 2 {
		x.Keys = append(x.Keys, bson.E{Key: pairs[i].(string), Value: int32(pairs[i+1].(int))})
	}
	return x
}
