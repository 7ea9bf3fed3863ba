export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=/run
runtime=/run/media/orlop-oci
image=localhost/busybox:latest
fail() { echo "FAILED: $*"; exit 1; }
is() { [ "$1" = "$2" ] || fail "got '$1' where '$2' was expected"; }
has() { case "$1" in *"$2"*) ;; *) fail "no '$2' in: $1" ;; esac; }
# A number, such as 26.5%, is at least this one.
at_least() { [ "$(echo "$2" | tr -d % | cut -d. -f1)" -ge "$1" ] || fail "got '$2' where at least $1 was expected"; }
# Has a quarter of 16 MiB of memory, which is no file's, and says so; then all of the CPU that it gets: to be given little, the guest
# has others.
busy='x=$(head -c 4m /dev/zero | tr "\0" x); echo there; while :; do :; done'
# The command fails, and says so with this text.
fails() {
    wanted=$1
    shift
    if said=$("$@" 2>&1); then fail "'$*' succeeded: $said"; fi
    has "$said" "$wanted"
}
# Tries the command until it succeeds, for a minute or two.
eventually() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || fail "never succeeded: $*"
        sleep 0.5
    done
}
# A command line says this on a terminal of 33 rows and 77 columns; the end of input is echoed, and there are no errors but these.
# It has a few tries: the engine sets the size while the program runs already, and what a session's leader writes right before its end
# may be lost (its hangup flushes what the terminal has not yet passed on).
terminal_says() {
    for _ in 1 2 3 4 5; do
        said=$(script -qec "stty rows 33 cols 77; $2" /dev/null </dev/null | tr -d '\r' | sed 's/\^@//g' | grep -v 'resize pty' | xargs)
        [ "$said" != "$1" ] || return 0
    done
    fail "got '$said' where '$1' was expected"
}
