package garage

import (
	"net/http"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// auditLogs answers for the token's organization only, newest first, without a filter on time. It has two shapes, and
// in the flat one the total is there on the first page only: clients must not count on it.
func (a *App) auditLogs(w http.ResponseWriter, r *http.Request, c Claims) {
	limit, page, err := paging(r)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	filter := bson.D{{Key: "organization_id", Value: c.OrganizationID}}
	for _, name := range []string{"resource_type", "action"} {
		if value := r.URL.Query().Get(name); value != "" {
			filter = append(filter, bson.E{Key: name, Value: value})
		}
	}
	collection := a.store.db.Collection("audit_logs")
	cursor, err := collection.Find(r.Context(), filter, options.Find().SetSort(bson.D{{Key: "timestamp", Value: -1}}).
		SetSkip(int64((page-1)*limit)).SetLimit(int64(limit)))
	var raws []bson.Raw
	if err == nil {
		err = cursor.All(r.Context(), &raws)
	}
	var total int64
	if err == nil && (a.nested || page == 1) {
		total, err = collection.CountDocuments(r.Context(), filter)
	}
	if err != nil {
		refuse(w, statusOf(err), "the audit log cannot be read: "+err.Error())
		return
	}
	logs := []map[string]any{}
	for _, raw := range raws {
		logs = append(logs, plain(raw))
	}
	answer := map[string]any{"code": 0, "audit_logs": logs, "page": page}
	switch {
	case a.nested:
		pages := (total + int64(limit) - 1) / int64(limit)
		answer = map[string]any{"code": 0, "audit_logs": map[string]any{
			"logs": logs, "total": total, "page": page, "per_page": limit, "total_pages": pages}}
	case page == 1:
		answer["total"] = total
	}
	respond(w, http.StatusOK, answer)
}
