#!/bin/bash
# First process of the remote node, in mount and pid namespaces of its own (usage: node-init.sh <folder>). It gives the node its own
# /run, /var/log and /var/lib, so that the kubelet and containerd leave nothing on the host; everything mounted or started in
# here goes away with this process.
set -eu
folder=$1

mount -t tmpfs -o mode=755 tmpfs /run
for path in /var/log /var/lib; do
  mkdir -p "$folder$path"
  mount --bind "$folder$path" "$path"
done
mkdir -p /run/netns /var/lib/cni /var/lib/kubelet /var/lib/containerd

# The kubelet sets these for the whole machine when they differ from what it wants. Show it what it wants instead.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=$folder/sysctl/${setting%%=*}
  mkdir -p "${file%/*}"
  echo "${setting#*=}" > "$file"
  mount --bind "$file" "/proc/sys/${setting%%=*}"
done

: > "$folder/ready"
# As the first process it inherits orphans; bash collects them while it waits.
while :; do
  sleep 3600 &
  wait $! || true
done
