# Arguments: pg_ctl, the cluster's folder, and how to wait: "pipe" or the seconds that a shared server lingers.
pg_ctl=$1 folder=$2 linger=$3
end() {
    pid=$(head -n 1 "$folder/data/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ]; then
        # A frozen server cannot stop.
        kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children") 2>/dev/null
    fi
    "$pg_ctl" -D "$folder/data" -m immediate -s -t 60 stop >/dev/null 2>&1
    rm -rf "$folder/data" "$folder/socket" "$folder/log" "$folder/ready" "$folder/templates"
}
if [ "$linger" = pipe ]; then
    # The other end is held by the owner; it ends when the owner does.
    read -r _
    end
    exit
fi
exec 8>"$folder/setup" 9>"$folder/users"
while :; do
    flock --exclusive 9
    flock --unlock 9
    sleep "$linger"
    # Whoever joins holds `setup`: with it in hand, no user means none.
    flock --exclusive 8
    if flock --exclusive --nonblock 9; then
        end
        exit
    fi
    flock --unlock 8
done
