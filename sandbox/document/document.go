// Package document writes BSON documents in one line each, for the sandbox's own data. The product never uses it: it
// moves documents as raw bytes.
package document

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Of makes a document of name, value, name, value, … in that order.
func Of(pairs ...any) bson.D {
	if len(pairs)%2 != 0 {
		panic(fmt.Sprintf("document.Of: %d arguments; want pairs of name and value", len(pairs)))
	}
	d := make(bson.D, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		d = append(d, bson.E{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	return d
}
