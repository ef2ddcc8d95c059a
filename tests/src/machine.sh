#!/bin/busybox sh
# The first and only program of a machine without a display. It loads /modules/*.ko in order, then runs commands from
# the serial line, one a line, and says how each ended.

# Links made by --install name what /proc/self/exe says is running.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec < /dev/ttyS0 > /dev/ttyS0 2>&1
stty -echo

for module in /modules/*.ko; do
    insmod "$module" || echo "MACHINE: FAILED insmod $module"
done
# From here on the kernel must not write into the middle of our lines.
dmesg -n 1
echo "MACHINE: READY $(uname -r)"

while read -r command; do
    eval "$command"
    echo "MACHINE: ENDED $?"
done
