package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

// Host is the only address on which anything of the sandbox listens.
const Host = "127.0.0.1"

// firstPort keeps away from well-known ports.
const firstPort = 15000

// FreePorts returns n ports on which nothing listens. They lie below those that the kernel gives to outgoing connections, so
// that a port stays free while what listens on it is stopped.
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
		held, ports = append(held, l), append(ports, port)
	}
	return nil, errors.New("no free ports on " + Host)
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
