# Shared by the scripts of this folder. They are run by make, which sets KUBECONFIG.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/bin:$PATH"
namespace=telephony
system=pbx-operator-system

# shellcheck disable=SC1091
if [ -f "$root/bin/images.env" ]; then source "$root/bin/images.env"; fi

bold() { if [ -t 1 ]; then printf '\e[1m%s\e[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
step() { printf '\n'; bold "== $*"; }
# show prints a command as a user would type it, then runs it.
show() { printf '$ %s\n' "$*"; "$@"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }
