#!/bin/sh
# A pod behind the node's router, the node, and the metadata service next to it: three network namespaces over veth. This
# shell is the node; it has to run in a network namespace of its own, and everything that it makes ends with it.
# Arguments: the test binary. Prints a line for each client, address family and hop limit.
set -eu
exe=$1

unshare --net sleep 60 &
imds=$!
unshare --net sleep 60 &
pod=$!
service=
# shellcheck disable=SC2086 # no service yet: no argument
trap 'kill $imds $pod $service 2>/dev/null || true' EXIT
trap 'exit 1' TERM INT HUP

for pid in "$imds" "$pod"; do
  until [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
done

ip link set lo up
ip link add to-imds type veth peer name eth0 netns "$imds"
ip link add to-pod type veth peer name eth0 netns "$pod"
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip addr add 169.254.169.253/30 dev to-imds
ip addr add fd00:ec2::1/64 dev to-imds nodad
ip addr add 10.0.0.1/24 dev to-pod
ip addr add fd00::1/64 dev to-pod nodad
ip link set to-imds up
ip link set to-pod up

at_imds() { nsenter --target "$imds" --net "$@"; }
at_pod() { nsenter --target "$pod" --net "$@"; }

at_imds ip addr add 169.254.169.254/30 dev eth0
at_imds ip addr add fd00:ec2::254/64 dev eth0 nodad
at_imds ip link set eth0 up
at_imds ip route add default via 169.254.169.253
at_imds ip route add default via fd00:ec2::1
at_pod ip addr add 10.0.0.2/24 dev eth0
at_pod ip addr add fd00::2/64 dev eth0 nodad
at_pod ip link set eth0 up
at_pod ip route add default via 10.0.0.1
at_pod ip route add default via fd00::1

# Not through the function: its subshell would be killed instead of the service.
nsenter --target "$imds" --net "$exe" --exact imds::hop_limit::service --ignored --nocapture &
service=$!
CLIENT=node "$exe" --exact imds::hop_limit::client --ignored --nocapture
CLIENT=pod nsenter --target "$pod" --net "$exe" --exact imds::hop_limit::client --ignored --nocapture
