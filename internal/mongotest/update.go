package mongotest

import (
	"bytes"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// updated tells what one update did.
type updated struct {
	matched, modified int64
	upserted          *value
	before, after     document // of the last document changed
}

func update(r *request, dst []byte) ([]byte, error) {
	ns, err := r.toWrite()
	if err != nil {
		return dst, err
	}
	statements, err := r.documents("updates")
	if err == nil {
		err = checkBatch(len(statements))
	}
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed writeErrors
	var upserted []document
	var matched, modified int64
	for i, st := range statements {
		u, err := r.updateOne(ns, st)
		matched, modified = matched+u.matched, modified+u.modified
		if u.upserted != nil {
			matched++
			upserted = append(upserted, build(func(dst []byte) []byte {
				dst = bsoncore.AppendInt32Element(dst, "index", int32(i))
				return bsoncore.AppendValueElement(dst, "_id", *u.upserted)
			}))
		}
		if err == nil {
			continue
		}
		if err := failed.add(i, err); err != nil {
			return dst, err
		}
		if r.ordered() {
			break
		}
	}
	s.tick()
	dst = appendCount(dst, "n", matched)
	dst = appendCount(dst, "nModified", modified)
	if upserted != nil {
		dst = appendDocuments(dst, "upserted", upserted)
	}
	return failed.append(dst), nil
}

func (r *request) updateOne(ns namespace, statement document) (updated, error) {
	u, _ := lookup(statement, "u")
	if _, ok := lookup(statement, "arrayFilters"); ok {
		return updated{}, unsupported("arrayFilters")
	}
	change, err := compileUpdate(u)
	if err != nil {
		return updated{}, err
	}
	multi := flag(statement, "multi")
	if multi && change.replacement {
		return updated{}, errorf(FailedToParse, "multi update is not supported for replacement-style update")
	}
	return r.apply(ns, change, query{
		filter: subdocument(statement, "q"),
		hint:   hintOf(statement),
		sort:   subdocument(statement, "sort"),
	}, multi, flag(statement, "upsert"))
}

// apply changes one or all of the documents that a query finds, or inserts one if it finds none and that is wanted.
func (r *request) apply(ns namespace, change change, q query, multi, upsert bool) (updated, error) {
	var done updated
	c := r.server.collection(ns)
	if c != nil {
		if err := c.mustHoldDocuments(); err != nil {
			return done, err
		}
		found, err := c.matching(q, multi)
		if err != nil {
			return done, err
		}
		for _, rec := range found {
			if err := r.change(c, rec, change, &done); err != nil {
				return done, err
			}
		}
	}
	if done.matched > 0 || !upsert {
		return done, nil
	}
	return r.upsert(ns, change, q.filter)
}

func (r *request) change(c *collection, rec *record, change change, done *updated) error {
	before := rec.doc
	if err := r.faults.documents.check(before); err != nil {
		return err
	}
	after, err := change.apply(before, false)
	if err != nil {
		return err
	}
	if compare(idOf(before), idOf(after)) != 0 {
		return errorf(ImmutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
	}
	if change.replacement && !flag(r.body, "bypassEmptyTsReplacement") {
		after = r.server.fillTimestamps(after)
	}
	done.matched++
	done.before, done.after = before, after
	if bytes.Equal(before, after) {
		return nil
	}
	if len(after) > maxDocumentSize {
		return errorf(BSONObjectTooLarge, "Resulting document after update is larger than %d", maxDocumentSize)
	}
	if err := r.validate(c, after); err != nil {
		return err
	}
	if err := c.replace(rec, after); err != nil {
		return err
	}
	done.modified++
	return nil
}

func (r *request) upsert(ns namespace, change change, filter document) (updated, error) {
	base := emptyDocument
	if change.replacement {
		if id, ok := lookup(equalities(filter), "_id"); ok {
			base = build(func(dst []byte) []byte { return bsoncore.AppendValueElement(dst, "_id", id) })
		}
	} else {
		base = equalities(filter)
	}
	d, err := change.apply(base, true)
	if err != nil {
		return updated{}, err
	}
	c, err := r.server.forInsert(ns)
	if err != nil {
		return updated{}, err
	}
	if _, ok := lookup(d, "_id"); !ok {
		oid := bson.NewObjectID()
		d = build(func(dst []byte) []byte { return appendElements(bsoncore.AppendObjectIDElement(dst, "_id", oid), d) })
	}
	rec := &record{}
	if err := r.insertOne(c, d, rec); err != nil {
		return updated{}, err
	}
	id := idOf(rec.doc)
	return updated{upserted: &id, after: rec.doc}, nil
}

// equalities are the fields that a filter fixes, of which an upsert makes its document.
func equalities(filter document) document {
	d := emptyDocument
	for e := range elements(filter) {
		v := e.Value()
		switch key := e.Key(); {
		case key == "$and":
			for sub := range elements(document(v.Data)) {
				for x := range elements(equalities(document(sub.Value().Data))) {
					d, _ = setPath(d, []string{x.Key()}, x.Value())
				}
			}
		case key[0] == '$' || v.Type == bsoncore.TypeRegex:
		default:
			if ops, ok := v.DocumentOK(); ok && isOperators(ops) {
				if v, ok = lookup(ops, "$eq"); !ok {
					continue
				}
			}
			d, _ = setPath(d, splitPath(key), v) // a path that does not fit is left out
		}
	}
	return d
}

func remove(r *request, dst []byte) ([]byte, error) {
	ns, err := r.toWrite()
	if err != nil {
		return dst, err
	}
	statements, err := r.documents("deletes")
	if err == nil {
		err = checkBatch(len(statements))
	}
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed writeErrors
	var deleted int64
	for i, st := range statements {
		n, err := r.removeOne(ns, st)
		deleted += n
		if err == nil {
			continue
		}
		if err := failed.add(i, err); err != nil {
			return dst, err
		}
		if r.ordered() {
			break
		}
	}
	s.tick()
	return failed.append(appendCount(dst, "n", deleted)), nil
}

func (r *request) removeOne(ns namespace, statement document) (int64, error) {
	limit, _ := lookup(statement, "limit")
	one, _ := asInt(limit)
	c := r.server.collection(ns)
	if c == nil {
		return 0, nil
	}
	if err := c.mustHoldDocuments(); err != nil {
		return 0, err
	}
	found, err := c.matching(query{filter: subdocument(statement, "q"), hint: hintOf(statement)}, one == 0)
	if err != nil {
		return 0, err
	}
	deleted := int64(0)
	for _, rec := range found {
		if err := r.faults.documents.check(rec.doc); err != nil {
			return deleted, err
		}
		c.delete(rec)
		deleted++
	}
	return deleted, nil
}

const findAndModifyFields = "query sort remove update new fields upsert bypassDocumentValidation collation arrayFilters hint let"

func findAndModify(r *request, dst []byte) ([]byte, error) {
	ns, err := r.toWrite()
	if err != nil {
		return dst, err
	}
	q := query{filter: subdocument(r.body, "query"), sort: subdocument(r.body, "sort"), hint: hintOf(r.body)}
	project, err := compileProjection(subdocument(r.body, "fields"))
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.tick()
	u, wanted := r.lookup("update")
	if flag(r.body, "remove") {
		if wanted {
			return dst, errorf(FailedToParse, "Cannot specify both an update and remove=true")
		}
		return r.findAndRemove(dst, ns, q, project)
	}
	change, err := compileUpdate(u)
	if err != nil {
		return dst, err
	}
	done, err := r.apply(ns, change, q, false, flag(r.body, "upsert"))
	if err != nil {
		return dst, err
	}
	start, dst := bsoncore.AppendDocumentElementStart(dst, "lastErrorObject")
	if done.upserted != nil {
		dst = bsoncore.AppendInt32Element(dst, "n", 1)
		dst = bsoncore.AppendBooleanElement(dst, "updatedExisting", false)
		dst = bsoncore.AppendValueElement(dst, "upserted", *done.upserted)
	} else {
		dst = bsoncore.AppendInt32Element(dst, "n", int32(done.matched))
		dst = bsoncore.AppendBooleanElement(dst, "updatedExisting", done.matched > 0)
	}
	dst = end(dst, start)
	if flag(r.body, "new") {
		return appendFound(dst, done.after, project), nil
	}
	return appendFound(dst, done.before, project), nil
}

func (r *request) findAndRemove(dst []byte, ns namespace, q query, project projection) ([]byte, error) {
	var removed document
	if c := r.server.collection(ns); c != nil {
		found, err := c.matching(q, false)
		if err != nil {
			return dst, err
		}
		for _, rec := range found {
			if err := r.faults.documents.check(rec.doc); err != nil {
				return dst, err
			}
			removed = rec.doc
			c.delete(rec)
		}
	}
	start, dst := bsoncore.AppendDocumentElementStart(dst, "lastErrorObject")
	n := int32(0)
	if removed != nil {
		n = 1
	}
	dst = end(bsoncore.AppendInt32Element(dst, "n", n), start)
	return appendFound(dst, removed, project), nil
}

func appendFound(dst []byte, d document, project projection) []byte {
	if d == nil {
		return bsoncore.AppendNullElement(dst, "value")
	}
	return bsoncore.AppendDocumentElement(dst, "value", project.apply(d))
}
