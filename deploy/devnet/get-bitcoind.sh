#!/bin/sh
# get-bitcoind.sh DEST: bitcoind and bitcoin-cli (Debian's bitcoin-knots, from trixie-backports) with every library they need.
# For a Debian machine of any release, which stays as it is: apt's sources, lists, cache, status and hooks are all DEST's own,
# and packages are unpacked, not installed. Seen to work: 29.5 on Debian 12 (23 packages, 57 MB, 16 s).
#
#   DEST/bin/bitcoind DEST/bin/bitcoin-cli   wrappers; DEST may be moved afterwards
#   DEST/root                                the unpacked packages
#   DEST/VERSIONS                            package, version, sha256 of each .deb
#   DEST/apt                                 private apt state (may be deleted)
#
# Environment (all optional):
#   DEBIAN_MIRROR   http://deb.debian.org/debian
#   DEBIAN_SUITES   "trixie trixie-backports"
#   DEBIAN_KEYRING  /usr/share/keyrings/debian-archive-keyring.gpg
#   BITCOIN_PKG     bitcoin-knots
#   FORCE=1         build again although a working copy is there
#
# Exit: 0 done or already there; 1 failed (the reason is the last line on stderr); 2 usage.
set -eu
LC_ALL=C; export LC_ALL
umask 022

say() { printf 'get-bitcoind: %s\n' "$*" >&2; }
die() { printf 'get-bitcoind: ERROR: %s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] && [ -n "$1" ] || { say "usage: $0 DEST"; exit 2; }
case $1 in -*) say "usage: $0 DEST"; exit 2;; esac

MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
SUITES=${DEBIAN_SUITES:-trixie trixie-backports}
KEYRING=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
PKG=${BITCOIN_PKG:-bitcoin-knots}

for t in apt-get apt-cache apt-config dpkg dpkg-deb awk find sed sha256sum; do
    command -v "$t" >/dev/null 2>&1 || die "$t not found: this needs a Debian machine"
done
[ -r "$KEYRING" ] || die "keyring $KEYRING not readable (package debian-archive-keyring)"
ARCH=$(dpkg --print-architecture) || die "dpkg does not know the architecture"

mkdir -p "$1" || die "cannot create $1"
DEST=$(cd "$1" && pwd -P) || die "cannot enter $1"
# apt's option parser and sources.list split at spaces and quote marks
case $DEST in *[!A-Za-z0-9._/+@,=~:-]*) die "DEST '$DEST' has a character that apt cannot carry (space, quote, ...)";; esac

works() { # do both wrappers start?
    [ -x "$DEST/bin/bitcoind" ] && [ -x "$DEST/bin/bitcoin-cli" ] && [ -s "$DEST/VERSIONS" ] &&
    "$DEST/bin/bitcoind" --version >/dev/null 2>&1 && "$DEST/bin/bitcoin-cli" --version >/dev/null 2>&1
}
done_line() { say "ready: $("$DEST/bin/bitcoind" --version 2>/dev/null | sed -n 1p) in $DEST/bin"; }

# one at a time per DEST (the lock goes with the process)
if command -v flock >/dev/null 2>&1; then
    exec 9>"$DEST/.lock"
    flock -w 900 9 || die "another run holds $DEST/.lock"
fi
if [ "${FORCE:-0}" != 1 ] && works; then done_line; exit 0; fi

# ---- private apt ---------------------------------------------------------
A=$DEST/apt
mkdir -p "$A/lists/partial" "$A/cache/archives/partial" "$A/none" "$A/debs" "$A/log" || die "cannot write below $DEST"
: > "$A/status"
: > "$A/extended_states"
: > "$A/sources.list"
for s in $SUITES; do
    printf 'deb [arch=%s signed-by=%s] %s %s main\n' "$ARCH" "$KEYRING" "$MIRROR" "$s" >> "$A/sources.list"
done
# read after the machine's own apt.conf (whose proxy settings are kept): our folders, no hooks
cat > "$A/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear APT::Default-Release;
Dir::Etc::SourceList "$A/sources.list";
Dir::Etc::SourceParts "$A/none";
Dir::Etc::Preferences "$A/none/preferences";
Dir::Etc::PreferencesParts "$A/none";
Dir::Etc::Trusted "$KEYRING";
Dir::Etc::TrustedParts "$A/none";
Dir::State "$A";
Dir::State::Lists "$A/lists";
Dir::State::status "$A/status";
Dir::State::extended_states "$A/extended_states";
Dir::Cache "$A/cache";
Dir::Cache::Archives "$A/cache/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "$A/log";
APT::Sandbox::User "$(id -un 2>/dev/null || echo root)";
APT::Architecture "$ARCH";
#clear APT::Architectures;
APT::Architectures { "$ARCH"; };
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
CONF
apt_() { c=$1; shift; "$c" -q -c "$A/apt.conf" "$@"; }

say "reading $SUITES from $MIRROR"
apt_ apt-get update >"$A/log/update.log" 2>&1 || {
    sed 's/^/  /' "$A/log/update.log" >&2
    die "apt-get update failed: mirror $MIRROR out of reach, suite missing, or signature not in $KEYRING"
}
apt_ apt-cache show --no-all-versions "$PKG" >"$A/log/show.log" 2>&1 ||
    die "package $PKG is not in $SUITES for $ARCH at $MIRROR"

# ---- dependencies: walk Depends/Pre-Depends, libraries only --------------
# (debconf, systemd, adduser ... serve the package's service, not the program)
have="$PKG" todo="$PKG"
while [ -n "$todo" ]; do
    # shellcheck disable=SC2086
    apt_ apt-cache show --no-all-versions $todo >"$A/log/show.log" 2>&1 || {
        sed 's/^/  /' "$A/log/show.log" >&2; die "no package data for: $todo"; }
    next=$(awk '
        /^(Depends|Pre-Depends): / {
            sub(/^[^:]*: /, "")
            n = split($0, d, /, */)
            for (i = 1; i <= n; i++) {
                m = split(d[i], alt, / *\| */)          # first alternative that is a library
                for (j = 1; j <= m; j++) {
                    p = alt[j]; sub(/[ (].*/, "", p); sub(/:.*/, "", p)
                    if (p ~ /^(lib|zlib)/) { print p; break }
                }
            }
        }' "$A/log/show.log" | sort -u)
    todo=
    for p in $next; do
        case " $have " in *" $p "*) ;; *) have="$have $p"; todo="$todo $p";; esac
    done
done
say "fetching $(printf '%s\n' $have | wc -l) packages"
# shellcheck disable=SC2086
( cd "$A/debs" && rm -f ./*.deb && apt_ apt-get download $have ) >"$A/log/download.log" 2>&1 || {
    sed 's/^/  /' "$A/log/download.log" >&2; die "download failed"; }
for p in $have; do
    set -- "$A/debs/${p}"_*.deb
    [ -f "$1" ] || die "package $p did not arrive"
done

# ---- unpack beside, check, swap in ---------------------------------------
N=$DEST/root.new
rm -rf "$N"; mkdir -p "$N"
: > "$DEST/VERSIONS.new"
for d in "$A"/debs/*.deb; do
    dpkg-deb -x "$d" "$N" || die "cannot unpack $d (disk full?)"
    printf '%s %s %s\n' "$(dpkg-deb -f "$d" Package)" "$(dpkg-deb -f "$d" Version)" \
        "$(sha256sum <"$d" | cut -d' ' -f1)" >> "$DEST/VERSIONS.new"
done

LD=$(cd "$N" && find usr/lib usr/lib64 lib lib64 -name 'ld-linux*.so.[0-9]*' -type f 2>/dev/null | sed -n 1p)
[ -n "$LD" ] || die "no dynamic loader in the unpacked libc6"
libs=$(cd "$N" && find usr/lib lib -maxdepth 2 -name '*.so.*' 2>/dev/null | sed 's,/[^/]*$,,' | sort -u)
[ -n "$libs" ] || die "no libraries were unpacked"
[ -f "$N/usr/bin/bitcoind" ] && [ -f "$N/usr/bin/bitcoin-cli" ] || die "$PKG holds no usr/bin/bitcoind and usr/bin/bitcoin-cli"

path=; for l in $libs; do path="$path${path:+:}$N/$l"; done
for b in bitcoind bitcoin-cli; do
    out=$("$N/$LD" --inhibit-cache --library-path "$path" --list "$N/usr/bin/$b" 2>&1) || { printf '%s\n' "$out" >&2; die "$b cannot be loaded"; }
    miss=$(printf '%s\n' "$out" | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p')
    [ -z "$miss" ] || die "$b lacks libraries:" $miss
    # nothing may come from the machine's own folders
    leak=$(printf '%s\n' "$out" | awk -v n="$N/" '$2 == "=>" && $3 ~ /^\// && index($3, n) != 1 && $1 !~ /ld-linux/ { print $3 }')
    [ -z "$leak" ] || die "$b would load from the machine:" $leak
done

rm -rf "$DEST/root.old"
[ ! -d "$DEST/root" ] || mv "$DEST/root" "$DEST/root.old"
mv "$N" "$DEST/root"
rm -rf "$DEST/root.old"
mv "$DEST/VERSIONS.new" "$DEST/VERSIONS"

mkdir -p "$DEST/bin"
for b in bitcoind bitcoin-cli; do
    {
        printf '%s\n' '#!/bin/sh' "# made by get-bitcoind.sh; finds its own place, so the folder may be moved"
        # resolve links to this file, then take the folder above bin/
        printf '%s\n' 'f=$0' 'while [ -h "$f" ]; do t=$(readlink "$f"); case $t in /*) f=$t;; *) f=$(dirname "$f")/$t;; esac; done' \
            'r=$(cd "$(dirname "$f")/.." && pwd -P)/root || exit 127' 'p='
        printf 'for l in'; printf ' %s' $libs; printf '; do p="$p${p:+:}$r/$l"; done\n'
        printf 'exec "$r/%s" --argv0 "$0" --inhibit-cache --library-path "$p" "$r/usr/bin/%s" "$@"\n' "$LD" "$b"
    } > "$DEST/bin/.$b.new"
    chmod 755 "$DEST/bin/.$b.new"
    mv "$DEST/bin/.$b.new" "$DEST/bin/$b"
done

"$DEST/bin/bitcoind" --version >/dev/null || die "bitcoind does not start on this machine"
"$DEST/bin/bitcoin-cli" --version >/dev/null || die "bitcoin-cli does not start on this machine"
rm -rf "$A/lists" "$A/cache" "$A/debs"
done_line
