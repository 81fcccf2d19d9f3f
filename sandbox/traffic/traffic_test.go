package traffic

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/judge"
	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/seed"
)

// scene is an application on a small database, whose address stays the same when it stops and starts.
type scene struct {
	t       *testing.T
	server  *mongotest.Server
	db      *mongo.Database
	book    *ledger.Ledger
	tenants []string
	address string
	app     *http.Server
	ended   chan struct{}
	busy    sync.WaitGroup // requests that the application has in hand
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, server: mongotest.Start(t), book: ledger.New()}
	s.db = s.server.Client(t).Database("battwheels")
	data := seed.Generate(seed.Options{Seed: 1, Scale: 0.02})
	require.NoError(t, data.Load(t.Context(), s.db, nil))
	require.NoError(t, s.book.Baseline(t.Context(), s.db))
	for _, o := range data.Organizations[:8] {
		s.tenants = append(s.tenants, o.ID)
	}
	s.address = "127.0.0.1:0"
	s.open(garage.New(s.db, garage.Config{Token: "s"}))
	t.Cleanup(func() { _ = s.app.Close() })
	return s
}

func (s *scene) open(h http.Handler) {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	require.NoError(s.t, err)
	s.address = l.Addr().String()
	app, ended := &http.Server{ReadHeaderTimeout: time.Second}, make(chan struct{})
	app.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.busy.Add(1)
		defer s.busy.Done()
		h.ServeHTTP(w, r)
	})
	s.app, s.ended = app, ended
	go func() { _ = app.Serve(l); close(ended) }()
}

func (s *scene) start(change func(*Config)) *Traffic {
	s.t.Helper()
	c := Config{URL: "http://" + s.address, Secret: "s", Organizations: s.tenants, Rate: 300, Ledger: s.book, Seed: 1}
	if change != nil {
		change(&c)
	}
	users, err := Start(s.t.Context(), c)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { users.Stop() })
	return users
}

// now is the whole truth of this moment, in which nobody writes.
func (s *scene) now() judge.Verdict {
	s.t.Helper()
	moment := ledger.Window{From: time.Now(), To: time.Now()}
	v, err := judge.Judge(s.t.Context(), s.db, s.book.Expect(ledger.Cut{Window: moment}))
	require.NoError(s.t, err)
	return v
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestTheLedgerHoldsWhatTheDatabaseHolds(t *testing.T) {
	s := newScene(t)
	users := s.start(nil)
	require.NoError(t, users.AwaitRequests(within(t), 400))
	stats := users.Stop()
	require.Zero(t, stats.Unanswered)
	require.Zero(t, stats.Failed)
	require.Equal(t, stats.Documents, s.book.Writes())
	v := s.now()
	require.True(t, v.Recovered, "%v", v.Differences)
	require.Zero(t, v.Either)
	require.Zero(t, v.Lost.Total())

	var saved bytes.Buffer
	require.NoError(t, s.book.Save(&saved))
	require.Equal(t, int(s.book.Writes()), bytes.Count(saved.Bytes(), []byte("\n")))
	for _, operation := range []string{"insert", "replace", "delete"} {
		require.Contains(t, saved.String(), `"operation":"`+operation+`"`)
	}
}

func TestAPauseIsQuiet(t *testing.T) {
	s := newScene(t)
	users := s.start(nil)
	require.NoError(t, users.AwaitRequests(within(t), 20))
	require.NoError(t, users.Pause(within(t)))
	before := users.Stats()
	require.True(t, s.now().Recovered)
	require.Equal(t, before, users.Stats())
	users.Resume()
	require.NoError(t, users.AwaitRequests(within(t), 20))
}

func TestWhenTheApplicationStopsTheWritersHoldUntilTheyAreToldToGoOn(t *testing.T) {
	s := newScene(t)
	users := s.start(nil)
	require.NoError(t, users.AwaitRequests(within(t), 50))
	require.NoError(t, s.app.Shutdown(within(t)))
	<-s.ended
	require.NoError(t, users.AwaitAway(within(t)))
	require.NoError(t, users.Pause(within(t)))
	stats := users.Stats()
	require.LessOrEqual(t, stats.Unanswered, int64(4), "at most one for each writer")
	require.Len(t, users.Outages(), 1)
	require.True(t, users.Outages()[0].To.IsZero())

	s.open(garage.New(s.db, garage.Config{Token: "s"}))
	require.NoError(t, users.AwaitBack(within(t)))
	outage := users.Outages()[0]
	require.True(t, outage.To.After(outage.From))
	require.Equal(t, stats.Requests, users.Stats().Requests, "they hold")
	require.True(t, s.now().Recovered)
	users.Resume()
	require.NoError(t, users.AwaitRequests(within(t), 50))
	users.Stop()
	require.True(t, s.now().Recovered)
}

func TestWritersThatReturnByThemselves(t *testing.T) {
	s := newScene(t)
	users := s.start(func(c *Config) { c.Return = true })
	require.NoError(t, users.AwaitRequests(within(t), 20))
	require.NoError(t, s.app.Shutdown(within(t)))
	<-s.ended
	require.NoError(t, users.AwaitAway(within(t)))
	s.open(garage.New(s.db, garage.Config{Token: "s"}))
	require.NoError(t, users.AwaitRequests(within(t), 20))
}

// The application is killed: requests in hand get no answer, and whatever they did must be neither asked for nor held
// against a restore.
func TestAKilledApplicationLeavesDoubtAndNoFalseVerdict(t *testing.T) {
	s := newScene(t)
	users := s.start(func(c *Config) { c.Rate = 2000 })
	require.NoError(t, users.AwaitRequests(within(t), 50))
	hold := make(chan struct{})
	fault := s.server.Fail(mongotest.Fault{Command: "insert", Namespace: "battwheels.invoice_history", Hold: hold, Times: 1})
	require.Eventually(t, func() bool { return fault.Struck() > 0 }, 20*time.Second, time.Millisecond)
	require.NoError(t, s.app.Close())
	<-s.ended
	require.NoError(t, users.AwaitAway(within(t)))
	close(hold)
	stats := users.Stop()
	require.Positive(t, stats.Unanswered)
	s.busy.Wait() // a killed process would not go on; the handlers of a closed server do
	v := s.now()
	require.True(t, v.Recovered, "%v", v.Differences)
	require.Positive(t, v.Unanswered)
}

func TestAnErrorIsNoOutage(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"code":1,"written":[]}`))
	}))
	t.Cleanup(app.Close)
	users, err := Start(t.Context(), Config{URL: app.URL, Secret: "s", Organizations: []string{"org_1"}, Rate: 1000})
	require.NoError(t, err)
	require.NoError(t, users.await(within(t), "failures", func() bool { return users.stats.Failed > 20 }))
	stats := users.Stop()
	require.Zero(t, stats.Requests)
	require.Empty(t, users.Outages())
}

func TestARogueWritesPastTheApplication(t *testing.T) {
	s := newScene(t)
	rogue, err := StartRogue(t.Context(), s.server.URI(), "battwheels", "nightly-import", time.Millisecond, s.book)
	require.NoError(t, err)
	want := s.book.Writes() + 5
	require.Eventually(t, func() bool { return s.book.Writes() >= want }, 10*time.Second, time.Millisecond)
	n, err := rogue.Stop(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 5)
	require.True(t, s.now().Recovered)
}

func TestTrafficNeedsTenants(t *testing.T) {
	_, err := Start(t.Context(), Config{})
	require.ErrorContains(t, err, "no organizations")
}
