#!/bin/busybox sh
# The first and only program of a test guest. It loads /modules/*.ko in order, says on the serial line what it
# sees of the display ("GUEST: ..." lines), then obeys commands from there, one a line.

# Links made by --install name what /proc/self/exe says is running.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# /dev/console is the screen: the kernel's command line names tty1 last.
exec < /dev/ttyS0 > /dev/ttyS0 2>&1
stty -echo

for module in /modules/*.ko; do
    insmod "$module" || echo "GUEST: FAILED insmod $module"
done
tries=0
until [ -e /dev/fb0 ]; do
    tries=$((tries + 1))
    [ $tries -gt 100 ] && echo "GUEST: FAILED no /dev/fb0" && break
    usleep 100000
done
# From here on the kernel must not write into the middle of our lines.
dmesg -n 1

# bind 0|1: take the framebuffer from the text console, or give it back.
bind() {
    for console in /sys/class/vtconsole/vtcon*; do
        grep -q "frame buffer" "$console/name" && echo "$1" > "$console/bind"
    done
}

fb=/sys/class/graphics/fb0
for edid in /sys/class/drm/card*-*/edid; do
    [ -e "$edid" ] && echo "GUEST: EDID $(hexdump -v -e '1/1 "%02x"' "$edid")"
    [ -e "$edid" ] && echo "GUEST: MODES $(cat "${edid%edid}modes" | tr '\n' ' ')"
done
echo "GUEST: LINUX $(uname -r)"
# READY WxH STRIDE BITS
echo "GUEST: READY $(tr , x < $fb/virtual_size) $(cat $fb/stride) $(cat $fb/bits_per_pixel)"

# draw W,H: show the part of the picture that fills W x H pixels on every framebuffer of that size. In one write: Linux 6.12
# takes a write of exactly one line for an empty one (drm_fb_helper_memory_range_to_clip).
draw() {
    bytes=$((${1%,*} * ${1#*,} * 4))
    drawn=1
    printf '\033[?25l' > /dev/tty1
    bind 0
    for it in /sys/class/graphics/fb[0-9]; do
        grep -qx "$1" "$it/virtual_size" 2> /dev/null || continue
        # A display that never had the text console is still off.
        echo 0 > "$it/blank"
        dd if=/picture.raw of="/dev/${it##*/}" bs=$bytes count=1 2> /dev/null && drawn=0
    done
    return $drawn
}

while read -r command; do
    case "$command" in
    picture)
        printf '\033[?25l' > /dev/tty1
        bind 0
        if cat /picture.raw > /dev/fb0; then
            echo "GUEST: PICTURE"
        else
            echo "GUEST: FAILED to write /dev/fb0"
        fi
        ;;
    text)
        bind 1
        { printf '\033[2J\033[H\033[44;37m'; for line in 1 2 3 4 5 6 7 8; do echo "guest text line $line"; done; } > /dev/tty1
        echo "GUEST: TEXT"
        ;;
    shell)
        # One shell at a time: they would share what is typed. The keyboard's language is that of the kernel, US.
        [ -n "$shell" ] && kill -9 "$shell"
        bind 1
        printf '\033[0m\033[2J\033[H\033[?25l' > /dev/tty1
        setsid sh -c 'exec sh -i < /dev/tty1 > /dev/tty1 2>&1' &
        shell=$!
        echo "GUEST: SHELL"
        ;;
    driver)
        # The driver, again: it looks at the monitor only when it comes.
        bind 0
        for device in /sys/bus/pci/drivers/bochs-drm/0000:*; do
            name="${device##*/}"
            echo "$name" > "${device%/*}/unbind"
            sleep 1
            echo "$name" > /sys/bus/pci/drivers/bochs-drm/bind
        done
        bind 1
        echo "GUEST: DRIVER $(tr , x < $fb/virtual_size)"
        ;;
    reboot) reboot -f ;;
    poweroff) poweroff -f ;;
    *)
        eval "$command"
        echo "GUEST: ENDED $?"
        ;;
    esac
done
