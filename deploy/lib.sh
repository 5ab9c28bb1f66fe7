# What deploy/rebalance-test is made of: Kafka, PostgreSQL, a devnet and processes of `semel run`, all in
# one folder, and the comparison of what was given with what is there. deploy/crash-test takes the
# folder and its end from here, and leaves the rest to `semel verify`. Sourced, from the repository's
# top, after `name` (of the test), `channels` and `keep` are set.
#
# May not live here: what a test does between the start and the comparison.

dir=$(mktemp -d "${TMPDIR:-/tmp}/semel-$name.XXXXXX")
chmod 755 "$dir"
spec=deploy/specs/attention-oracle.toml
wrong=0
declare -A pids=()

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }

# Ends everything that was started; the folder stays when something is wrong.
finish() {
  local code=$? process
  for process in "${!pids[@]}"; do
    kill "${pids[$process]}" 2>/dev/null || true
    kill -CONT "${pids[$process]}" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  deploy/kafka stop "$dir/kafka" >/dev/null 2>&1 || true
  deploy/postgres stop "$dir/postgres" >/dev/null 2>&1 || true
  if [ "$code" -ne 0 ] || [ -n "$keep" ]; then say "logs and data are in $dir"; else rm -rf "$dir"; fi
  exit "$code"
}

# Builds, starts the servers and the devnet, and exports what the spec asks of the environment.
# SEMEL_BIN names a binary that is already built.
prepare() {
  trap finish EXIT
  semel=${SEMEL_BIN:-$(pwd)/target/debug/semel}
  [ -n "${SEMEL_BIN:-}" ] || cargo build --quiet -p semel --bin semel
  command -v kcat >/dev/null || { echo "$name-test: kcat is missing: run deploy/install test"; exit 1; }
  SEMEL_BROKERS=$(deploy/kafka start "$dir/kafka" ${broker_settings:-} | tail -n 1)
  DATABASE_URL=$(deploy/postgres start "$dir/postgres" | tail -n 1)

  # A settlement key, made by the same code that reads it.
  "$semel" keygen "$dir/key.json" >"$dir/key.pub"
  SETTLEMENT_AUTHORITY=$(cat "$dir/key.pub")
  local i names=()
  for i in $(seq "$channels"); do names+=(--channel "channel$i"); done
  "$semel" devnet --listen 127.0.0.1:0 --slot-ms 100 --finalized-lag 8 --skip-every 9 \
    --publisher "$SETTLEMENT_AUTHORITY" "${names[@]}" >"$dir/devnet.out" 2>"$dir/devnet.log" &
  pids[devnet]=$!
  until grep -q 'mint' "$dir/devnet.log" 2>/dev/null; do
    kill -0 "${pids[devnet]}" || { say "the devnet did not start:"; cat "$dir/devnet.log"; exit 1; }
    sleep 0.1
  done
  AO_MINT=$(sed -n 's/^devnet: mint \([^;]*\);.*/\1/p' "$dir/devnet.log")
  ANCHOR_PROVIDER_URL=$(head -n 1 "$dir/devnet.out")

  export SEMEL_BROKERS DATABASE_URL SETTLEMENT_AUTHORITY AO_MINT ANCHOR_PROVIDER_URL
  export SEMEL_ONE_BROKER=true SETTLEMENT_KEYPAIR="$dir/key.json" AUTO_PUBLISH=true AO_FROM_SLOT=0
  export EPOCH_DURATION_SLOTS=150 FINALIZE_THRESHOLD_SECS=2
  say "Kafka $SEMEL_BROKERS, PostgreSQL and a devnet at $ANCHOR_PROVIDER_URL are ready"
}

start() { # start NAME: one process, with a data folder and a log of its own
  SEMEL_DATA="$dir/$1" "$semel" run "$spec" >>"$dir/$1.log" 2>&1 &
  pids[$1]=$!
}

await_topics() { # await_topics NAME: until this process has made the topics
  until kcat -b "$SEMEL_BROKERS" -L 2>/dev/null | grep -q 'attention.instructions"'; do
    kill -0 "${pids[$1]}" || { tail -n 5 "$dir/$1.log"; exit 1; }
    sleep 0.2
  done
}

all_alive() { # ends the test if a process ended by itself
  local process
  for process in "${!pids[@]}"; do
    kill -0 "${pids[$process]}" 2>/dev/null ||
      { say "process $process ended by itself:"; tail -n 5 "$dir/$process.log"; exit 1; }
  done
}

sql() { PGOPTIONS='' psql -XAtq "$DATABASE_URL" -c "$1"; }

# make_claims N: as many distinct claims, and every tenth once more, half of those by another
# transaction. Their slots are of epoch 1: the program takes no epoch 0.
make_claims() {
  awk -v n="$1" -v channels="$channels" -v first="$EPOCH_DURATION_SLOTS" 'function b58(width, number, text) {
      text = sprintf("%0" width "d", number); gsub(/0/, "a", text); return "z" text }
    function claim(i, fact) {
      channel = "channel" (1 + i % channels)
      printf "%s|{\"claim_id\":\"twitch:%s:user%d\",\"channel\":\"%s\",\"user\":\"%s\",\"id\":\"twitch:%s:user%d\",\"amount\":\"%d\",\"slot\":%d,\"signature\":\"%s\",\"tx_index\":%d,\"ix_index\":0}\n",
        channel, channel, i, channel, b58(42, i), channel, i, 1000 + i, first + i % 100, b58(86, fact), i % 500 }
    BEGIN { for (i = 1; i <= n; i++) { claim(i, i); if (i % 10 == 0) claim(i, i % 20 ? i : n + i) } }'
}

# await_settled N: until as many claims are settled, or patience ends; the count is in `settled`.
await_settled() {
  local deadline=$(($(date +%s) + ${SEMEL_PATIENCE:-300}))
  settled=0
  while [ "$settled" != "$1" ] && [ "$(date +%s)" -lt "$deadline" ]; do
    all_alive
    sleep 1
    settled=$(sql "SELECT count(*) FROM claims WHERE status = 'settled'")
  done
}

row() { # row WHAT EXPECTED FOUND
  local verdict=ok; [ "$2" = "$3" ] || { verdict=WRONG; wrong=1; }
  printf '%-52s %10s %10s  %s\n' "$1" "$2" "$3" "$verdict"
}

# An end that moves on while a topic is written to may never be told (kcat -e): what came within half a
# minute counts.
committed() {
  { timeout 30 kcat -b "$SEMEL_BROKERS" -C -t "$1" -e -q -X isolation.level=read_committed || true; } | wc -l
}

# compare GIVEN CLAIMS SUM: records given, distinct claims among them, and the sum of their amounts.
compare() {
  printf '%-52s %10s %10s\n' "" expected found
  row "rows in claims" "$2" "$(sql 'SELECT count(*) FROM claims')"
  row "distinct claims in claims" "$2" "$(sql 'SELECT count(DISTINCT claim_id) FROM claims')"
  row "sum of amounts" "$3" "$(sql 'SELECT sum(amount)::bigint FROM claims')"
  row "claims settled" "$2" "$settled"
  row "leaves of all roots" "$2" "$(sql 'SELECT sum(count) FROM roots')"
  row "roots without a confirmed settlement" 0 "$(sql "SELECT count(*) FROM roots r WHERE NOT EXISTS (SELECT FROM settlement_log s WHERE s.root_id = r.id AND s.status = 'confirmed')")"
  row "settlements confirmed twice" 0 "$(sql "SELECT count(*) FROM (SELECT root_id FROM settlement_log WHERE status = 'confirmed' GROUP BY 1 HAVING count(*) > 1) t")"
  row "dead letters" 0 "$(committed attention.dead-letter)"
  row "duplicates reported" "$(($1 - $2))" "$(committed attention.duplicates)"
  "$semel" audit roots "$spec" >"$dir/audit.txt" || wrong=1
  tail -n 1 "$dir/audit.txt"
}

verdict() {
  [ "$wrong" = 0 ] && say "nothing lost, nothing twice" || { say "SOMETHING IS WRONG: see above"; exit 1; }
}
