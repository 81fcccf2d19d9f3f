package temporal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/battwheels/runbook/sandbox/process"
)

// clusterName is how the server calls itself.
const clusterName = "active"

// retention is how long the histories of closed workflows stay.
const retention = 30 * 24 * time.Hour

// internalServices are the server's parts that only the server itself talks to, in the order of their ports.
var internalServices = []primitives.ServiceName{primitives.HistoryService, primitives.MatchingService, primitives.WorkerService}

// dynamicSettings suit one machine with few workflows.
var dynamicSettings = dynamicconfig.StaticClient{
	// One partition for each queue: with more, a poll may wait beside a task.
	dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
	dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
	// The Web UI asks often.
	dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
}

// openStore makes the database with its schema and its namespace, where it is not there yet.
func openStore(file string, keywords []string) (*config.SQL, error) {
	store := &config.SQL{PluginName: sqlite.PluginName, DatabaseName: file, ConnectAttributes: map[string]string{}}
	if file == "" {
		// Every name is a database of its own.
		store.DatabaseName = uuid.NewString()
		store.ConnectAttributes["mode"] = "memory"
		store.ConnectAttributes["cache"] = "shared"
	} else {
		if err := makeFile(file); err != nil {
			return nil, err
		}
		store.ConnectAttributes["mode"] = "rw"
		store.ConnectAttributes["journal_mode"] = "wal"
		store.ConnectAttributes["synchronous"] = "normal"
	}
	types := map[string]enums.IndexedValueType{}
	for _, k := range keywords {
		types[k] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	namespace, err := sqliteschema.NewNamespaceConfig(clusterName, Namespace, false, types)
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", Namespace, err)
	}
	namespace.Detail.Config.Retention = durationpb.New(retention)
	if err := sqliteschema.CreateNamespaces(store, namespace); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", Namespace, err)
	}
	return store, nil
}

// makeFile makes a database with its schema under another name first, so that one that was interrupted is never used.
func makeFile(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	unfinished := file + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := sqliteschema.SetupSchema(&config.SQL{PluginName: sqlite.PluginName, DatabaseName: unfinished,
		ConnectAttributes: map[string]string{"mode": "rwc"}})
	if err != nil {
		return fmt.Errorf("make the schema: %w", err)
	}
	return os.Rename(unfinished, file)
}

func serverConfig(store *config.SQL, port int, internal []int) *config.Config {
	frontend := process.Address(port)
	services := map[string]config.Service{string(primitives.FrontendService): service(port)}
	for i, name := range internalServices {
		services[string(name)] = service(internal[i])
	}
	return &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     sqlite.PluginName,
			VisibilityStore:  sqlite.PluginName,
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{sqlite.PluginName: {SQL: store}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		PublicClient: config.PublicClient{HostPort: frontend},
	}
}

func service(port int) config.Service {
	return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: process.Host}}
}

// hosts tells the parts of the server where the others are, in the place of a membership that would need ports of its own.
func hosts(port int, internal []int) map[primitives.ServiceName]static.Hosts {
	all := map[primitives.ServiceName]static.Hosts{primitives.FrontendService: static.SingleLocalHost(process.Address(port))}
	for i, name := range internalServices {
		all[name] = static.SingleLocalHost(process.Address(internal[i]))
	}
	return all
}
