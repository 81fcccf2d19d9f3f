package compose

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

const (
	file   = "../../docker-compose.yml"
	local  = "battwheels/runbook:local" // the image that is built from the Dockerfile
	binary = "/usr/local/bin/runbook"
)

// load reads a file as strictly as Compose can: its schema, its references, and no variable of this host's environment.
func load(t *testing.T, path string, profiles ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{path}, cli.WithProfiles(profiles), cli.WithConsistency(true),
		cli.WithNormalization(true), cli.WithInterpolation(true), cli.WithLoadOptions(func(o *loader.Options) {
			o.SkipValidation = false
			if o.Interpolate == nil {
				return // it only reads the file's name yet
			}
			o.Interpolate.LookupValue = func(name string) (string, bool) {
				t.Errorf("the file depends on the variable %s of whoever starts it", name)
				return "", false
			}
		}))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := load(t, file, "*")
	require.NoError(t, err)
	require.NotEmpty(t, p.Services)
	return p
}

// each runs a check for every service of the file.
func each(t *testing.T, check func(t *testing.T, p *types.Project, s types.ServiceConfig)) {
	t.Helper()
	p := project(t)
	for name, s := range p.Services {
		t.Run(name, func(t *testing.T) { check(t, p, s) })
	}
}

func TestWithoutProfilesEverythingButThePeoplesToolStarts(t *testing.T) {
	p, err := load(t, file)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"worker", "serve", "schedules", "mongodb", "postgresql", "schema", "temporal", "namespace", "ui"}, p.ServiceNames())
	require.Equal(t, []string{"cli"}, p.DisabledServiceNames())
}

// What the other tests rely on: the loader would say so.
func TestTheLoaderRefuses(t *testing.T) {
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, c := range []struct{ name, old, with, says string }{
		{"a key that Compose does not know", "stop_grace_period: 45s", "stop_grace: 45s", "stop_grace"},
		{"a dependency that does not exist", "mongodb: {condition: service_healthy}", "mongo: {condition: service_healthy}", "mongo"},
		{"a condition that does not exist", "mongodb: {condition: service_healthy}", "mongodb: {condition: service_well}", "condition"},
		{"a secret that is not declared", "secrets: [postgres_password]", "secrets: [password]", "password"},
		{"a volume that is not declared", "- runbook-storage:/var", "- storage:/var", "storage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, string(whole), c.old)
			path := filepath.Join(t.TempDir(), "docker-compose.yml")
			require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(whole), c.old, c.with, 1)), 0o600))
			_, err := load(t, path, "*")
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestEveryImageIsPinned(t *testing.T) {
	version := regexp.MustCompile(`^[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?$`)
	each(t, func(t *testing.T, _ *types.Project, s types.ServiceConfig) {
		if s.Build != nil {
			require.Equal(t, local, s.Image, "what is built here is not taken for what a registry has")
			return
		}
		require.Regexp(t, version, s.Image)
	})
}

func TestEveryPublishedPortIsBoundToThisHostOnly(t *testing.T) {
	published := map[string]uint32{} // the port in the container, by service and the port on this host
	each(t, func(t *testing.T, _ *types.Project, s types.ServiceConfig) {
		require.NotEqual(t, "host", s.NetworkMode)
		for _, port := range s.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP)
			require.NotEmpty(t, port.Published, "a port that is not named may be any")
			published[s.Name+" "+port.Published] = port.Target
		}
	})
	require.Equal(t, map[string]uint32{"serve 8088": 8088, "ui 8233": 8080}, published)
}

func TestSecretsAreFilesOnly(t *testing.T) {
	dir, err := filepath.Abs("../../deploy/compose/secrets")
	require.NoError(t, err)
	for name, s := range project(t).Secrets {
		require.Equal(t, filepath.Join(dir, name), s.File)
		require.Empty(t, s.Environment, name)
		require.Empty(t, s.Content, name)
		require.False(t, bool(s.External), name)
	}
	secret := regexp.MustCompile(`(?i)pass|pwd|token|secret|credential|(^|_)key($|_)|mongo_ur[il]`)
	each(t, func(t *testing.T, p *types.Project, s types.ServiceConfig) {
		require.Empty(t, s.EnvFiles)
		for _, from := range s.Secrets {
			require.Contains(t, p.Secrets, from.Source)
		}
		for name, value := range s.Environment {
			require.NotNil(t, value, "%s is taken from whoever starts it", name)
			if secret.MatchString(name) {
				require.Regexp(t, `_FILE$`, name)
				require.Contains(t, p.Secrets, strings.TrimPrefix(*value, "/run/secrets/"))
			}
			if u, err := url.Parse(*value); err == nil {
				require.Nil(t, u.User, "%s holds a password", name)
			}
		}
	})
}

func TestEveryServiceThatRunsOnIsWatched(t *testing.T) {
	each(t, func(t *testing.T, _ *types.Project, s types.ServiceConfig) {
		if s.Restart != types.RestartPolicyUnlessStopped && s.Restart != types.RestartPolicyAlways {
			require.Nil(t, s.HealthCheck, "it ends by itself")
			return
		}
		require.NotNil(t, s.HealthCheck)
		require.False(t, s.HealthCheck.Disable)
		require.Equal(t, "CMD", s.HealthCheck.Test[0], "a shell is not in every image")
		require.Greater(t, len(s.HealthCheck.Test), 1)
		require.NotNil(t, s.HealthCheck.Interval)
		require.NotNil(t, s.HealthCheck.Timeout)
		require.NotNil(t, s.HealthCheck.Retries)
	})
}

func TestServicesWaitForWhatCanComeTrue(t *testing.T) {
	each(t, func(t *testing.T, p *types.Project, s types.ServiceConfig) {
		for name, d := range s.DependsOn {
			other, there := p.Services[name]
			require.True(t, there, "%s is no service", name)
			require.Empty(t, other.Profiles, "%s does not start by itself", name)
			switch d.Condition {
			case types.ServiceConditionHealthy:
				require.NotNil(t, other.HealthCheck, "%s never becomes healthy", name)
			case types.ServiceConditionCompletedSuccessfully:
				require.Contains(t, other.Restart, types.RestartPolicyOnFailure, "%s never ends", name)
			default:
				require.Fail(t, "a service that has merely started is not ready", "%s: %s", name, d.Condition)
			}
		}
	})
}

func TestRunbookRunsWithoutPrivileges(t *testing.T) {
	p := project(t)
	dockerfile, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	require.Contains(t, string(dockerfile), `ENTRYPOINT ["`+binary+`"]`)
	for _, name := range []string{"worker", "serve"} {
		t.Run(name, func(t *testing.T) {
			s := p.Services[name]
			require.Equal(t, local, s.Image)
			require.Empty(t, s.Entrypoint)
			require.Equal(t, types.ShellCommand{name, "--config", "/etc/runbook/runbook.yaml"}, s.Command)
			require.Equal(t, types.HealthCheckTest{"CMD", binary, name, "--check", "--config", "/etc/runbook/runbook.yaml"}, s.HealthCheck.Test)
			require.Regexp(t, `^[1-9]\d*:[1-9]\d*$`, s.User)
			require.Contains(t, string(dockerfile), "\nUSER "+s.User+"\n")
			require.False(t, s.Privileged)
			require.True(t, s.ReadOnly)
			require.Equal(t, []string{"ALL"}, s.CapDrop)
			require.Empty(t, s.CapAdd)
			require.Equal(t, []string{"no-new-privileges:true"}, s.SecurityOpt)
		})
	}
}
