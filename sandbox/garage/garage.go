// Package garage is the application that the sandbox protects: a small stand-in for the first user's multi-tenant
// service, with its health check that answers 200 when broken, its audit log, its silent deletions and its counters in
// the database. It really reads and writes the database, tells a writer exactly which bytes it stored, and says so only
// when the database has acknowledged them. The sandbox runs it as a process of its own, which supervisor stops and starts.
package garage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Version is what the health check reports.
const Version = "4.2.0"

// AppName is how the application's connections name themselves to the database.
const AppName = "battwheels-backend"

// Config says where the application listens and what it works on.
type Config struct {
	Listen   string // host:port; port 0 takes a free one
	MongoURI string
	Database string
	Token    string // the secret that signs bearer tokens
	// NestedAudit makes the audit log answer in its other shape, with audit_logs as an object.
	NestedAudit bool
	// Ready, where set, is told the address once requests are answered.
	Ready func(address string)
	Log   *slog.Logger // default slog.Default()
}

// drain is how long a request may go on after the application was told to stop; supervisor waits 30 s before it kills.
const drain = 20 * time.Second

// Run serves until the context ends, then lets the requests in hand finish.
func Run(ctx context.Context, c Config) error {
	if c.Token == "" {
		return errors.New("garage: no token: give the secret that signs bearer tokens")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	client, err := mongo.Connect(options.Client().ApplyURI(c.MongoURI).SetAppName(AppName).
		SetServerSelectionTimeout(2 * time.Second).SetConnectTimeout(2 * time.Second).
		SetWriteConcern(writeconcern.Majority()))
	if err != nil {
		return fmt.Errorf("garage: connect to the database: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = client.Disconnect(closing)
	}()

	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("garage: listen: %w", err)
	}
	app := New(client.Database(c.Database), c)
	server := &http.Server{Handler: app, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	c.Log.Info("the garage is open", "address", listener.Addr().String(), "database", c.Database)
	if c.Ready != nil {
		c.Ready(listener.Addr().String())
	}

	select {
	case err := <-served:
		return fmt.Errorf("garage: serve: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		return fmt.Errorf("garage: requests were still running %s after the stop: %w", drain, errors.Join(err, server.Close()))
	}
	c.Log.Info("the garage is closed")
	return nil
}

// App is the application as an HTTP handler.
type App struct {
	store  *store
	secret string
	nested bool
	log    *slog.Logger
	mux    *http.ServeMux
}

// New makes the application on a database.
func New(db *mongo.Database, c Config) *App {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	a := &App{store: newStore(db), secret: c.Token, nested: c.NestedAudit, log: c.Log, mux: http.NewServeMux()}
	a.mux.HandleFunc("GET /api/health", a.health)
	a.mux.HandleFunc("GET /api/audit-logs", a.authorized(a.auditLogs, "org_admin", "admin", "owner"))

	a.writes("POST /api/tickets", createTicket)
	a.writes("PUT /api/tickets/{id}", updateTicket)
	a.writes("DELETE /api/tickets/{id}", deleteTicket, "owner", "admin", "org_admin")

	a.writes("POST /api/contacts", createContact)
	a.writes("PUT /api/contacts/{id}", updateContact)
	a.writes("DELETE /api/contacts/{id}", deleteContact, "owner", "admin", "org_admin")

	a.writes("POST /api/invoices", createInvoice, "owner", "admin", "org_admin", "accountant")
	a.writes("PUT /api/invoices/{id}", updateInvoice, "owner", "admin", "org_admin", "accountant")
	a.writes("POST /api/invoices/{id}/void", voidInvoice, "owner", "admin", "org_admin")
	a.writesWithin(bulkTimeout, "POST /api/invoices/bulk-delete", deleteInvoices(false), "owner", "admin", "org_admin", "accountant")
	a.writesWithin(bulkTimeout, "POST /api/invoices/purge", deleteInvoices(true), "owner", "admin", "org_admin")
	a.writes("DELETE /api/invoices/{id}", deleteInvoice, "owner", "admin", "org_admin", "accountant")

	a.writes("POST /api/payments", createPayment, "owner", "admin", "org_admin", "accountant")
	a.writes("DELETE /api/payments/{id}", deletePayment, "owner", "admin", "org_admin")

	for path, kind := range readable {
		a.mux.HandleFunc("GET /api/"+path, a.authorized(a.list(kind)))
		a.mux.HandleFunc("GET /api/"+path+"/{id}", a.authorized(a.read(kind)))
	}
	return a
}

// ServeHTTP answers one request.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }
