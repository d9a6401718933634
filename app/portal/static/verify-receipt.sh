#!/usr/bin/env bash
# Check that ENTRY is in the log whose Ed25519 public key is LOG_KEY_PEM, as RECEIPT (a C2SP tlog-proof) says.
# Usage: verify-receipt.sh ENTRY RECEIPT LOG_KEY_PEM     exit 0: it is; anything else: not shown, the reason on stderr
# Needs bash, coreutils and openssl 3; nothing of the service. Get LOG_KEY_PEM from somewhere else than the receipt.
# From a verifier key (name+id+base64) in the file logkey, LOG_KEY_PEM is made by:
#   { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00'; cut -d+ -f3- logkey | base64 -d | tail -c 32; } |
#     openssl pkey -pubin -inform DER -out log.pem
set -euo pipefail
fail() { echo "refused: $*" >&2; exit 1; }
[ $# -eq 3 ] || fail "usage: verify-receipt.sh ENTRY RECEIPT LOG_KEY_PEM"
for file in "$@"; do [ -r "$file" ] || fail "cannot read $file"; done
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
number='^(0|[1-9][0-9]{0,15})$'
sha256() { openssl dgst -sha256 -binary; }
decode() { base64 -d <<< "$1" > "$2" 2> /dev/null && [ "$(base64 -w 0 "$2")" = "$1" ] || fail "not base64: $1"; }

# 1. Read the receipt: a header, path lines up to an empty line, then the checkpoint.
[ -z "$(tail -c 1 "$2")" ] || fail "the last line is cut"
mapfile -t line < "$2"
[ "${line[0]-}" = "c2sp.org/tlog-proof@v1" ] || fail "not a tlog-proof"
[[ "${line[1]-}" == "index "* ]] || fail "no index"
index=${line[1]#index }
end=2; while [ -n "${line[end]-}" ]; do end=$((end + 1)); done
origin=${line[end+1]-} size=${line[end+2]-} root=${line[end+3]-}
[[ $index =~ $number && $size =~ $number ]] || fail "index or size is not a plain number"
[ -z "${line[end+4]-}" ] || fail "the checkpoint has more than three lines"

# 2. The log signed origin, size and root. Its line starts with 4 bytes that name the key, then come 64 of signature.
printf '%s\n%s\n%s\n' "$origin" "$size" "$root" > "$tmp/signed"
openssl pkey -pubin -in "$3" -outform DER | tail -c 32 > "$tmp/key"
id=$({ printf '%s\n\1' "$origin"; cat "$tmp/key"; } | sha256 | head -c 4 | base64)
for signature in "${line[@]:end+5}"; do
  [[ "$signature" == "— "* ]] || fail "not a signature line: $signature"
  [[ "$signature" == "— $origin "* ]] || continue  # a witness's
  decode "${signature#"— $origin "}" "$tmp/line"
  [ "$(head -c 4 "$tmp/line" | base64)" = "$id" ] || continue  # another key of that name
  tail -c +5 "$tmp/line" > "$tmp/signature"
  openssl pkeyutl -verify -pubin -inkey "$3" -rawin -in "$tmp/signed" -sigfile "$tmp/signature" > /dev/null 2>&1 ||
    fail "the log's signature does not fit the checkpoint"
  signed=yes
done
[ "${signed-}" ] || fail "the checkpoint is not signed with this key"

# 3. From the entry's leaf hash up to the root (RFC 9162 section 2.1.3.2): fn is our position on a level, sn the last one.
[ "$index" -lt "$size" ] || fail "there is no entry $index in a log of $size"
{ printf '\0'; cat "$1"; } | sha256 > "$tmp/node"
fn=$index sn=$((size - 1))
for hash in "${line[@]:2:end-2}"; do
  decode "$hash" "$tmp/sibling"
  [ "$(wc -c < "$tmp/sibling")" -eq 32 ] || fail "a path line is not 32 bytes"
  [ $sn -gt 0 ] || fail "the path is too long"
  if [ $((fn & 1)) -eq 1 ] || [ $fn -eq $sn ]; then
    { printf '\1'; cat "$tmp/sibling" "$tmp/node"; } | sha256 > "$tmp/parent"
    while [ $((fn & 1)) -eq 0 ] && [ $fn -gt 0 ]; do fn=$((fn >> 1)) sn=$((sn >> 1)); done
  else
    { printf '\1'; cat "$tmp/node" "$tmp/sibling"; } | sha256 > "$tmp/parent"
  fi
  mv "$tmp/parent" "$tmp/node"; fn=$((fn >> 1)) sn=$((sn >> 1))
done
[ $sn -eq 0 ] || fail "the path is too short"
[ "$(base64 < "$tmp/node")" = "$root" ] || fail "the entry does not lead to the signed root"
echo "entry $index of $size in the log $origin"
