package mongotest

import (
	"math/rand/v2"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

const aggregateFields = "pipeline cursor explain allowDiskUse collation hint let bypassDocumentValidation"

func aggregate(r *request, dst []byte) ([]byte, error) {
	ns, err := r.aggregated()
	if err != nil {
		return dst, err
	}
	pipeline, _ := r.lookup("pipeline")
	stages, err := stagesOf(pipeline)
	if err != nil {
		return dst, err
	}
	if level := text(subdocument(r.body, "readConcern"), "level"); len(stages) > 0 && stages[0].name == "$currentOp" && level != "" && level != "local" {
		return dst, errorf(InvalidOptions, "Aggregation stage $currentOp cannot run with a readConcern other than 'local'; it was given '%s'", level)
	}
	if _, ok := r.lookup("cursor"); !ok {
		return dst, errorf(FailedToParse, "The 'cursor' option is required, except for aggregate with the explain argument")
	}
	size, err := sizeOfCursor(r.body)
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, err := s.readTime(r)
	if err != nil {
		return dst, err
	}
	next, err := r.pipe(ns, at, stages)
	if err != nil {
		return dst, err
	}
	return r.appendFirst(dst, &cursor{ns: ns, at: at, by: r, next: next}, size, false)
}

// aggregated is the collection to aggregate, or the database where the first argument is 1.
func (r *request) aggregated() (namespace, error) {
	if v, _ := r.lookup(r.name); v.Type != bsoncore.TypeString {
		return namespace{r.db, "$cmd.aggregate"}, nil
	}
	return r.namespace()
}

// stage is one stage of a pipeline.
type stage struct {
	name string
	arg  value
}

func (s stage) document() document {
	d, _ := s.arg.DocumentOK()
	return d
}

func stagesOf(pipeline value) ([]stage, error) {
	array, ok := pipeline.ArrayOK()
	if !ok && pipeline.Type != 0 {
		return nil, errorf(TypeMismatch, "'pipeline' option must be specified as an array")
	}
	var stages []stage
	for e := range elements(document(array)) {
		d, ok := e.Value().DocumentOK()
		if !ok || countElements(d) != 1 {
			return nil, errorf(40323, "A pipeline stage specification object must contain exactly one field.")
		}
		for x := range elements(d) {
			stages = append(stages, stage{x.Key(), x.Value()})
		}
	}
	return stages, nil
}

// pipe runs a pipeline. A $match and $sort at its beginning become the query of the collection.
func (r *request) pipe(ns namespace, at *snapshot, stages []stage) (stream, error) {
	var next stream
	var err error
	if len(stages) > 0 && sources[stages[0].name] != nil {
		next, err = sources[stages[0].name](r, ns, stages[0])
		stages = stages[1:]
	} else if c := at.collection(r.server, ns); c != nil && c.kind == typeCollection && len(stages) > 0 && stages[0].sampleOf(c) > 0 {
		next, stages = r.checked(c, list(c.sample(stages[0].sampleOf(c)))), stages[1:]
	} else {
		q := query{hint: hintOf(r.body)}
		if len(stages) > 0 && stages[0].name == "$match" {
			q.filter, stages = stages[0].document(), stages[1:]
		}
		if len(stages) > 0 && stages[0].name == "$sort" {
			q.sort, stages = stages[0].document(), stages[1:]
		}
		next, err = r.read(ns, at, q)
	}
	for _, st := range stages {
		if err != nil {
			return nil, err
		}
		run, ok := transforms[st.name]
		if !ok {
			return nil, errorf(UnknownPipelineStage, "Unrecognized pipeline stage name: '%s'", st.name)
		}
		next, err = run(next, st)
	}
	return next, err
}

var sources map[string]func(*request, namespace, stage) (stream, error)

func init() {
	// Not in the declaration: a view reads through a pipeline as well.
	sources = map[string]func(*request, namespace, stage) (stream, error){
		"$collStats":  collStatsStage,
		"$indexStats": indexStatsStage,
		"$currentOp":  currentOpStage,
	}
}

var transforms = map[string]func(stream, stage) (stream, error){
	"$match":     matchStage,
	"$sort":      sortStage,
	"$skip":      func(next stream, s stage) (stream, error) { n, err := s.count(); return skipped(next, n), err },
	"$limit":     func(next stream, s stage) (stream, error) { n, err := s.count(); return limited(next, n), err },
	"$project":   projectStage,
	"$unset":     unsetStage,
	"$addFields": addFieldsStage,
	"$set":       addFieldsStage,
	"$count":     countStage,
	"$group":     groupStage,
	"$sample":    sampleStage,
}

func (s stage) count() (int64, error) {
	n, ok := asInt(s.arg)
	if !ok || n < 0 || n == 0 && s.name == "$limit" {
		return 0, errorf(15958, "invalid argument to %s stage: %s", s.name, show(s.arg))
	}
	return n, nil
}

func matchStage(next stream, s stage) (stream, error) {
	m, err := compileFilter(s.document())
	if err != nil || m == nil {
		return next, err
	}
	return func() (document, error) {
		for {
			d, err := next()
			if d == nil || err != nil || m(d) {
				return d, err
			}
		}
	}, nil
}

// whenCalled makes a stream of documents that are known only once all others are read.
func whenCalled(fill func() ([]document, error)) stream {
	var next stream
	return func() (document, error) {
		if next == nil {
			docs, err := fill()
			if err != nil {
				return nil, err
			}
			next = listStream(docs)
		}
		return next()
	}
}

func sortStage(next stream, s stage) (stream, error) {
	o, err := parseSort(s.document())
	if err != nil {
		return nil, err
	}
	return whenCalled(func() ([]document, error) {
		docs, err := collect(next)
		if err != nil {
			return nil, err
		}
		records := make([]*record, len(docs))
		for i, d := range docs {
			records[i] = &record{doc: d}
		}
		for i, rec := range sortRecords(records, o) {
			docs[i] = rec.doc
		}
		return docs, nil
	}), nil
}

func projectStage(next stream, s stage) (stream, error) {
	if len(s.document()) <= 5 {
		return nil, errorf(51272, "Invalid $project :: caused by :: projection specification must have at least one field")
	}
	p, err := compileProjection(s.document())
	return p.stream(next), err
}

func unsetStage(next stream, s stage) (stream, error) {
	tree := fields{}
	if name, ok := s.arg.StringValueOK(); ok {
		tree.put(splitPath(name))
	}
	if array, ok := s.arg.ArrayOK(); ok {
		for e := range elements(document(array)) {
			name, _ := e.Value().StringValueOK()
			tree.put(splitPath(name))
		}
	}
	return projection(tree.exclude).stream(next), nil
}

func addFieldsStage(next stream, s stage) (stream, error) {
	var computed []computedField
	for e := range elements(s.document()) {
		x, err := compileExpression(e.Value())
		if err != nil {
			return nil, err
		}
		computed = append(computed, computedField{splitPath(e.Key()), x})
	}
	return projection(func(d document) document {
		out := d
		for _, c := range computed {
			if v, ok := c.expr(d); ok {
				out, _ = setPath(out, c.path, v) // a path that does not fit is left as it is
			}
		}
		return out
	}).stream(next), nil
}

func countStage(next stream, s stage) (stream, error) {
	name, ok := s.arg.StringValueOK()
	if !ok || name == "" {
		return nil, errorf(40156, "the count field must be a non-empty string")
	}
	return whenCalled(func() ([]document, error) {
		docs, err := collect(next)
		if err != nil || len(docs) == 0 {
			return nil, err
		}
		return []document{build(func(dst []byte) []byte { return appendCount(dst, name, int64(len(docs))) })}, nil
	}), nil
}

func sampleStage(next stream, s stage) (stream, error) {
	size, _ := lookup(s.document(), "size")
	n, ok := asInt(size)
	if !ok || n < 1 {
		return nil, errorf(28747, "size argument to $sample must be a positive number")
	}
	return whenCalled(func() ([]document, error) {
		docs, err := collect(next)
		rand.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
		return docs[:min(int64(len(docs)), n)], err
	}), nil
}

// sampleOf is how many documents of a collection a $sample picks one by one, as real servers do where it wants fewer than a twentieth of them:
// https://www.mongodb.com/docs/manual/reference/operator/aggregation/sample/. 0 is none.
func (s stage) sampleOf(c *collection) int {
	if s.name != "$sample" {
		return 0
	}
	size, _ := lookup(s.document(), "size")
	if n, ok := asInt(size); ok && n > 0 && n < int64(c.live)/20 {
		return int(n)
	}
	return 0
}

// sample picks n documents, of which there are many more.
func (c *collection) sample(n int) []*record {
	picked := map[*record]bool{}
	records := make([]*record, 0, n)
	for len(records) < n {
		if r := c.records[rand.IntN(len(c.records))]; r.doc != nil && !picked[r] {
			picked[r] = true
			records = append(records, r)
		}
	}
	return records
}
