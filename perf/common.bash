# Shared by the scripts in this directory: starting servers, reading /proc, making request bodies, medians.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
clock_ticks=$(getconf CLK_TCK)
ringd=$root/target/release/ringd
etcd=$root/target/reference/etcd
etcdctl=$root/target/reference/etcdctl
port_of_ringd=${PERF_PORT:-23790}
port_of_etcd=$((port_of_ringd + 10))
port_of_echo=$((port_of_ringd + 20))

die() {
    echo "$*" >&2
    exit 1
}

require() {
    command -v "$1" >/dev/null || die "$1 is missing: $2"
}

# The machine and the commit, without which a number means nothing.
describe_machine() {
    local model filesystem dirty=
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    filesystem=$(df --output=fstype "$work" | tail -1)
    [ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || dirty=' with changes'
    echo "commit   $(git -C "$root" rev-parse --short HEAD 2>/dev/null)$dirty"
    echo "machine  $(nproc) cores, $model, $(awk '/MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo), Linux $(uname -r), $filesystem"
    echo "etcd     $("$etcd" --version | head -1)"
}

# start NAME PORT DIRECTORY PROGRAM: sets pid_NAME when the server says that it serves.
start() {
    local name=$1 port=$2 data=$3 program=$4 log=$work/$1.log
    local client=http://127.0.0.1:$port peer=http://127.0.0.1:$((port + 1))
    "$program" --name perf --data-dir "$data" \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "perf=$peer" \
        >"$log" 2>&1 &
    declare -g "pid_$name=$!"
    until grep -q 'ready to serve client requests' "$log"; do
        kill -0 $! 2>/dev/null || { tail -5 "$log" >&2; die "$name did not start"; }
        sleep 0.01
    done
}

stop() {
    local variable=pid_$1
    kill "${!variable}" 2>/dev/null || true
    wait "${!variable}" 2>/dev/null || true
    unset "$variable"
}

stop_all() {
    local name
    for name in ringd etcd echo; do
        local variable=pid_$name
        [ -z "${!variable:-}" ] || stop "$name"
    done
}

# CPU seconds of a process so far, in clock ticks. The name in parentheses may hold spaces.
cpu_ticks() {
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# Resident megabytes: anonymous, then file-backed.
resident() {
    awk '/^RssAnon/ { anonymous = $2 } /^RssFile/ { file = $2 } END { printf "%.0f %.0f", anonymous / 1024, file / 1024 }' "/proc/$1/status"
}

# varint NUMBER: as protobuf has it, in hexadecimal.
varint() {
    local number=$1
    while [ "$number" -ge 128 ]; do
        printf '%02x' $((number % 128 + 128))
        number=$((number / 128))
    done
    printf '%02x' "$number"
}

# bytes_field NUMBER TEXT: a length-delimited field, in hexadecimal.
bytes_field() {
    varint $(($1 * 8 + 2))
    varint ${#2}
    printf '%s' "$2" | od -An -v -tx1 | tr -d ' \n'
}

# grpc_body FILE HEXADECIMAL: the message behind gRPC's prefix.
grpc_body() {
    local message=$2
    local all
    all=00$(printf '%08x' $((${#message} / 2)))$message
    printf '%b' "$(sed 's/../\\x&/g' <<<"$all")" >"$1"
}

# The middle of the numbers on standard input.
median() {
    sort -g | awk '{ number[NR] = $1 } END { if (NR) print (number[int((NR + 1) / 2)] + number[int(NR / 2) + 1]) / 2 }'
}
