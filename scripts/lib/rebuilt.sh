# Debian packages built again for x86-64-v3, for the root that has them. Sourced after debian.sh, not run. Everything happens in a
# root that is made for it and goes afterwards; what stays are packages. Needs an x86-64-v3 processor, as compilers and what they
# make run in that root.

# What a boot to a login executes most, and a library for its directory of glibc-hwcaps.
REBUILT_SOURCES="zlib bash coreutils"
# -mneeded has the assembler note what code asks for, so that the C library refuses to start it on less.
REBUILT_FLAGS="-O3 -march=x86-64-v3 -Wa,-mx86-used-note=yes -mneeded"

# rebuilt_packages DIR: makes DIR with the packages' .deb files
rebuilt_packages() {
  local work
  work=$(mktemp -d "$STELE_CACHE/rebuilt.XXXXXX")
  say "building $REBUILT_SOURCES for x86-64-v3; this takes some minutes the first time"
  debian_sources amd64 >"$work/sources.list"
  sed -n 's/^deb /deb-src /p' "$work/sources.list" >>"$work/sources.list"
  REBUILT_BUILD="set -e; cd /built
    export DEBIAN_FRONTEND=noninteractive DEB_BUILD_OPTIONS='nocheck parallel=2 noautodbgsym' DEB_BUILD_PROFILES='nodoc nocheck'
    export DEB_CFLAGS_APPEND='$REBUILT_FLAGS'
    apt-get update -qq
    for source in $REBUILT_SOURCES; do
      apt-get build-dep -qqy --arch-only \$source
      apt-get source -qq --build --arch-only \$source
    done"
  REBUILT_BUILD=$REBUILT_BUILD mmdebstrap --quiet --mode=root --variant=apt --architectures=amd64 --include=build-essential,fakeroot --format=null \
    --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' --dpkgopt=force-unsafe-io --customize-hook='mkdir "$1/built"' \
    --customize-hook="chroot \"\$1\" sh -c \"\$REBUILT_BUILD\"" --customize-hook="cp \"\$1\"/built/*.deb '$work'" \
    "$GUEST_SUITE" - "$work/sources.list" >&2
  rm "$work/sources.list"
  mv -T "$work" "$1"
}

# rebuilt_install ROOT: puts the packages into a root that has Debian's own, programs in their place, libraries beside them for
# processors that can execute them
rebuilt_install() {
  local packages=$STELE_CACHE/rebuilt-v3 deb name library
  [[ $(cat "$packages/key" 2>/dev/null) == "$GUEST_SUITE $REBUILT_SOURCES $REBUILT_FLAGS" ]] || {
    rm -rf "$packages"
    rebuilt_packages "$packages"
    echo "$GUEST_SUITE $REBUILT_SOURCES $REBUILT_FLAGS" >"$packages/key"
  }
  for deb in "$packages"/*.deb; do
    name=$(dpkg-deb --field "$deb" Package)
    [[ -e $1/var/lib/dpkg/info/$name.list || -e $1/var/lib/dpkg/info/$name:amd64.list ]] || continue
    case $name in
      lib* | zlib*)
        mkdir -p "$1/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3" "$packages/$name"
        dpkg-deb --extract "$deb" "$packages/$name"
        for library in "$packages/$name"/usr/lib/x86_64-linux-gnu/*.so.*; do
          cp -a "$library" "$1/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/"
        done
        rm -r "${packages:?}/$name"
        ;;
      *) dpkg --root="$1" --force-depends --install "$deb" >&2 ;;
    esac
  done
  chroot "$1" ldconfig
}
