package temporal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/temporalio/ui-server/v2/server"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"

	"github.com/battwheels/runbook/sandbox/process"
)

// webUI is the running Web UI.
type webUI struct {
	url    string
	server *server.Server
	done   chan error
}

// startUI starts the Web UI on a port that was found free: its server ends the whole program where it cannot listen.
func startUI(ctx context.Context, temporal string, port int) (*webUI, error) {
	if err := process.CheckPort(port); err != nil {
		return nil, fmt.Errorf("temporal: Web UI: %w", err)
	}
	u := &webUI{url: "http://" + process.Address(port), done: make(chan error, 1)}
	u.server = server.NewServer(server_options.WithConfigProvider(&config.Config{
		TemporalGRPCAddress: temporal,
		Host:                process.Host,
		Port:                port,
		EnableUI:            true,
		DefaultNamespace:    Namespace,
		DisableNewsFetch:    true,
		// Without TLS browsers refuse a cookie that asks for it.
		CORS:     config.CORS{CookieInsecure: true},
		HideLogs: true,
	}))
	go func() { u.done <- u.server.Start() }()
	if err := u.await(ctx); err != nil {
		u.stop()
		return nil, fmt.Errorf("temporal: Web UI: %w", err)
	}
	return u, nil
}

// await waits until the Web UI answers for the namespace, and so reaches the server.
func (u *webUI) await(ctx context.Context) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := u.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case ended := <-u.done:
			u.done <- ended
			return errors.Join(errors.New("it ended"), ended)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (u *webUI) answers(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/api/v1/namespaces/"+Namespace, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

func (u *webUI) stop() {
	u.server.Stop()
	<-u.done //nolint:errcheck // it was told to stop; that is its error
}
