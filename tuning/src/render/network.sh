# From here on nothing depends on the target. Prints each change; a second run changes nothing.
# RINGWAY_ROOT is put before /sys and /proc, for trials on a copy. Exit: 0 done, 1 something could not be set, 2 usage.
set -eu

root=${RINGWAY_ROOT:-}
is_dry_run=no
failures=0

usage() {
    echo "usage: ringway-network.sh [--dry-run] INTERFACE..." >&2
    exit 2
}

# plain FILE VALUE: a mask without its commas and leading zeros, which the kernel adds; else the value.
plain() {
    case $1 in
    *ps_cpus) printf '%s' "$2" | tr -d ', \n' | sed 's/^0*\(.\)/\1/' ;;
    *) printf '%s' "$2" ;;
    esac
}

# put FILE VALUE: writes a value, and says what it was.
put() {
    if [ ! -e "$1" ]; then
        echo "$1: not there, skipped"
        return 0
    fi
    if ! now=$(cat "$1" 2>/dev/null); then
        echo "$1: cannot be read, left as it is" >&2
        failures=$((failures + 1))
        return 0
    fi
    case $now in *'['*']'*) now=${now#*'['}; now=${now%%']'*} ;; esac
    if [ "$(plain "$1" "$now")" = "$(plain "$1" "$2")" ]; then
        echo "$1: $2 already"
    elif [ "$is_dry_run" = yes ]; then
        echo "$1: $now -> $2 (dry run, nothing written)"
    elif printf '%s\n' "$2" 2>/dev/null >"$1"; then
        echo "$1: $now -> $2"
    else
        echo "$1: the kernel refuses $2, it stays $now" >&2
        failures=$((failures + 1))
    fi
}

# Numbers of the processors, one a line: those that are on, else as many as nproc counts.
processors() {
    list=$(cat "$root/sys/devices/system/cpu/online" 2>/dev/null) || list="0-$(($(nproc) - 1))"
    for part in $(printf '%s' "$list" | tr ',' ' '); do
        first=${part%-*}
        last=${part#*-}
        while [ "$first" -le "$last" ]; do
            echo "$first"
            first=$((first + 1))
        done
    done
}

# mask PROCESSOR...: the mask of these, in groups of 32 bits as the kernel writes them.
mask() {
    groups=1
    for one in "$@"; do
        [ $((one / 32)) -lt "$groups" ] || groups=$((one / 32 + 1))
    done
    text=
    while [ "$groups" -gt 0 ]; do
        groups=$((groups - 1))
        bits=0
        for one in "$@"; do
            [ $((one / 32)) -ne "$groups" ] || bits=$((bits | 1 << (one % 32)))
        done
        text="$text${text:+,}$(printf '%08x' "$bits")"
    done
    echo "$text"
}

# nth NUMBER WORD...: that word, counted from 0 and around.
nth() {
    number=$1
    shift
    shift $((number % $#))
    echo "$1"
}

# queues INTERFACE rx|tx: how many there are.
queues() {
    count=0
    for queue in "$root/sys/class/net/$1/queues/$2-"*; do
        [ ! -d "$queue" ] || count=$((count + 1))
    done
    echo "$count"
}

# Each queue's interrupt goes to one processor, in turns; the number of the queue is the last one in its name.
set_irqs() {
    for directory in "$root/sys/class/net/$1/device/msi_irqs" "$root/sys/class/net/$1/device/../msi_irqs"; do
        [ -d "$directory" ] && break
    done
    if [ ! -d "$directory" ]; then
        echo "$1: no interrupts of its own to be seen, skipped"
        return 0
    fi
    for irq in "$directory"/*; do
        irq=${irq##*/}
        name=$(sed -n "s/^ *$irq:.* //p" "$root/proc/interrupts" 2>/dev/null) || name=
        case ${name%%@*} in
        *rx* | *tx* | *Rx* | *Tx* | *RX* | *TX* | *input* | *output* | *comp* | *queue* | *-[0-9]*) ;;
        *)
            echo "interrupt $irq (${name:-no name}): not a queue's, left as it is"
            continue
            ;;
        esac
        queue=$(printf '%s' "${name%%@*}" | sed -n 's/.*[^0-9]\([0-9][0-9]*\)$/\1/p' | sed 's/^0*\(.\)/\1/')
        # A name without a number is that of the only queue; virtio3-rx has the number of the device.
        # shellcheck disable=SC2086
        put "$root/proc/irq/$irq/smp_affinity_list" "$(nth "${queue:-0}" $processors)"
    done
}

# Packets of few queues are spread over all processors; with a queue for each the card has done it.
set_rps() {
    spread=0
    # shellcheck disable=SC2086
    [ "$(queues "$1" rx)" -ge "$processors_count" ] || spread=$(mask $processors)
    for queue in "$root/sys/class/net/$1/queues/rx-"*; do
        put "$queue/rps_cpus" "$spread"
    done
}

# Queue i is sent through by the processors i, i + queues, i + 2 * queues and so on.
set_xps() {
    count=$(queues "$1" tx)
    # With one queue there is nothing to choose, and the kernel has no such file to read.
    [ "$count" -gt 1 ] || return 0
    index=0
    while [ "$index" -lt "$count" ]; do
        mine=
        position=0
        for one in $processors; do
            [ $((position % count)) -ne "$index" ] || mine="$mine $one"
            position=$((position + 1))
        done
        if [ -n "$mine" ]; then
            # shellcheck disable=SC2086
            put "$root/sys/class/net/$1/queues/tx-$index/xps_cpus" "$(mask $mine)"
        fi
        index=$((index + 1))
    done
}

set_rfs() {
    count=$(queues "$1" rx)
    [ "$count" -gt 0 ] || return 0
    put "$root/proc/sys/net/core/rps_sock_flow_entries" "$RFS_ENTRIES"
    for queue in "$root/sys/class/net/$1/queues/rx-"*; do
        put "$queue/rps_flow_cnt" "$((RFS_ENTRIES / count))"
    done
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) is_dry_run=yes ;;
    -*) usage ;;
    *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || usage
for interface in "$@"; do
    if [ ! -d "$root/sys/class/net/$interface/queues" ]; then
        echo "ringway-network.sh: there is no interface $interface; there is:" "$(ls "$root/sys/class/net" 2>/dev/null)" >&2
        exit 2
    fi
done
if [ "$is_dry_run" = no ] && [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "ringway-network.sh: nothing done: only root may set this, run it as root (or with --dry-run)" >&2
    exit 1
fi

processors=$(processors)
processors_count=$(printf '%s\n' "$processors" | wc -l)
for interface in "$@"; do
    [ "$IRQ" != on ] || set_irqs "$interface"
    [ "$RPS" != on ] || set_rps "$interface"
    [ "$XPS" != on ] || set_xps "$interface"
    [ -z "$RFS_ENTRIES" ] || set_rfs "$interface"
done
[ -z "$HUGE_PAGES" ] || put "$root/sys/kernel/mm/transparent_hugepage/enabled" "$HUGE_PAGES"
if [ -n "$GOVERNOR" ]; then
    for one in $processors; do
        put "$root/sys/devices/system/cpu/cpu$one/cpufreq/scaling_governor" "$GOVERNOR"
    done
fi
if [ "$IRQ" = on ] && [ -e "$root/run/irqbalance" ]; then
    echo "irqbalance runs and will move the interrupts again: stop it, or ban them there"
fi
[ "$failures" -eq 0 ] || exit 1
