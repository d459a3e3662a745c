# Shared by the scripts about three members: starting them and finding out who leads. Needs common.bash and $work.

declare -A pid port

# choose_ports: a client port and a peer port after it for each member of both clusters.
choose_ports() {
    local base=$port_of_ringd server member
    for server in ringd etcd; do
        for member in 1 2 3; do port[$server$member]=$base base=$((base + 2)); done
    done
}

# cluster_of SERVER: initial-cluster.
cluster_of() {
    local member text=
    for member in 1 2 3; do text+=",m$member=http://127.0.0.1:$((port[$1$member] + 1))"; done
    echo "${text#,}"
}

# start_member SERVER MEMBER [FLAG...]
start_member() {
    local server=$1 member=$2 log=$work/$1$2.log
    local client=http://127.0.0.1:${port[$1$2]} peer=http://127.0.0.1:$((port[$1$2] + 1))
    shift 2
    : >"$log"
    "${!server}" --name "m$member" --data-dir "$work/$server$member" \
        --listen-client-urls "$client" --advertise-client-urls "$client" --listen-peer-urls "$peer" \
        --initial-advertise-peer-urls "$peer" --initial-cluster "$(cluster_of "$server")" "$@" >>"$log" 2>&1 &
    pid[$server$member]=$!
}

# await_member SERVER MEMBER
await_member() {
    until grep -q 'ready to serve client requests' "$work/$1$2.log"; do
        kill -0 "${pid[$1$2]}" 2>/dev/null || { tail -5 "$work/$1$2.log" >&2; die "$1 $2 did not start"; }
        sleep 0.05
    done
}

endpoints() {
    echo "127.0.0.1:${port[${1}1]},127.0.0.1:${port[${1}2]},127.0.0.1:${port[${1}3]}"
}

# leader_of SERVER: the number of the member that leads.
leader_of() {
    local member
    while true; do
        for member in 1 2 3; do
            if [ "$("$etcdctl" --endpoints "127.0.0.1:${port[$1$member]}" endpoint status 2>/dev/null | awk -F', ' '{ print $9 }')" = true ]; then
                echo "$member"
                return
            fi
        done
        sleep 0.1
    done
}
