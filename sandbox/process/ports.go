package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is the only address on which anything of the sandbox listens.
const Host = "127.0.0.1"

// firstPort keeps away from well-known ports.
const firstPort = 15000

// FreePorts returns n ports on which nothing listens. They lie below those that the kernel gives to outgoing connections, so
// that a port stays free while what listens on it is stopped, and no other sandbox of this user gets them while this process lives.
func FreePorts(n int) ([]int, error) {
	end := ephemeral()
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range 50 * (n + 1) {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(end-firstPort)
		l, err := net.Listen("tcp", Address(port))
		if err != nil {
			continue
		}
		held = append(held, l)
		switch reserved, err := reserve(port); {
		case err != nil:
			return nil, fmt.Errorf("reserve port %d: %w", port, err)
		case reserved:
			ports = append(ports, port)
		}
	}
	return nil, errors.New("no free ports on " + Host)
}

// reserve takes a port's name among the abstract sockets, which the kernel frees when this process ends: between the look at a port
// and the listener on it, another sandbox may look at it too. The descriptor is left open on purpose. Other systems than Linux
// have no such names; there two sandboxes that start in the same moment may choose the same port.
func reserve(port int) (bool, error) {
	if runtime.GOOS != "linux" {
		return true, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return false, err
	}
	unix.CloseOnExec(fd)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@runbook-sandbox-port-%d", port)})
	if err == nil {
		return true, nil
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = nil
	}
	return false, errors.Join(err, unix.Close(fd))
}

// Address is host and port of a port on this machine.
func Address(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }

// ephemeral is the first port that the kernel gives to outgoing connections.
func ephemeral() int {
	const usual = 32768
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	first, err := strconv.Atoi(strings.Fields(string(b) + " 0")[0])
	if err != nil || first <= firstPort+1000 {
		return usual
	}
	return first
}

// CheckPort says whether something could listen on a port that a person asked for.
func CheckPort(port int) error {
	l, err := net.Listen("tcp", Address(port))
	if err != nil {
		return fmt.Errorf("port %d: %w; choose another one, or 0 for a free one", port, err)
	}
	return l.Close()
}
