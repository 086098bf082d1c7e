package stage

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

const (
	// replicaStep separates the ports of a service's replicas: the second listens 200 above the first.
	replicaStep = 200

	// replicasMax keeps the ports of all replicas below 32768, where those of outgoing connections begin.
	replicasMax = 16
)

// A service is a subcommand of the program that runs all the time.
type service struct {
	name  string
	port  int      // where it listens if nothing else is asked for; its debug port is one above
	owns  bool     // has a database of its own
	jobs  bool     // signs jobs or checks their signature
	asks  []string // whose gRPC it calls
	staff bool     // knows the staff's key
}

// services in the order in which they are replaced: who is asked comes before who asks.
// They stop the other way round, so that the door closes first.
var services = []service{
	{name: "catalogue", port: 9140, owns: true},
	{name: "inventory", port: 9100, owns: true},
	{name: "payments", port: 9130, owns: true},
	{name: "cartmanager", port: 9110, owns: true, jobs: true, asks: []string{"catalogue", "inventory"}},
	{name: "checkoutmanager", port: 9120, owns: true, jobs: true, asks: []string{"inventory", "payments", "cartmanager"}},
	{name: "gateway", port: 5003, jobs: true, staff: true, asks: []string{"catalogue", "inventory", "cartmanager", "checkoutmanager"}},
}

func serviceNamed(name string) (service, error) {
	i := slices.IndexFunc(services, func(s service) bool { return s.name == name })
	if i < 0 {
		names := make([]string, len(services))
		for i, s := range services {
			names[i] = s.name
		}
		return service{}, fmt.Errorf("no service is called %q; there are %s", name, strings.Join(names, ", "))
	}
	return services[i], nil
}

func (s service) upper() string { return strings.ToUpper(s.name) }

// address is where a replica listens, 1 being the first: the service's, or its debug server's.
func (s service) address(settings map[string]string, replica int, debug bool) (string, error) {
	key, port := s.listenSetting(debug), s.port
	if debug {
		port++
	}
	value := settings[key]
	if value == "" {
		shift, err := shiftOf(settings)
		if err != nil {
			return "", err
		}
		value = local(port + shift)
	}
	host, digits, err := net.SplitHostPort(value)
	if err != nil {
		return "", fmt.Errorf("%s=%s: %w", prefix+key, value, err)
	}
	port, err = strconv.Atoi(digits)
	if err != nil || port < 1 {
		return "", fmt.Errorf("%s=%s: port must be a number above 0", prefix+key, value)
	}
	port += replicaStep * (replica - 1)
	if port > 65535 {
		return "", fmt.Errorf("%s=%s: replica %d would listen on port %d; ports end at 65535", prefix+key, value, replica, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// shiftMax keeps every port of a full shop below 32768.
const shiftMax = 20000

// shiftOf is how far above its default every port is that has no setting of its own, so that a
// second shop on a machine needs one setting and not sixteen.
func shiftOf(settings map[string]string) (int, error) {
	value := settings["PORT_SHIFT"]
	if value == "" {
		return 0, nil
	}
	shift, err := strconv.Atoi(value)
	if err != nil || shift < 0 || shift > shiftMax {
		return 0, fmt.Errorf("%sPORT_SHIFT=%s: must be 0 to %d", prefix, value, shiftMax)
	}
	return shift, nil
}

func (s service) listenSetting(debug bool) string {
	if debug {
		return s.upper() + "_DEBUG_LISTEN"
	}
	return s.upper() + "_LISTEN"
}

// reachable turns an address to listen on into one that this machine can connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
