# Shared by the scripts of this folder. They are run by make, which sets KUBECONFIG.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/bin:$PATH"
namespace=${PBX_DEMO_NAMESPACE:-telephony}
system=pbx-operator-system
# Namespaces with this label were made by the demo. It changes and removes nothing else.
made_by_demo=app.kubernetes.io/part-of=pbx-operator-demo

# shellcheck disable=SC1091
if [ -f "$root/bin/images.env" ]; then source "$root/bin/images.env"; fi

bold() { if [ -t 1 ]; then printf '\e[1m%s\e[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
step() { printf '\n'; bold "== $*"; }
# show prints a command as a user would type it, then runs it.
show() { printf '$ %s\n' "$*"; "$@"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }

# owner prints whose a namespace is: nobody's (it does not exist), the demo's, or somebody else's.
owner() { # namespace
  local labels
  labels=$(kubectl get namespace "$1" --ignore-not-found --show-labels --no-headers)
  case "$labels" in
    '') echo nobody ;;
    *"$made_by_demo"*) echo demo ;;
    *) echo other ;;
  esac
}

# operator_owner prints whose the operator is. A cluster has its custom resource definitions once, and the release that brought them
# is theirs.
operator_owner() {
  local definition release
  definition=$(kubectl get crd pbxintegrations.pbx-operator.io --ignore-not-found -o name)
  if [ -n "$definition" ]; then
    release=$(kubectl get "$definition" -o 'jsonpath={.metadata.annotations.meta\.helm\.sh/release-namespace}')
    [ "$release" = "$system" ] || { echo other; return; }
  fi
  owner "$system"
}

make_namespace() { # namespace
  kubectl create namespace "$1" --dry-run=client -o yaml | kubectl apply --server-side -f - >/dev/null
  kubectl label --overwrite namespace "$1" "$made_by_demo" pod-security.kubernetes.io/enforce=restricted >/dev/null
}
