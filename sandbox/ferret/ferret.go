// Package ferret embeds FerretDB v1 on SQLite: a real database with a real wire protocol, in this process. It may be stopped
// and started again on the same directory and address.
package ferret

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// Database is a running FerretDB.
type Database struct {
	uri  string
	stop context.CancelFunc
	done chan error
}

// Start serves the databases in a directory at address, which may be empty for a free port of the loopback interface.
func Start(dir, address string, log *slog.Logger) (*Database, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("FerretDB: %w", err)
	}
	if address == "" {
		// FerretDB tells its port only while it runs, so one is chosen for it.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("FerretDB: %w", err)
		}
		address = l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("FerretDB: %w", err)
		}
	}
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("FerretDB: %w", err)
	}
	f, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{TCP: address}, Handler: "sqlite",
		SQLiteURL: (&url.URL{Scheme: "file", Opaque: abs + "/"}).String(), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("FerretDB: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &Database{uri: "mongodb://" + address + "/", stop: stop, done: make(chan error, 1)}
	go func() { d.done <- f.Run(ctx) }()
	return d, nil
}

// URI is the connection string.
func (d *Database) URI() string { return d.uri }

// Stop closes every connection and the files.
func (d *Database) Stop() error {
	d.stop()
	return <-d.done
}
