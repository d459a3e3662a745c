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

# Prints the head text of the script, after an unknown argument.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

require() {
    command -v "$1" >/dev/null || die "$1 is missing: $2"
}

# The machine and the commit of a measurement.
describe_machine() {
    local model filesystem dirty=
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    filesystem=$(df --output=fstype "$work" | tail -1)
    [ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || dirty=' with changes'
    echo "commit   $(git -C "$root" rev-parse --short HEAD 2>/dev/null)$dirty"
    echo "machine  $(nproc) cores, $model, $(awk '/MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo), Linux $(uname -r), $filesystem"
    echo "etcd     $("$etcd" --version | head -1)"
}

# start NAME PORT DIRECTORY PROGRAM [FLAG...]: sets pid_NAME when the server logs that it serves.
start() {
    local name=$1 port=$2 data=$3 program=$4 log=$work/$1.log
    local client=http://127.0.0.1:$port peer=http://127.0.0.1:$((port + 1))
    shift 4
    # The line to wait for must not be that of the process before.
    : >"$log"
    "$program" --name perf --data-dir "$data" "$@" \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "perf=$peer" \
        >>"$log" 2>&1 &
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
    for name in ringd etcd echo watchers idlers; do
        local variable=pid_$name
        [ -z "${!variable:-}" ] || stop "$name"
    done
}

# restart SERVER [FLAG...]: the server alone on the machine with the data it has; sets pid and port.
restart() {
    local server=$1 port_variable=port_of_$1 pid_variable=pid_$1
    shift
    [ -z "${!pid_variable:-}" ] || stop "$server"
    start "$server" "${!port_variable}" "$work/$server-data" "${!server}" "$@"
    pid=${!pid_variable} port=${!port_variable}
}

# fresh SERVER [FLAG...]: the same with an empty data directory.
fresh() {
    local pid_variable=pid_$1
    [ -z "${!pid_variable:-}" ] || stop "$1"
    rm -rf "${work:?}/$1-data"
    restart "$@"
}

# settle: waits until all writes are on the disk and the server is idle, so that earlier work does not affect the next
# measurement. Idle are two half seconds below 3 % of a core; after a minute a note is printed.
settle() {
    local turn before calm=0
    sync
    for ((turn = 0; turn < 120; turn++)); do
        before=$(cpu_ticks "$pid")
        sleep 0.5
        if [ $(($(cpu_ticks "$pid") - before)) -le $((clock_ticks * 15 / 1000)) ]; then calm=$((calm + 1)); else calm=0; fi
        [ "$calm" -lt 2 ] || return 0
    done
    echo "$server is still busy a minute after the last request" >&2
}

# discard SERVER: stops it and removes its data.
discard() {
    stop "$1"
    rm -rf "${work:?}/$1-data"
}

# need_load: sets load, the program with the clients. PERF_LOAD names one that is there, to save the build.
need_load() {
    load=${PERF_LOAD:-}
    [ -n "$load" ] || load=$(cd "$root" && cargo bench --no-run --bench load 2>&1 | sed -n 's/.*Executable.*(\(.*\)).*/\1/p')
    [ -n "$load" ] || die 'perf/load does not build: cargo bench --no-run --bench load'
    [ -x "$load" ] || load=$root/$load
    [ -x "$load" ] || die "no $load"
}

# clients NAME ARGUMENT...: `load` in the background, as pid_NAME, once it has printed that all its clients are there. Its
# output is in $work/NAME.out.
clients() {
    local name=$1
    shift
    : >"$work/$name.out"
    "$load" "$@" >"$work/$name.out" 2>"$work/$name.err" &
    declare -g "pid_$name=$!"
    until [ -s "$work/$name.out" ]; do
        kill -0 $! 2>/dev/null || { cat "$work/$name.err" >&2; die "load $* failed"; }
        sleep 0.01
    done
}

# servers_of ROUND: both, in another order each round, so that drifts of the machine affect both alike.
servers_of() {
    if (($1 % 2)); then echo ringd etcd; else echo etcd ringd; fi
}

# begin_ticks, end_ticks: CPU seconds of $pid in between, in $cpu.
begin_ticks() {
    ticks=$(cpu_ticks "$pid")
}
end_ticks() {
    cpu=$(awk -v ticks=$(($(cpu_ticks "$pid") - ticks)) -v hertz="$clock_ticks" 'BEGIN { printf "%.3f", ticks / hertz }')
}

# result ROUND SCENARIO SERVER NUMBER...: one line of $results.
result() {
    echo "$@" >>"$results"
}

# CPU seconds of a process so far, in clock ticks. The name in parentheses may hold spaces.
cpu_ticks() {
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# Resident megabytes: anonymous, then file-backed.
resident() {
    awk '/^RssAnon/ { anonymous = $2 } /^RssFile/ { file = $2 } END { printf "%.0f %.0f", anonymous / 1024, file / 1024 }' "/proc/$1/status"
}

# varint NUMBER: protobuf's encoding, in hexadecimal.
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

# grpc_body FILE HEXADECIMAL: the message after gRPC's prefix.
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

# median_of SCENARIO SERVER COLUMN: over the rounds in $results, whose lines are round, scenario, server, numbers.
median_of() {
    awk -v scenario="$1" -v server="$2" -v column="$3" '$2 == scenario && $3 == server { print $column }' "$results" | median
}

# median_ratio SCENARIO SERVER OTHER COLUMN: of the ratios within each round.
median_ratio() {
    awk -v scenario="$1" -v server="$2" -v other="$3" -v column="$4" '
        $2 == scenario { value[$1, $3] = $column; rounds[$1] = 1 }
        END { for (round in rounds) if (value[round, other] > 0) print value[round, server] / value[round, other] }' "$results" | median
}

# median_share SERVER SCENARIO OTHER COLUMN: of the ratios within each round between two scenarios on one server.
median_share() {
    awk -v server="$1" -v scenario="$2" -v other="$3" -v column="$4" '
        $3 == server { value[$1, $2] = $column; rounds[$1] = 1 }
        END { for (round in rounds) if (value[round, other] > 0 && (round, scenario) in value)
            print value[round, scenario] / value[round, other] }' "$results" | median
}

# table FORMAT LABEL SCENARIO COLUMN...: a row for each server with the medians of the columns, and one with ringd's
# divided by etcd's. Nothing for a scenario that was not run.
table() {
    local format=$1 label=$2 scenario=$3 server column
    shift 3
    for server in ringd etcd; do
        [ -n "$(median_of "$scenario" "$server" "$1")" ] || continue
        print_heading
        local numbers=()
        for column in "$@"; do numbers+=("$(median_of "$scenario" "$server" "$column")"); done
        # shellcheck disable=SC2059
        printf "$format\n" "$label" "$server" "${numbers[@]}"
    done
    [ -n "$(median_of "$scenario" ringd "$1")" ] && [ -n "$(median_of "$scenario" etcd "$1")" ] || return 0
    local ratios=()
    for column in "$@"; do
        ratios+=("$(median_ratio "$scenario" ringd etcd "$column" | awk '{ printf "%.2f", $1 }')")
    done
    # shellcheck disable=SC2001,SC2059
    printf "$(sed 's/\(%-\{0,1\}[0-9]*\)[.0-9]*[fdg]/\1s/g' <<<"$format")\n" '' 'ratio' "${ratios[@]}"
}

# heading FORMAT NAME...: the names above the columns of a table, printed with its first row.
heading() {
    local format
    # shellcheck disable=SC2001
    format=$(sed 's/\(%-\{0,1\}[0-9]*\)[.0-9]*[fdg]/\1s/g' <<<"$1")
    shift
    # shellcheck disable=SC2059
    printf -v pending_heading "\n$format\n" "$@"
}
print_heading() {
    printf '%s' "${pending_heading:-}"
    pending_heading=
}

# prepare NAME: for every script that uses `load`: the programs, a directory of its own, and cleaning up at the end.
prepare() {
    [ -x "$ringd" ] || die "no $ringd: cargo build --release"
    [ -x "$etcd" ] || die "no $etcd: make reference"
    need_load
    mkdir -p "$root/target/perf"
    work=$(mktemp -d "$root/target/perf/$1-XXXXXX")
    trap 'stop_all; rm -rf "$work"' EXIT
    results=$work/results
    : >"$results"
    failures=()
}

# keep_results: prints failures, then copies the numbers of every round to --out. Fails if a measurement failed.
keep_results() {
    local failure
    for failure in ${failures[@]+"${failures[@]}"}; do echo "note: $failure"; done
    [ -z "$out" ] || { mkdir -p "$out" && cp "$results" "$out/$(basename "$0")"; }
    [ ${#failures[@]} -eq 0 ]
}

# now: milliseconds
now() {
    echo $(($(date +%s%N) / 1000000))
}

# paced SCENARIO ARGUMENT...: puts and gets at fixed rates on $server, alone or beside a command; a result with seconds of
# the command, file MB, MB in use, anon MB before and at most, CPU seconds, how many puts and gets, then p50, p99, p99.9,
# longest, refused of puts and of gets. A command that failed is a note below the tables.
paced() {
    local scenario=$1 numbers
    shift
    settle
    begin_ticks
    "$load" paced --port "$port" --process "$pid" "$@" >"$work/paced" || die "$scenario on $server failed"
    end_ticks
    read -r -a numbers < <(tail -1 "$work/paced")
    [ "${numbers[15]}" = 0 ] || failures+=("$scenario on $server failed after ${numbers[0]} s: its row does not compare")
    result "$round" "$scenario" "$server" "${numbers[0]}" "$(database_mb "$server")" "$(in_use_mb)" "${numbers[1]}" "${numbers[2]}" \
        "$cpu" $((numbers[3] + numbers[9])) "${numbers[@]:4:5}" "${numbers[@]:10:5}"
}

paced_columns='%-22s %-6s %8.2f %8.0f %8.0f %8.0f %8.0f %8.2f %8.0f | %8.0f %9.0f %9.0f %9.0f %7.0f | %8.0f %9.0f %9.0f %9.0f %7.0f'
paced_heading() {
    heading "$paced_columns" "$1" server "$2" 'file MB' 'in use' 'anon MB' 'at most' 'CPU s' requests 'put p50' 'p99 us' 'p99.9' longest refused \
        'get p50' 'p99 us' 'p99.9' longest refused
}
paced_table() {
    table "$paced_columns" "$1" "$2" 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
}

# in_use_mb: the bytes in use of the database of the server at $port.
in_use_mb() {
    "$etcdctl" --endpoints "127.0.0.1:$port" endpoint status --write-out json \
        | sed -n 's/.*"dbSizeInUse":\([0-9]*\).*/\1/p' | awk '{ printf "%.0f", $1 / 1e6 }'
}

# database_mb SERVER: the length of its database file.
database_mb() {
    echo $(($(stat -c %s "$work/$1-data/member/snap/db") / 1000000))
}
