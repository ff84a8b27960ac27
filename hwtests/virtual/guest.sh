#!/bin/busybox sh
# The guest's first process: drivers, the host's root (read-only, 9p) under a file system in memory, names for the NICs, then the agent.
# `first` runs from the initrd, `second` on the new root. rack.conf is written by machine.py and says:
# MODULES, NSIM, NICS ("MAC=name ..."), KERNEL_MODULES (host's directory), RELEASE, AGENT (command), SHELL_WANTED.
busybox=/bin/busybox

off() {  # a guest that cannot go on says why on the serial console and ends
  [ -z "$1" ] || echo "rack: $1"
  $busybox poweroff -f
}

first() {
  $busybox mount -t devtmpfs dev /dev; $busybox mount -t proc proc /proc; $busybox mount -t sysfs sys /sys
  for module in $MODULES; do $busybox insmod /modules/$module || off "insmod $module"; done
  $busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /host || off "mount of the host's root"
  $busybox mount -t tmpfs -o size=75% memory /memory && $busybox mkdir /memory/up /memory/work
  $busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/up,workdir=/memory/work root /new || off "overlay over the host's root"
  for place in dev proc sys; do $busybox mount --move /$place /new/$place; done
  $busybox mount -t tmpfs -o mode=0755 run /new/run
  $busybox mkdir /new/run/rack && $busybox cp /bin/busybox /guest.sh /rack.conf /new/run/rack || off "copy to /run/rack"
  exec $busybox switch_root /new /run/rack/busybox sh /run/rack/guest.sh second
}

second() {
  busybox=/run/rack/busybox
  mounts
  ip=$(command -v ip)
  $ip link set lo up
  # A NIC that nobody gave an address is silent: no router solicitation among the frames that a test counts.
  for setting in /proc/sys/net/ipv6/conf/*; do echo 1 > "$setting/addr_gen_mode"; echo 0 > "$setting/accept_ra"; done
  for device in /sys/class/net/*; do name "${device##*/}" "$(cat "$device/address")"; done
  simulated
  if [ -n "$SHELL_WANTED" ]; then
    cd "$SHELL_WANTED" && $busybox setsid -c sh -c 'exec bash -i </dev/ttyS0 >/dev/ttyS0 2>&1'
  else
    agent
  fi
  off
}

mounts() {
  mkdir -p /dev/pts /dev/shm /run/netns /run/lock
  $busybox mount -t devpts -o ptmxmode=0666 pts /dev/pts; $busybox mount -t tmpfs shm /dev/shm
  $busybox mount -t bpf bpf /sys/fs/bpf; $busybox mount -t cgroup2 cgroup /sys/fs/cgroup
  $busybox mount -t debugfs debug /sys/kernel/debug; $busybox mount -t tracefs trace /sys/kernel/tracing
  # What netc installed on the host is not installed here.
  mkdir -p /var/lib/netc "/lib/modules/$RELEASE" && $busybox mount -t tmpfs -o mode=0700 netc /var/lib/netc
  $busybox mount --bind "$KERNEL_MODULES" "/lib/modules/$RELEASE"
  echo "$TOOLS/modprobe" > /proc/sys/kernel/modprobe
  echo rack > /proc/sys/kernel/hostname
}

name() {  # DEVICE MAC
  for pair in $NICS; do
    [ "${pair%=*}" = "$2" ] || continue
    $ip link set "$1" down; $ip link set "$1" name "${pair#*=}" || off "name of $1"
    return
  done
}

simulated() {  # NSIM: "PORTS QUEUES"
  [ -n "$NSIM" ] || return 0
  echo "10 $NSIM" > /sys/bus/netdevsim/new_device || off "netdevsim with $NSIM (ports, queues)"
  for device in /sys/bus/netdevsim/devices/netdevsim10/net/*; do
    port=$(cat "$device/phys_port_name")  # p1, p2, ...
    $ip link set "${device##*/}" name "nsim$((${port#p} - 1))" || off "name of ${device##*/}"
  done
}

agent() {
  for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = netc.agent ] || continue
    exec 3<>"/dev/${port##*/}"
    $AGENT <&3 >&3 3>&- || echo "rack: the agent ended with status $?"
    return
  done
  off "no virtio-serial port named netc.agent"
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
. "$([ "$1" = second ] && echo /run/rack/rack.conf || echo /rack.conf)"
export PATH="$TOOLS:$PATH"
trap 'off "the guest was not set up: see above"' EXIT  # an error of the shell itself
"${1:-first}"
