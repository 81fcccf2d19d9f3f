package process_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/sandbox/process"
)

// roleEnv tells this test program which child to be.
const roleEnv = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "polite":
		ctx, stop := process.Context(context.Background())
		defer stop()
		fmt.Println("ready to serve")
		<-ctx.Done()
		fmt.Println("ended because of:", context.Cause(ctx))
		if mark := os.Getenv("MARK"); mark != "" {
			_ = os.WriteFile(mark, []byte(context.Cause(ctx).Error()), 0o600)
		}
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready to serve")
		select {}
	case "environment":
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "TEMPORAL_") {
				fmt.Println(v)
			}
		}
		select {}
	case "broken":
		fmt.Println("cannot open the shop")
		os.Exit(7)
	case "parent":
		child, err := process.Start(childSpec("polite", ""))
		if err == nil {
			err = child.AwaitReady(context.Background())
		}
		fmt.Println("child", child.PID(), err)
		select {}
	}
}

func childSpec(role, log string) process.Spec {
	command, err := process.Self()
	if err != nil {
		panic(err)
	}
	return process.Spec{Name: role, Command: command, Env: []string{roleEnv + "=" + role}, Log: log, Ready: "ready to serve"}
}

func start(t *testing.T, s process.Spec) *process.Process {
	t.Helper()
	p, err := process.Start(s)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAProcessIsReadyWhenItSaysSo(t *testing.T) {
	log := filepath.Join(t.TempDir(), "logs", "polite.log")
	p := start(t, childSpec("polite", log))
	require.NoError(t, p.AwaitReady(within(t)))

	exit, err := p.Stop(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, 0, exit.Code)
	said, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(said), "ready to serve\nended because of: ")
}

func TestAProcessThatEndsInsteadFailsWithItsLastWords(t *testing.T) {
	p := start(t, childSpec("broken", ""))
	require.EqualError(t, p.AwaitReady(within(t)),
		"broken ended with exit code 7 before it was ready; its last words:\n  cannot open the shop")
}

func TestAProcessDoesNotSeeWhatIsHidden(t *testing.T) {
	t.Setenv("TEMPORAL_API_KEY", "of another cluster")
	s := childSpec("environment", "")
	s.Env, s.Hide, s.Ready = append(s.Env, "TEMPORAL_ADDRESS=here"), "TEMPORAL_", "TEMPORAL_"
	p := start(t, s)
	require.NoError(t, p.AwaitReady(within(t)))
	require.Equal(t, []string{"TEMPORAL_ADDRESS=here"}, p.LastLines())
}

func TestWhoDoesNotStopIsKilled(t *testing.T) {
	p := start(t, childSpec("stubborn", ""))
	require.NoError(t, p.AwaitReady(within(t)))
	exit, err := p.Stop(100 * time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, exit.Signal)
	require.NoError(t, p.Kill(), "killing a dead process is no error")
}

func TestAChildEndsWhenItsParentIsKilled(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	s := childSpec("parent", "")
	s.Env, s.Ready = append(s.Env, "MARK="+mark), "child "
	parent := start(t, s)
	require.NoError(t, parent.AwaitReady(within(t)))
	require.NoError(t, parent.Kill())
	require.Eventually(t, func() bool {
		said, err := os.ReadFile(mark)
		return err == nil && string(said) == process.ErrOrphaned.Error()
	}, 20*time.Second, 20*time.Millisecond)
}

// Nothing listens on the ports that were given away, and still nobody else gets one of them.
func TestFreePortsAreGivenToNobodyElse(t *testing.T) {
	given := map[int]bool{}
	for range 200 {
		ports, err := process.FreePorts(6)
		require.NoError(t, err)
		for _, p := range ports {
			require.False(t, given[p], "port %d was given away twice", p)
			given[p] = true
		}
	}
}

func TestFreePortsAreNeverGivenToOutgoingConnections(t *testing.T) {
	ports, err := process.FreePorts(5)
	require.NoError(t, err)
	require.Len(t, ports, 5)
	for _, port := range ports {
		require.NoError(t, process.CheckPort(port))
	}
	l, err := net.Listen("tcp", process.Address(0))
	require.NoError(t, err)
	defer l.Close()
	_, text, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	given, err := strconv.Atoi(text)
	require.NoError(t, err)
	for _, port := range ports {
		require.Less(t, port, given, "the kernel gives ports from its own range")
	}
	require.ErrorContains(t, process.CheckPort(given), "choose another one")
}
