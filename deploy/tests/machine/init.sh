#!/usr/bin/env bash
# Becomes PID 1 of a machine: init.sh BASE FOLDER, in namespaces of its own (../machine.sh).
set -euo pipefail
base=$1 root=$2/root
mount -t tmpfs tmpfs "$2"
mkdir "$2"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$base,upperdir=$2/upper,workdir=$2/work" "$root"
cd "$root"

mount -t proc proc proc
# Most of it is not of a namespace, and no business of a guest.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

mkdir -p old
pivot_root . old
umount --lazy /old
# Else the folders of credentials stay empty.
mount --make-rshared /
hostname edge-1
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --log-target=journal
