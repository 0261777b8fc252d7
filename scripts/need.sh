# Sourced by the scripts that drive programs of others.

# need PACKAGES PROGRAM...: ends the script if a program is missing, and says what to install.
need() {
    local packages=$1 program
    shift
    for program in "$@"; do
        command -v "$program" >/dev/null || {
            echo "${0##*/} needs $program: apt-get install $packages" >&2
            exit 1
        }
    done
}
