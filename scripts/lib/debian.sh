# What guest-image and rootfs share: the Debian suite machines are made of, fetched from wherever this
# system's own apt configuration fetches Debian. Sourced, not run. Knows no mirror: the URIs, proxies
# and keys are the system's; only the suite (and the architecture) differ.

GUEST_SUITE=trixie
STELE_CACHE=${STELE_CACHE:-$STELE_BUILD/cache}

# say TEXT…: one line of progress
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# debian_sources ARCH: apt source lines for GUEST_SUITE, derived from the system's configured Debian
# archive (and its security archive, where one is configured).
debian_sources() {
  local codename keys uri release component main='' security=''
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  while IFS='|' read -r uri release component; do
    [[ $component == main ]] || continue
    case $release in
      "$codename" | "$GUEST_SUITE" | stable) main=${main:-$uri} ;;
      "$codename-security" | "$GUEST_SUITE-security" | stable-security) security=${security:-$uri} ;;
    esac
  done < <(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages')
  [[ $main ]] || die "apt has no Debian source for '$codename' configured: add one, so that $GUEST_SUITE can be fetched from it"
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  [[ -e $keys ]] || die "$keys is missing: install debian-archive-keyring"
  echo "deb [arch=$1 signed-by=$keys] $main $GUEST_SUITE main"
  [[ ! $security ]] || echo "deb [arch=$1 signed-by=$keys] $security $GUEST_SUITE-security main"
}

# debian_apt_root DIR ARCH: makes DIR an apt root of its own (lists, cache, no installed packages), so
# that fetching another architecture's packages leaves the host's dpkg alone.
debian_apt_root() {
  local dir=$1 arch=$2
  mkdir -p "$dir"/{lists/partial,archives/partial,parts}
  : >"$dir/status"
  debian_sources "$arch" >"$dir/sources.list"
  cat >"$dir/apt.conf" <<CONF
Dir::State "$dir"; Dir::State::lists "$dir/lists"; Dir::State::status "$dir/status";
Dir::Cache "$dir"; Dir::Cache::archives "$dir/archives";
Dir::Etc::sourcelist "$dir/sources.list"; Dir::Etc::sourceparts "$dir/parts";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "$dir/parts";
APT::Architecture "$arch"; APT::Architectures "$arch"; APT::Sandbox::User "root";
Acquire::Languages "none"; APT::Update::Post-Invoke-Success ""; APT::Update::Post-Invoke "";
CONF
  sed -i "s/^#clear.*//; 1i #clear APT::Architectures; #clear APT::Update::Post-Invoke-Success; #clear APT::Update::Post-Invoke;" "$dir/apt.conf"
}
